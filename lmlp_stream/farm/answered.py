"""Which label requests have an answer in the log, so that a restarted worker computes nothing twice."""

import time
from collections.abc import Callable, Iterable

from lmlp_stream.broker.log import Log, Message, Partition
from lmlp_stream.errors import BrokerError

REQUEST_HEADER = "lmlp.request"
"""Header of an answer: the id of the request."""

CLOCK_MARGIN_MS = 3_600_000
"""Clocks of two machines differ by less, ms."""

MESSAGES_PER_POLL = 1000
LOOKUP_TIMEOUT_S = 1.0
READ_TIMEOUT_S = 60.0


class Seen:
    """What the messages of a topic name, from some time on, always up to the topic's present end.

    Starting costs the same whatever came before that time: the place in the log is found by bisection.

    Args:
        log: The log.
        topic: The topic.
        since_ms: Unix time in ms; messages older than this (and `CLOCK_MARGIN_MS`) do not matter.
        names: What a message names.
    """

    def __init__(self, log: Log, topic: str, since_ms: int, names: Callable[[Message], Iterable[bytes]]) -> None:
        self._log = log
        self._names = names
        self._positions = {
            partition: first_offset_since(log, partition, since_ms - CLOCK_MARGIN_MS)
            for partition in log.partitions(topic)
        }
        self._source = log.source(self._positions)
        self._seen: set[bytes] = set()

    def holds(self, name: bytes) -> bool:
        """Whether a message that is in the topic now has this name.

        Raises:
            BrokerError: The log cannot be reached, or does not hand out what it holds.
        """
        ends = {partition: self._log.bounds(partition).end for partition in self._positions}
        deadline = time.monotonic() + READ_TIMEOUT_S
        while any(self._positions[partition] < end for partition, end in ends.items()):
            for message in self._source.poll(MESSAGES_PER_POLL, LOOKUP_TIMEOUT_S):
                self._positions[message.partition] = message.offset + 1
                self._seen.update(self._names(message))
            if time.monotonic() > deadline:
                raise BrokerError(f"the log did not hand out its messages within {READ_TIMEOUT_S:g} s; is it healthy?")
        return name in self._seen

    def close(self) -> None:
        """Release the connection."""
        self._source.close()


def answers(message: Message) -> tuple[bytes, ...]:
    """The ids of the requests that a labelled structure answers."""
    return tuple(value for name, value in message.headers if name == REQUEST_HEADER)


def address(message: Message) -> bytes:
    """The address of a message, which is the key of its dead letter."""
    return f"{message.partition.topic}/{message.partition.index}/{message.offset}".encode()


def first_offset_since(log: Log, partition: Partition, timestamp_ms: int) -> int:
    """Offset from which on messages are not older than a time, by bisection; earlier where clocks disagree."""
    bounds = log.bounds(partition)
    low, high = bounds.begin, bounds.end
    while low < high:
        middle = (low + high) // 2
        source = log.source({partition: middle})
        messages = source.poll(1, LOOKUP_TIMEOUT_S)
        source.close()
        if messages and messages[0].timestamp_ms < timestamp_ms:
            low = messages[0].offset + 1
        else:
            high = middle
    return low
