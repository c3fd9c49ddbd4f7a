"""Reads partitions of a cluster in the order of reading."""

import time
from collections import deque
from collections.abc import Mapping

from kafka import KafkaConsumer
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError, LogTruncationError, OffsetOutOfRangeError

from lmlp_stream.broker.kafka.connection import AWAY, Connection, address
from lmlp_stream.broker.log import Message, Partition, check_position

_STALL_S = 30.0
_WAIT_S = 0.1
"""Longest wait inside kafka-python, which may miss the answer it waits for, s."""
_MAX_AHEAD_BYTES = 16 * 2**20
_ASK_MS = 2000


class KafkaSource:
    """Reads partitions of a cluster.

    The order of reading asks more than Kafka gives: of each partition that is not at its end, the next message must
    be here before the first of them is taken. Partitions that are 16 MiB ahead are not fetched meanwhile.
    """

    def __init__(self, connection: Connection, start: Mapping[Partition, int]) -> None:
        self._connection = connection
        self._positions = dict(start)
        self._fetched: dict[Partition, deque[Message]] = {partition: deque() for partition in start}
        self._ends: dict[Partition, int] = {}
        self._consumer: KafkaConsumer | None = None
        self._followed: set[Partition] = set()
        self._quiet_since = time.monotonic()

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        """The next messages in order of reading."""
        deadline = time.monotonic() + timeout_s
        with self._connection.plainly("read"):
            if self._consumer is None:
                self._connection.patiently(self._is_behind)
                self._connect()
            while True:
                messages = self._take(max_messages)
                remaining_s = deadline - time.monotonic()
                if messages or remaining_s <= 0:
                    return messages
                self._fetch(remaining_s)

    def at_end(self) -> bool:
        """Whether everything in the cluster was polled, as far as the client has come."""
        with self._connection.plainly("tell where its partitions end"):
            return not any(self._fetched.values()) and self._at_end() == self._fetched.keys()

    def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            self._consumer.close(autocommit=False)
            self._consumer = None

    def _connect(self) -> None:
        self.close()
        self._consumer = self._connection.new_client(
            KafkaConsumer,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=100,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        for queue in self._fetched.values():
            queue.clear()
        self._followed = set()

    def _follow(self, partitions: set[Partition]) -> None:
        """Fetch these only. Not by pausing the others: kafka-python 3.0 may never fetch again what it resumed."""
        if partitions != self._followed:
            positions = {address(partition): self._next_fetched(partition) for partition in partitions}
            self._client().assign(list(positions))
            for where, position in positions.items():
                self._client().seek(where, position)
            self._followed = partitions

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
            ends = self._client().end_offsets([address(partition) for partition in empty], _ASK_MS)
        except AWAY:
            return set()
        self._ends = {partition: ends[address(partition)] for partition in empty}
        return {partition for partition in empty if self._next_fetched(partition) >= self._ends[partition]}

    def _fetch(self, timeout_s: float) -> None:
        sizes = {partition: sum(len(message.value) for message in queue) for partition, queue in self._fetched.items()}
        self._follow({partition for partition, size in sizes.items() if size <= _MAX_AHEAD_BYTES})
        try:
            batches = self._client().poll(timeout_ms=min(timeout_s, _WAIT_S) * 1000)
        except (OffsetOutOfRangeError, LogTruncationError):
            self._is_behind()
            raise
        for where, records in batches.items():
            partition = Partition(where.topic, where.partition)
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
            self._connect()

    def _is_behind(self) -> bool:
        """Whether there is something to fetch.

        Raises:
            BrokerError: A position lies outside its partition.
        """
        behind = False
        for partition, position in self._positions.items():
            bounds = self._connection.bounds(partition)
            check_position(partition, position, bounds)
            behind |= not self._fetched[partition] and self._next_fetched(partition) < bounds.end
        return behind

    def _next_fetched(self, partition: Partition) -> int:
        """The client's own position: it also passes what is no message, such as the marks of transactions."""
        if partition in self._followed:
            position: int = self._client().position(address(partition), timeout_ms=_ASK_MS)
            return position
        queue = self._fetched[partition]
        return queue[-1].offset + 1 if queue else self._positions[partition]

    def _client(self) -> KafkaConsumer:
        if self._consumer is None:
            self._connect()
        return self._consumer


def _message(partition: Partition, record: ConsumerRecord) -> Message:
    headers = tuple((name, content or b"") for name, content in record.headers)
    return Message(partition, record.offset, record.key or b"", record.value or b"", headers, record.timestamp)
