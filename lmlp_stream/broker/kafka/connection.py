"""What the log, its sources and its sinks share: settings, the administrative client and plain words for errors."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import (
    AuthorizationError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    RetriableError,
    UnknownBrokerIdError,
    UnknownTopicOrPartitionError,
)
from kafka.protocol.consumer import IsolationLevel, OffsetSpec

from lmlp_stream.broker.kafka.knock import await_broker
from lmlp_stream.broker.kafka.settings import USERNAME, Settings
from lmlp_stream.broker.log import Bounds, Partition, missing_partition
from lmlp_stream.errors import BrokerError

CONNECT_S = 10.0
REQUEST_S = 15.0
RETRY_S = 0.2
OUTAGE_S = 120.0
"""How long a broker that once answered may be away before what needs it fails, s."""
AWAY = (RetriableError, UnknownBrokerIdError)
"""What kafka-python raises while a broker is away; the second where a partition has no leader for the moment."""
_REMEDY = "is a broker running there? deploy/kafka/start starts one"


Answer = TypeVar("Answer")
Client = TypeVar("Client")


class Connection:
    """A way to a cluster.

    Attributes:
        settings: What every client of kafka-python is made with.
        admin: Asks and creates; may be used by several threads.

    Raises:
        BrokerError: No broker answers, or it does not let this client in.
    """

    def __init__(self, servers: tuple[str, ...], *, client: str, security: Settings) -> None:
        self._servers = ",".join(servers)
        self.settings: Settings = {
            "bootstrap_servers": list(servers),
            "client_id": client,
            "bootstrap_timeout_ms": int(CONNECT_S * 1000),
            "request_timeout_ms": int(REQUEST_S * 1000),
            "reconnect_backoff_max_ms": 1000,
            **security,
        }
        self._await_broker = partial(await_broker, servers, security)
        self._await_broker(CONNECT_S)
        with self.plainly("connect"):
            self.admin = self.new_client(KafkaAdminClient)

    def new_client(self, kind: Callable[..., Client], **more: object) -> Client:
        """A client of kafka-python, which gives up soon where none answers: made once the broker is there."""

        def made() -> Client:
            self._await_broker(OUTAGE_S)
            return kind(**self.settings, **more)

        return self.patiently(made)

    def partitions(self, topic: str) -> tuple[Partition, ...]:
        """The partitions of a topic in order."""
        with self.plainly(f"describe {topic}"):
            described = self.patiently(lambda: self.admin.describe_topics([topic]))
        return tuple(
            sorted(Partition(topic, entry["partition_index"]) for item in described for entry in item["partitions"])
        )

    def bounds(self, partition: Partition) -> Bounds:
        """Readable range of a partition; what kafka-python raises comes through."""
        where = address(partition)
        level = IsolationLevel.READ_COMMITTED
        try:
            begin = self.admin.list_partition_offsets({where: OffsetSpec.EARLIEST}, level)
            end = self.admin.list_partition_offsets({where: OffsetSpec.LATEST}, level)
        except UnknownTopicOrPartitionError as error:
            raise missing_partition(partition) from error
        return Bounds(begin[where].offset, end[where].offset)

    def patiently(self, ask: Callable[[], Answer]) -> Answer:
        """What the broker answers, asked again for up to `OUTAGE_S` while it is away or starts."""
        deadline = time.monotonic() + OUTAGE_S
        while True:
            try:
                return ask()
            except AWAY:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_S)

    @contextmanager
    def plainly(self, deed: str) -> Iterator[None]:
        """Turn what kafka-python raises into one sentence: Kafka did not do that deed."""
        try:
            yield
        except KafkaError as error:
            raise BrokerError(f"Kafka at {self._servers} did not {deed}: {error}: {self._remedy(error)}") from error

    def _remedy(self, error: KafkaError) -> str:
        if isinstance(error, AuthorizationError):
            user = self.settings.get("sasl_plain_username", "without a login")
            return f"the user {user} ({USERNAME}) was not granted that; deploy/kafka/grant.py grants it"
        if isinstance(error, KafkaConnectionError | KafkaTimeoutError):
            return _REMEDY
        return "the broker's own log says more"


def address(partition: Partition) -> TopicPartition:
    """kafka-python's name of a partition."""
    return TopicPartition(partition.topic, partition.index)
