"""What answers at a port that is no Kafka; a real one answers in tests/integration/test_kafka_security.py."""

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from lmlp_stream.broker.kafka import knock
from lmlp_stream.broker.kafka.knock import await_broker
from lmlp_stream.errors import BrokerError

LOGIN = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": "farm", "sasl_plain_password": "Ruritania"}


def framed(body: bytes) -> bytes:
    return (len(body) + 4).to_bytes(4) + bytes(4) + body


@pytest.fixture
def serving() -> Iterator[Callable[..., str]]:
    """Starts a server that gives one fixed answer to each request of a connection, then closes it."""
    listeners: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(*answers: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threads.append(threading.Thread(target=_answer, args=(listener, answers)))
        threads[-1].start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join()


def _answer(listener: socket.socket, answers: tuple[bytes, ...]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            for answer in answers:
                connection.recv(4096)
                connection.sendall(answer)


def test_a_broker_that_says_nothing_does_not_hide_the_next(
    serving: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knock, "KNOCK_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        servers = f"127.0.0.1:{silent.getsockname()[1]}", serving(framed(b"\x00\x22" + bytes(4)))
        await_broker(servers, {}, 5.0)


@pytest.mark.parametrize("answer", [b"", b"\x00", b"HTTP/1.1 400", b"\x7f\xff\xff\xff", framed(b""), bytes(4)])
def test_what_does_not_speak_kafka_does_not_answer(serving: Callable[..., str], answer: bytes) -> None:
    with pytest.raises(BrokerError, match=r"does not answer: .*deploy/kafka/start starts one"):
        await_broker((serving(answer),), {}, 0.3)


def test_a_broker_that_needs_no_login_lets_in(serving: Callable[..., str]) -> None:
    await_broker((serving(framed(b"\x00\x22" + bytes(4))),), {}, 5.0)


def test_one_broker_that_answers_is_enough(serving: Callable[..., str]) -> None:
    await_broker((serving(b""), serving(framed(b"\x00\x22" + bytes(4)))), {}, 5.0)


@pytest.mark.parametrize(
    "challenge", [b"", b"r", b"\xff", b"r=other,s=QQ==,i=4096", b"r=other,s=QQ==,i=99999999999", b"s=QQ==,i=1"]
)
def test_a_server_that_does_not_know_the_password_is_not_trusted(serving: Callable[..., str], challenge: bytes) -> None:
    handshake = framed(bytes(6))
    step = framed(bytes(2) + b"\xff\xff" + len(challenge).to_bytes(4) + challenge)
    with pytest.raises(BrokerError, match="did not prove that it knows the password of farm"):
        await_broker((serving(handshake, step),), dict(LOGIN), 5.0)


def test_an_answer_that_is_cut_short_is_not_trusted(serving: Callable[..., str]) -> None:
    with pytest.raises(BrokerError, match="did not prove"):
        await_broker((serving(framed(bytes(6)), framed(bytes(2))),), dict(LOGIN), 5.0)


def test_a_login_that_fails_for_another_reason_is_told(serving: Callable[..., str]) -> None:
    with pytest.raises(BrokerError, match="does not log farm in, error 34"):
        await_broker((serving(framed(bytes(6)), framed(b"\x00\x22\xff\xff" + bytes(4))),), dict(LOGIN), 5.0)
