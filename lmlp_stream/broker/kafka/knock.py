"""Asks a broker whether it lets this client in, before kafka-python does.

kafka-python 3.0 tries again for ten seconds whatever the reason is, says then that nobody answered, and leaves its
thread behind. Here a wrong certificate or password is one sentence at once. The messages are Kafka's own (protocol
guide, SaslHandshake version 1 and SaslAuthenticate version 0; RFC 5802 and RFC 7677 for what they carry).
"""

import re
import socket
import ssl
import struct
import time

from kafka.net.sasl.scram import ScramClient

from lmlp_stream.broker.kafka.settings import CA, MECHANISM, PASSWORD, USERNAME, Settings
from lmlp_stream.errors import BrokerError

RETRY_S = 0.2
KNOCK_S = 10.0
"""How long one broker is waited for before the next is asked, s."""
_REMEDY = "is a broker running there? deploy/kafka/start starts one"
_HAS_PORT = re.compile(r":\d+$")
_HANDSHAKE = (17, 1)
_AUTHENTICATE = (36, 0)
_NO_ERROR = 0
_NOT_OFFERED = 33
_NO_LOGIN_NEEDED = 34
_REFUSED = 58
_TLS_ALERT = b"\x15\x03"
_MAX_ANSWER_BYTES = 2**20


def await_broker(servers: tuple[str, ...], security: Settings, timeout_s: float) -> None:
    """Return when one of the brokers lets a client with these settings in.

    Raises:
        BrokerError: None answers in time, or one refuses the client for good.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        for server in servers:
            try:
                _knock(server, security, min(timeout_s, KNOCK_S))
            except ssl.SSLCertVerificationError as error:
                raise BrokerError(
                    f"the certificate of Kafka at {server} is not believed: {error.verify_message}; {CA} must name the "
                    f"authority that signed it, and the certificate must name this host"
                ) from error
            except OSError as error:
                silent = error
            else:
                return
        if time.monotonic() > deadline:
            tls = f" (with TLS, because {CA} is set)" if "ssl_cafile" in security else ""
            raise BrokerError(f"Kafka at {','.join(servers)} does not answer{tls}: {silent}: {_REMEDY}") from silent
        time.sleep(RETRY_S)


def _knock(server: str, security: Settings, timeout_s: float) -> None:
    host, _, port = server.rpartition(":") if _HAS_PORT.search(server) else (server, "", "9092")
    host = host.strip("[]")
    with socket.create_connection((host, int(port)), timeout=timeout_s) as plain:
        if "ssl_cafile" not in security:
            _log_in(plain, server, security)
            return
        context = ssl.create_default_context(cafile=str(security["ssl_cafile"]))
        with context.wrap_socket(plain, server_hostname=host) as wrapped:
            _log_in(wrapped, server, security)


def _log_in(connection: socket.socket, server: str, security: Settings) -> None:
    mechanism = str(security.get("sasl_mechanism", ""))
    answer = _ask(connection, server, _HANDSHAKE, _text(mechanism or "none"))
    (error,) = struct.unpack_from(">h", answer)
    if error == _NO_LOGIN_NEEDED:
        if mechanism:
            raise BrokerError(f"Kafka at {server} takes no login at this port; unset {USERNAME} and {PASSWORD}")
        return
    if not mechanism:
        raise BrokerError(f"Kafka at {server} wants a login; set {USERNAME} and {PASSWORD} in the environment")
    if error == _NOT_OFFERED:
        raise BrokerError(f"Kafka at {server} does not offer {mechanism}; set {MECHANISM} to what it offers")
    user = str(security["sasl_plain_username"])
    scram = ScramClient(user, str(security["sasl_plain_password"]), mechanism)
    try:
        scram.process_server_first_message(_authenticate(connection, server, user, scram.first_message()))
        scram.process_server_final_message(_authenticate(connection, server, user, scram.final_message()))
    except (ValueError, KeyError, struct.error) as broken:
        raise BrokerError(
            f"Kafka at {server} did not prove that it knows the password of {user}; is it the right server?"
        ) from broken


def _authenticate(connection: socket.socket, server: str, user: str, token: bytes) -> bytes:
    """What the broker says to a step of the login."""
    answer = _ask(connection, server, _AUTHENTICATE, struct.pack(">i", len(token)) + token)
    error, length = struct.unpack_from(">hh", answer)
    if error == _REFUSED:
        raise BrokerError(f"Kafka at {server} refuses the login of {user}; check {USERNAME} and {PASSWORD}")
    if error != _NO_ERROR:
        raise BrokerError(f"Kafka at {server} does not log {user} in, error {error}; the broker's own log says more")
    return answer[4 + max(0, length) + 4 :]


def _ask(connection: socket.socket, server: str, request: tuple[int, int], body: bytes) -> bytes:
    """The body of the answer to a request of this kind and version.

    Raises:
        OSError: The connection ends, or what comes is no answer.
        BrokerError: The broker expects TLS.
    """
    message = struct.pack(">hhi", *request, 0) + _text("knock") + body
    connection.sendall(struct.pack(">i", len(message)) + message)
    head = _receive(connection, 4)
    if head.startswith(_TLS_ALERT):
        raise BrokerError(f"Kafka at {server} expects TLS; set {CA} to the file of its certificate authority")
    (length,) = struct.unpack(">i", head)
    if not 6 <= length <= _MAX_ANSWER_BYTES:
        raise ConnectionError(f"what answers there does not speak Kafka (it began with {head!r})")
    return _receive(connection, length)[4:]


def _receive(connection: socket.socket, n_bytes: int) -> bytes:
    received = b""
    while len(received) < n_bytes:
        part = connection.recv(n_bytes - len(received))
        if not part:
            raise ConnectionError("the connection was closed")
        received += part
    return received


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value.encode())) + value.encode()
