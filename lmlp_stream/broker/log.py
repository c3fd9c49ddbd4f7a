"""The log: append-only topics of partitions, and its in-memory form.

Offsets are *next offsets*: the position of a reader is the offset of the record it reads next, and an
empty partition begins and ends at the same offset. Backends number from wherever they like.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol


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
    headers: tuple[tuple[str, bytes], ...]
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
        """Messages in partition order, at most `max_messages`, as soon as there is one; empty after `timeout_s`.

        Raises:
            BrokerError: A position lies outside the partition (records were deleted or the topic re-created).
        """
        ...

    def close(self) -> None:
        """Release the connection; further polls are errors."""
        ...


class Sink(Protocol):
    """Appends messages; bounded in memory, so `send` may block."""

    def send(self, topic: str, *, key: bytes, value: bytes, headers: tuple[tuple[str, bytes], ...] = ()) -> None:
        """Append to the partition that `partition_of(key)` names.

        Raises:
            BrokerError: The message is larger than the log accepts, or the log cannot be reached.
        """
        ...

    def flush(self) -> None:
        """Return when everything sent is durable.

        Raises:
            BrokerError: Something sent was not accepted.
        """
        ...

    def close(self) -> None:
        """Flush and release the connection."""
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
        """Readable range of a partition at this moment."""
        ...

    def source(self, start: Mapping[Partition, int]) -> Source:
        """A reader of these partitions from these next offsets; clipped nowhere, checked at the first poll."""
        ...

    def sink(self) -> Sink:
        """A writer."""
        ...

    def commit(self, group: str, positions: Mapping[Partition, int]) -> None:
        """Publish positions under a consumer group's name, for lag monitors only."""
        ...

    def close(self) -> None:
        """Release every connection."""
        ...


def partition_of(key: bytes, n_partitions: int) -> int:
    """Index of the partition a key belongs to: the same on every backend, so streams replay identically."""
    return zlib.crc32(key) % n_partitions
