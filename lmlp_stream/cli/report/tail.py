"""Reading topics alongside their writers: what is new since the last look."""

from collections.abc import Iterable

from lmlp_stream.broker.log import Log, Message, Partition, Source

MESSAGES_PER_POLL = 500
PATIENCE_S = 5.0


class Tail:
    """Messages of some topics from their beginning on; a topic may appear later.

    Args:
        log: The log.
        topics: Full names of the topics.
    """

    def __init__(self, log: Log, topics: Iterable[str]) -> None:
        self._log = log
        self._topics = tuple(topics)
        self._sources: dict[Partition, Source] = {}
        self._positions: dict[Partition, int] = {}

    def new_messages(self) -> list[Message]:
        """Everything up to the present end that was not returned before, in the order of each partition.

        Raises:
            BrokerError: The log cannot be reached.
        """
        messages: list[Message] = []
        for topic in self._topics:
            for partition in self._log.partitions(topic):
                messages += self._new_messages_of(partition)
        return messages

    def close(self) -> None:
        """Release the connections; the log stays open."""
        for source in self._sources.values():
            source.close()
        self._sources.clear()

    def _new_messages_of(self, partition: Partition) -> list[Message]:
        bounds = self._log.bounds(partition)
        position = self._positions.setdefault(partition, bounds.begin)
        if position >= bounds.end:
            return []
        if partition not in self._sources:
            self._sources[partition] = self._log.source({partition: position})
        messages: list[Message] = []
        while position < bounds.end:
            polled = self._sources[partition].poll(MESSAGES_PER_POLL, PATIENCE_S)
            if not polled:
                break
            messages += polled
            position = polled[-1].offset + 1
        self._positions[partition] = position
        return messages
