"""The log in memory: for tests and for everything that lives in one process."""

import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping

from lmlp_stream.broker.log import (
    Bounds,
    Headers,
    Message,
    Partition,
    TopicSpec,
    check_position,
    check_size,
    in_order,
    missing_partition,
    missing_topic,
    partition_of,
)


class MemoryLog:
    """A log of lists. Any number of threads of one process share it; closing it forgets nothing.

    Attributes:
        committed: Positions by consumer group.
    """

    def __init__(self) -> None:
        self.committed: dict[str, dict[Partition, int]] = {}
        self._topics: dict[str, TopicSpec] = {}
        self._messages: dict[Partition, list[Message]] = {}
        self._ends: dict[Partition, int] = {}
        self._grown = threading.Condition()

    def ensure(self, topics: Iterable[TopicSpec]) -> None:
        """Create the topics that do not exist yet."""
        with self._grown:
            for spec in topics:
                if spec.name not in self._topics:
                    self._topics[spec.name] = spec
                    for partition in self.partitions(spec.name):
                        self._messages[partition] = []
                        self._ends[partition] = 0

    def partitions(self, topic: str) -> tuple[Partition, ...]:
        """The partitions of a topic in order."""
        spec = self._topics.get(topic)
        return tuple(Partition(topic, index) for index in range(spec.n_partitions if spec else 0))

    def bounds(self, partition: Partition) -> Bounds:
        """Readable range of a partition at this moment."""
        if partition not in self._ends:
            raise missing_partition(partition)
        return Bounds(0, self._ends[partition])

    def source(self, start: Mapping[Partition, int]) -> "MemorySource":
        """A reader of these partitions from these next offsets."""
        return MemorySource(self, start)

    def sink(self) -> "MemorySink":
        """A writer."""
        return MemorySink(self)

    def commit(self, group: str, positions: Mapping[Partition, int]) -> None:
        """Remember positions under a group's name."""
        self.committed.setdefault(group, {}).update(positions)

    def close(self) -> None:
        """Nothing: the messages stay for the others who share this log."""

    def append(self, topic: str, key: bytes, value: bytes, headers: Headers) -> None:
        """Append one message, and wake the readers that wait."""
        check_size(topic, key, value, headers)
        with self._grown:
            if topic not in self._topics:
                raise missing_topic(topic)
            spec = self._topics[topic]
            partition = Partition(topic, partition_of(key, spec.n_partitions))
            if spec.compacted:
                self._messages[partition] = [kept for kept in self._messages[partition] if kept.key != key]
            message = Message(partition, self._ends[partition], key, value, headers, int(time.time() * 1000))
            self._messages[partition].append(message)
            self._ends[partition] += 1
            self._grown.notify_all()

    def read(self, positions: Mapping[Partition, int], max_messages: int, timeout_s: float) -> list[Message]:
        """The next messages after these positions, in order of reading; waits for the first."""
        deadline = time.monotonic() + timeout_s
        with self._grown:
            while True:
                messages = in_order(self._next(positions, max_messages), max_messages)
                remaining_s = deadline - time.monotonic()
                if messages or remaining_s <= 0:
                    return messages
                self._grown.wait(remaining_s)

    def _next(self, positions: Mapping[Partition, int], max_messages: int) -> Iterable[Message]:
        for partition, position in positions.items():
            check_position(partition, position, self.bounds(partition))
            messages = self._messages[partition]
            first = bisect_left(messages, position, key=lambda message: message.offset)
            yield from messages[first : first + max_messages]


class MemorySource:
    """Reads a `MemoryLog`."""

    def __init__(self, log: MemoryLog, start: Mapping[Partition, int]) -> None:
        self._log = log
        self._positions = dict(start)

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        """The next messages in order of reading."""
        messages = self._log.read(self._positions, max_messages, timeout_s)
        self._positions |= {message.partition: message.offset + 1 for message in messages}
        return messages

    def at_end(self) -> bool:
        """Whether everything in the log was polled."""
        return all(position >= self._log.bounds(partition).end for partition, position in self._positions.items())

    def close(self) -> None:
        """Nothing to release."""


class MemorySink:
    """Appends to a `MemoryLog`, at once."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    def send(self, topic: str, *, key: bytes, value: bytes, headers: Headers = ()) -> None:
        """Append to the partition of the key."""
        self._log.append(topic, key, value, headers)

    def flush(self) -> None:
        """Nothing waits to be written."""

    def close(self) -> None:
        """Nothing to release."""
