"""The log: append-only topics of partitions. `memory`, `sqlite` and `kafka` are its forms.

Offsets are *next offsets*: the position of a reader is the offset of the message it reads next, and an
empty partition begins and ends at the same offset. Backends number from wherever they like, and a compacted
partition has gaps: after a message, the next position is its offset plus one whatever comes there.

The order of reading is a law of the log, not of a backend: among the messages that are there, the one with the
lowest (offset, partition) comes next. So partitions that grow together are read in turn, a partition that lies
behind catches up before the others go on, and the order is a function of the positions alone: it does not
depend on how many messages a poll takes, on when they arrived, or on where a reader was interrupted.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from lmlp_stream.errors import BrokerError

MAX_MESSAGE_BYTES = 8 * 2**20
"""Largest message (key, value and headers) that any form accepts, bytes."""

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One ordered sequence of messages of a topic."""

    topic: str
    index: int


@dataclass(frozen=True, slots=True)
class Message:
    """A record with its address."""

    partition: Partition
    offset: int
    key: bytes
    value: bytes
    headers: Headers
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic is created with.

    Attributes:
        name: Full name, with its major version: `lmlp.structures.v1`.
        n_partitions: Number of partitions.
        compacted: Keep the newest message of each key only (snapshots); otherwise keep everything for ever.
        replication_factor: Copies of each partition; the embedded forms have one whatever is asked.
    """

    name: str
    n_partitions: int = 1
    compacted: bool = False
    replication_factor: int = 1


@dataclass(frozen=True, slots=True)
class Bounds:
    """First offset that can still be read, and the offset the next message will get."""

    begin: int
    end: int


class Source(Protocol):
    """Reads messages of fixed partitions from fixed positions: assign and seek, never a consumer group."""

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        """Messages in order of (offset, partition), at most `max_messages`, as soon as there is one.

        Empty after `timeout_s` without any. A log that cannot be reached for a while looks like a silent one.

        Raises:
            BrokerError: A position lies outside the partition (messages were deleted or the topic re-created).
        """
        ...

    def at_end(self) -> bool:
        """Whether everything that is in the log at this moment was polled; False where that cannot be known now.

        Positions do not tell: what is no message, such as the mark of a transaction, may stand behind the last one.
        """
        ...

    def close(self) -> None:
        """Release the connection; the source is not used again."""
        ...


class Sink(Protocol):
    """Appends messages; bounded in memory, so `send` may block."""

    def send(self, topic: str, *, key: bytes, value: bytes, headers: Headers = ()) -> None:
        """Append to the partition that `partition_of(key)` names; readers see it after `flush` at the latest.

        Raises:
            BrokerError: The topic does not exist, the message is larger than `MAX_MESSAGE_BYTES`, the log cannot
                be reached, or a message sent before was not accepted.
        """
        ...

    def flush(self) -> None:
        """Return when everything sent is durable.

        Raises:
            BrokerError: Something was not accepted; of what was sent since the last flush, any part may be in the log.
        """
        ...

    def close(self) -> None:
        """Flush and release the connection; the sink is not used again."""
        ...


class Log(Protocol):
    """A log of topics: memory, SQLite or Kafka."""

    def ensure(self, topics: Iterable[TopicSpec]) -> None:
        """Create the topics that do not exist yet; existing ones are left as they are."""
        ...

    def partitions(self, topic: str) -> tuple[Partition, ...]:
        """The partitions of a topic in order; empty if the topic does not exist."""
        ...

    def bounds(self, partition: Partition) -> Bounds:
        """Readable range of a partition at this moment.

        Raises:
            BrokerError: The partition does not exist, or the log cannot be reached.
        """
        ...

    def source(self, start: Mapping[Partition, int]) -> Source:
        """A reader of these partitions from these next offsets; clipped nowhere, checked when it polls."""
        ...

    def sink(self) -> Sink:
        """A writer."""
        ...

    def commit(self, group: str, positions: Mapping[Partition, int]) -> None:
        """Publish positions under a consumer group's name, for lag monitors only."""
        ...

    def close(self) -> None:
        """Release the log's own connection; sources and sinks are closed by those who opened them."""
        ...


def partition_of(key: bytes, n_partitions: int) -> int:
    """Index of the partition a key belongs to: the same on every backend, so streams replay identically."""
    return zlib.crc32(key) % n_partitions


def in_order(candidates: Iterable[Message], max_messages: int) -> list[Message]:
    """The first messages in the order of reading.

    Right when `candidates` holds, of each partition, its next `max_messages` messages or all there are.
    """
    return sorted(candidates, key=lambda message: (message.offset, message.partition))[:max_messages]


def check_position(partition: Partition, position: int, bounds: Bounds) -> None:
    """Nothing, if the position can be read from.

    Raises:
        BrokerError: It lies outside the bounds.
    """
    if not bounds.begin <= position <= bounds.end:
        raise BrokerError(
            f"position {position} of {partition.topic}[{partition.index}] lies outside the log's {bounds.begin} to "
            f"{bounds.end}: messages were deleted or the topic was created anew; restore the log, or start from a "
            f"checkpoint that belongs to it"
        )


def check_whole(partition: Partition, offsets: Iterable[int], expected: range) -> None:
    """Nothing, if a log that numbers without gaps still has the messages of these offsets.

    Raises:
        BrokerError: Some are missing; the message names the first of them.
    """
    there = set(offsets)
    missing = [offset for offset in expected if offset not in there]
    if missing:
        last = next(at for at in range(missing[0], expected.stop) if at + 1 in there or at + 1 == expected.stop)
        raise BrokerError(
            f"{partition.topic}[{partition.index}] has lost the messages of offsets {missing[0]} to {last}: "
            "restore the log from a backup, or begin a new one"
        )


def check_size(topic: str, key: bytes, value: bytes, headers: Headers) -> int:
    """Size of a message, bytes.

    Raises:
        BrokerError: It is larger than `MAX_MESSAGE_BYTES`.
    """
    size = len(key) + len(value) + sum(len(name.encode()) + len(content) for name, content in headers)
    if size > MAX_MESSAGE_BYTES:
        raise BrokerError(
            f"a message of {size} bytes for {topic} is larger than the {MAX_MESSAGE_BYTES} bytes a log accepts; "
            f"send it in parts, or a reference to it"
        )
    return size


def missing_topic(topic: str) -> BrokerError:
    """The error for a topic that nobody created."""
    return BrokerError(f"there is no topic {topic!r} in the log; `Log.ensure` creates it")


def missing_partition(partition: Partition) -> BrokerError:
    """The error for a partition that does not exist."""
    return BrokerError(f"there is no partition {partition.topic}[{partition.index}] in the log; is its topic created?")
