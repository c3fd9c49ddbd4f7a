"""Fixtures that more than one folder of tests needs."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

START_KAFKA = Path(__file__).parent.parent / "deploy" / "kafka" / "start"
KAFKA_START_S = 240.0


def pytest_configure() -> None:
    """Let started processes hear SIGINT, which a shell that runs the tests in the background has them ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class KafkaBroker:
    """A real Apache Kafka process on loopback, started by `deploy/kafka/start`."""

    def __init__(self, data: Path, *arguments: str, **environment: str) -> None:
        self.data = data
        self.port = free_ports()
        self._arguments = arguments
        self._environment = environment
        self.url = f"kafka://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        command = [str(START_KAFKA), "--data", str(self.data), "--port", str(self.port), *self._arguments]
        environment = {"KAFKA_HEAP_OPTS": "-Xms64m -Xmx256m", **os.environ, **self._environment}
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env=environment
            )
        deadline = time.monotonic() + KAFKA_START_S
        while "Kafka is running" not in self._said.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"Kafka did not start:\n{self._said.read_text()}")
            time.sleep(0.1)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    @property
    def _said(self) -> Path:
        return self.data / "said.txt"

    def stall(self, seconds: float) -> None:
        """Let the broker sleep: it keeps its connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


def free_ports() -> int:
    """A port that is free now, and so are the next two."""
    while True:
        with socket.socket() as first, socket.socket() as second, socket.socket() as third:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
                third.bind(("127.0.0.1", port + 2))
            except (OSError, OverflowError):
                continue
            return port


@pytest.fixture(scope="session")
def new_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., KafkaBroker]]:
    """Makes brokers that are not started yet; where Java or Maven is missing the test skips, or fails if CI=true."""
    missing = [program for program in ("java", "mvn") if shutil.which(program) is None]
    if missing:
        verdict = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        verdict(f"a real Kafka needs {' and '.join(missing)}: apt install openjdk-17-jre-headless maven")
    brokers: list[KafkaBroker] = []

    def new(*arguments: str, **environment: str) -> KafkaBroker:
        brokers.append(KafkaBroker(tmp_path_factory.mktemp("kafka"), *arguments, **environment))
        return brokers[-1]

    yield new
    for broker in brokers:
        broker.stop()


@pytest.fixture(scope="session")
def kafka_url(new_kafka: Callable[[], KafkaBroker]) -> str:
    """URL of a real Kafka broker that serves the whole session; use topics and prefixes of your own."""
    broker = new_kafka()
    broker.start()
    return broker.url
