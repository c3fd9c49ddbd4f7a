"""The log on Apache Kafka, through kafka-python: the only module that imports it.

Clients are made after a fork, never carried across one. Readers assign and seek; they join no consumer group.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    LogTruncationError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)
from kafka.protocol.consumer import IsolationLevel, OffsetSpec
from kafka.structs import OffsetAndMetadata

from lmlp_stream.broker.kafka_settings import REQUEST_BYTES, Settings, creation
from lmlp_stream.broker.log import (
    Bounds,
    Headers,
    Message,
    Partition,
    TopicSpec,
    check_position,
    check_size,
    missing_partition,
    missing_topic,
    partition_of,
)
from lmlp_stream.errors import BrokerError

_CONNECT_S = 15.0
_REQUEST_S = 15.0
_DELIVERY_S = 120.0
_STALL_S = 30.0
_ASK_MS = 2000
_RETRY_S = 0.2
_MAX_IN_FLIGHT_BYTES = 32 * 2**20


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
        self.settings: Settings = {
            "bootstrap_servers": list(servers),
            "client_id": client,
            "bootstrap_timeout_ms": int(_CONNECT_S * 1000),
            "request_timeout_ms": int(_REQUEST_S * 1000),
            "reconnect_backoff_max_ms": 1000,
            **security,
        }
        self.plainly = partial(_plainly, ",".join(servers))
        with self.plainly("connect"):
            self._admin = KafkaAdminClient(**self.settings)

    def ensure(self, topics: Iterable[TopicSpec]) -> None:
        """Create the topics that do not exist yet, kept for ever or compacted."""
        with self.plainly("create topics"):
            existing = set(self._admin.list_topics())
            for spec in topics:
                if spec.name not in existing:
                    try:
                        self._admin.create_topics({spec.name: creation(spec)})
                    except TopicAlreadyExistsError:
                        existing.add(spec.name)
                    self._admin.wait_for_topics([spec.name])

    def partitions(self, topic: str) -> tuple[Partition, ...]:
        """The partitions of a topic in order."""
        with self.plainly(f"describe {topic}"):
            described = self._admin.describe_topics([topic])
        return tuple(
            sorted(Partition(topic, entry["partition_index"]) for item in described for entry in item["partitions"])
        )

    def bounds(self, partition: Partition) -> Bounds:
        """Readable range of a partition at this moment; uncommitted transactions lie beyond it."""
        with self.plainly(f"tell the bounds of {partition.topic}[{partition.index}]"):
            return self.read_bounds(partition)

    def source(self, start: Mapping[Partition, int]) -> "KafkaSource":
        """A reader of these partitions from these next offsets."""
        return KafkaSource(self, start)

    def sink(self) -> "KafkaSink":
        """A writer."""
        return KafkaSink(self)

    def commit(self, group: str, positions: Mapping[Partition, int]) -> None:
        """Write positions as the offsets of a consumer group without members."""
        offsets = {_address(partition): OffsetAndMetadata(at, "", -1) for partition, at in positions.items()}
        deadline = time.monotonic() + _REQUEST_S
        with self.plainly(f"commit the offsets of group {group}"):
            while not self._try_commit(group, offsets, last_time=time.monotonic() > deadline):
                time.sleep(_RETRY_S)

    def close(self) -> None:
        """Close the log's own connection."""
        self._admin.close()

    def read_bounds(self, partition: Partition) -> Bounds:
        """As `bounds`, but what kafka-python raises comes through."""
        address = _address(partition)
        level = IsolationLevel.READ_COMMITTED
        try:
            begin = self._admin.list_partition_offsets({address: OffsetSpec.EARLIEST}, level)
            end = self._admin.list_partition_offsets({address: OffsetSpec.LATEST}, level)
        except UnknownTopicOrPartitionError as error:
            raise missing_partition(partition) from error
        return Bounds(begin[address].offset, end[address].offset)

    def _try_commit(self, group: str, offsets: dict[TopicPartition, OffsetAndMetadata], last_time: bool) -> bool:
        """Whether the offsets are committed; a cluster makes a group's coordinator when it is first asked for it."""
        try:
            errors = [error for error in self._admin.alter_group_offsets(group, offsets).values() if error.errno]
            if errors:
                raise errors[0]
        except (CoordinatorNotAvailableError, CoordinatorLoadInProgressError):
            if last_time:
                raise
            return False
        return True


