"""The log's own side: topics, bounds and committed offsets of a cluster."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial

from kafka import TopicPartition
from kafka.errors import TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata

from lmlp_stream.broker.kafka.connection import Connection, address
from lmlp_stream.broker.kafka.settings import Settings, creation
from lmlp_stream.broker.kafka.sink import KafkaSink
from lmlp_stream.broker.kafka.source import KafkaSource
from lmlp_stream.broker.log import Bounds, Partition, TopicSpec


class KafkaLog:
    """A log on a Kafka cluster.

    Args:
        servers: Brokers to ask for the others, HOST:PORT.
        client: Name under which the brokers know this program.
        security: kafka-python's settings for TLS and SASL.

    Raises:
        BrokerError: No broker answers.
    """

    def __init__(self, servers: tuple[str, ...], *, client: str, security: Settings) -> None:
        self._connection = Connection(servers, client=client, security=security)

    def ensure(self, topics: Iterable[TopicSpec]) -> None:
        """Create the topics that do not exist yet, kept for ever or compacted."""
        with self._connection.plainly("create topics"):
            existing = set(self._connection.patiently(self._connection.admin.list_topics))
            for spec in topics:
                if spec.name not in existing:
                    self._connection.patiently(partial(self._create, spec))

    def partitions(self, topic: str) -> tuple[Partition, ...]:
        """The partitions of a topic in order."""
        return self._connection.partitions(topic)

    def bounds(self, partition: Partition) -> Bounds:
        """Readable range of a partition at this moment; transactions that are not committed lie beyond it."""
        with self._connection.plainly(f"tell the bounds of {partition.topic}[{partition.index}]"):
            return self._connection.patiently(lambda: self._connection.bounds(partition))

    def source(self, start: Mapping[Partition, int]) -> KafkaSource:
        """A reader of these partitions from these next offsets."""
        return KafkaSource(self._connection, start)

    def sink(self) -> KafkaSink:
        """A writer."""
        return KafkaSink(self._connection)

    def commit(self, group: str, positions: Mapping[Partition, int]) -> None:
        """Write positions as the offsets of a consumer group without members."""
        offsets = {address(partition): OffsetAndMetadata(at, "", -1) for partition, at in positions.items()}
        with self._connection.plainly(f"commit the offsets of group {group}"):
            self._connection.patiently(lambda: self._commit(group, offsets))

    def close(self) -> None:
        """Close the log's own connection."""
        self._connection.admin.close()

    def _create(self, spec: TopicSpec) -> None:
        with suppress(TopicAlreadyExistsError):
            self._connection.admin.create_topics({spec.name: creation(spec)})
        self._connection.admin.wait_for_topics([spec.name])

    def _commit(self, group: str, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        for error in self._connection.admin.alter_group_offsets(group, offsets).values():
            if error.errno:
                raise error