class KafkaSource:
    """Reads partitions of a cluster.

    The order of reading asks more than Kafka gives: of each partition that is not at its end, the next message must
    be here before the first of them is taken. Partitions that are ahead pause meanwhile.
    """

    def __init__(self, log: KafkaLog, start: Mapping[Partition, int]) -> None:
        self._log = log
        self._positions = dict(start)
        self._fetched: dict[Partition, deque[Message]] = {partition: deque() for partition in start}
        self._ends: dict[Partition, int] = {}
        self._consumer: KafkaConsumer | None = None
        self._quiet_since = time.monotonic()

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        """The next messages in order of reading."""
        deadline = time.monotonic() + timeout_s
        with self._log.plainly("read"):
            if self._consumer is None:
                self._is_behind()
                self._assign()
            while True:
                messages = self._take(max_messages)
                remaining_s = deadline - time.monotonic()
                if messages or remaining_s <= 0:
                    return messages
                self._fetch(remaining_s)

    def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            self._consumer.close(autocommit=False)
            self._consumer = None

    def _assign(self) -> None:
        self.close()
        self._consumer = KafkaConsumer(
            **self._log.settings,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=100,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        self._consumer.assign([_address(partition) for partition in self._positions])
        for partition, position in self._positions.items():
            self._consumer.seek(_address(partition), position)
            self._fetched[partition].clear()

    def _take(self, max_messages: int) -> list[Message]:
        messages: list[Message] = []
        at_end = self._at_end() if any(self._fetched.values()) else set()
        while len(messages) < max_messages and any(self._fetched.values()):
            if not all(queue or partition in at_end for partition, queue in self._fetched.items()):
                break
            partition = min((queue[0].offset, partition) for partition, queue in self._fetched.items() if queue)[1]
            messages.append(self._fetched[partition].popleft())
            self._positions[partition] = messages[-1].offset + 1
        return messages

    def _at_end(self) -> set[Partition]:
        """Partitions of which nothing is fetched because nothing is there; none, if that cannot be known now."""
        empty = [partition for partition, queue in self._fetched.items() if not queue]
        if not empty or any(self._next_fetched(partition) < self._ends.get(partition, 0) for partition in empty):
            return set()
        try:
            ends = self._client().end_offsets([_address(partition) for partition in empty], _ASK_MS)
        except KafkaTimeoutError:
            return set()
        self._ends = {partition: ends[_address(partition)] for partition in empty}
        return {partition for partition in empty if self._next_fetched(partition) >= self._ends[partition]}

    def _fetch(self, timeout_s: float) -> None:
        client = self._client()
        client.pause(*[_address(partition) for partition, queue in self._fetched.items() if queue])
        client.resume(*[_address(partition) for partition, queue in self._fetched.items() if not queue])
        try:
            batches = client.poll(timeout_ms=min(timeout_s, _STALL_S) * 1000)
        except (OffsetOutOfRangeError, LogTruncationError):
            self._is_behind()
            raise
        for address, records in batches.items():
            partition = Partition(address.topic, address.partition)
            self._fetched[partition].extend(_message(partition, record) for record in records)
        if batches:
            self._quiet_since = time.monotonic()
        elif time.monotonic() - self._quiet_since > _STALL_S:
            self._quiet_since = time.monotonic()
            self._unstick()

    def _unstick(self) -> None:
        """Make the client anew if messages are there that it does not bring."""
        try:
            behind = self._is_behind()
        except KafkaError:
            return
        if behind:
            self._assign()

    def _is_behind(self) -> bool:
        """Whether there is something to fetch.

        Raises:
            BrokerError: A position lies outside its partition.
        """
        behind = False
        for partition, position in self._positions.items():
            bounds = self._log.read_bounds(partition)
            check_position(partition, position, bounds)
            behind |= not self._fetched[partition] and self._next_fetched(partition) < bounds.end
        return behind

    def _next_fetched(self, partition: Partition) -> int:
        """The client's own position: it also passes what is no message, such as the marks of transactions."""
        if self._consumer is None:
            return self._positions[partition]
        position: int | None = self._consumer.position(_address(partition), timeout_ms=_ASK_MS)
        return self._positions[partition] if position is None else position

    def _client(self) -> KafkaConsumer:
        if self._consumer is None:
            self._assign()
        return self._consumer


class KafkaSink:
    """Appends to topics of a cluster, with at most 32 MiB on the way. Threads may share it."""

    def __init__(self, log: KafkaLog) -> None:
        self._log = log
        self._n_partitions: dict[str, int] = {}
        self._producer: KafkaProducer | None = None
        self._in_flight_bytes = 0
        self._refused: list[BaseException] = []
        self._settled = threading.Condition()

    def send(self, topic: str, *, key: bytes, value: bytes, headers: Headers = ()) -> None:
        """Append to the partition of the key; waits while too much is on the way."""
        size = check_size(topic, key, value, headers)
        index = partition_of(key, self._count(topic))
        with self._settled:
            while self._in_flight_bytes and self._in_flight_bytes + size > _MAX_IN_FLIGHT_BYTES:
                self._settled.wait()
        self._raise_refused()
        with self._log.plainly(f"accept a message for {topic}"):
            if self._producer is None:
                self._producer = self._new_producer()
            future = self._producer.send(
                topic, value, key, list(headers), partition=index, timestamp_ms=int(time.time() * 1000)
            )
        with self._settled:
            self._in_flight_bytes += size
        future.add_callback(lambda _: self._settle(size, None))
        future.add_errback(lambda error: self._settle(size, error))

    def flush(self) -> None:
        """Return when every in-sync copy has everything sent."""
        if self._producer is not None:
            with self._log.plainly("accept what was sent"):
                self._producer.flush()
            with self._settled:
                self._settled.wait_for(lambda: self._in_flight_bytes == 0)
        self._raise_refused()

    def close(self) -> None:
        """Flush and close the connection."""
        try:
            self.flush()
        finally:
            self._drop_producer()

    def _count(self, topic: str) -> int:
        if topic not in self._n_partitions:
            n_partitions = len(self._log.partitions(topic))
            if not n_partitions:
                raise missing_topic(topic)
            self._n_partitions[topic] = n_partitions
        return self._n_partitions[topic]

    def _settle(self, size: int, error: BaseException | None) -> None:
        with self._settled:
            self._in_flight_bytes -= size
            if error is not None:
                self._refused.append(error)
            self._settled.notify_all()

    def _raise_refused(self) -> None:
        """An idempotent producer that met one refusal refuses everything after it, so it is made anew."""
        with self._settled:
            refused, self._refused = self._refused, []
        if refused:
            self._drop_producer()
            with self._log.plainly(f"accept {len(refused)} messages"):
                raise refused[0]

    def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=_REQUEST_S)

    def _new_producer(self) -> KafkaProducer:
        return KafkaProducer(
            **self._log.settings,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            linger_ms=5,
            batch_size=128 * 2**10,
            max_request_size=REQUEST_BYTES,
            max_block_ms=int(_REQUEST_S * 1000),
            delivery_timeout_ms=int(_DELIVERY_S * 1000),
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )


def _address(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.index)


def _message(partition: Partition, record: ConsumerRecord) -> Message:
    headers = tuple((name, content or b"") for name, content in record.headers)
    return Message(partition, record.offset, record.key or b"", record.value or b"", headers, record.timestamp)


@contextmanager
def _plainly(servers: str, deed: str) -> Iterator[None]:
    """Turn what kafka-python says into one sentence."""
    try:
        yield
    except KafkaError as error:
        remedy = (
            "is a broker running there? deploy/kafka/start starts one"
            if isinstance(error, KafkaConnectionError | KafkaTimeoutError)
            else "the broker's own log says more"
        )
        raise BrokerError(f"Kafka at {servers} did not {deed}: {error}: {remedy}") from error
