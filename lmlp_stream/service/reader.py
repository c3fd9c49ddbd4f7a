"""The reader of structures: it proposes what the next tick learns, and fetches what the journal says."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.broker.log import Log, Message, Partition, check_position
from lmlp_stream.errors import BrokerError
from lmlp_stream.wire.dead_letter import REDRIVEN_HEADER
from lmlp_stream.wire.journal import Range
from lmlp_stream.wire.limits import Limits
from lmlp_stream.wire.record import decode
from lmlp_stream.wire.rejection import Rejection

logger = logging.getLogger(__name__)

POLL_S = 0.2
FETCH_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the next tick could learn, or why there is nothing.

    `heard`: there was silence, and the log answered that this is its end.
    """

    messages: tuple[Message, ...]
    ended: bool = False
    heard: bool = False


class Reader:
    """Messages of the structures topic from fixed positions on.

    Args:
        log: Where they lie.
        positions: Next offset of every partition; it moves as ticks are taken.

    Raises:
        BrokerError: The log does not have the messages at the positions.
    """

    def __init__(self, log: Log, positions: Mapping[Partition, int]) -> None:
        for partition, position in positions.items():
            check_position(partition, position, log.bounds(partition))
        self._log = log
        self.positions = dict(positions)
        self._source = log.source(self.positions)
        self._buffer: list[Message] = []

    def propose(
        self,
        n_records: int,
        *,
        wait_s: float,
        until_end: bool,
        stopped: Callable[[], bool],
        heard: Callable[[bool], None] = lambda _: None,
    ) -> Proposal:
        """The next `n_records` messages; fewer or none after `wait_s` of silence or at the end; none when stopped.

        In silence `heard` is told whether the log answers that this is its end, or does not answer.
        """
        silent_since, at_end = time.monotonic(), False
        while len(self._buffer) < n_records and not stopped():
            arrived = self._source.poll(n_records - len(self._buffer), POLL_S)
            self._buffer += arrived
            if arrived:
                silent_since = time.monotonic()
                continue
            at_end = self._source.at_end()
            heard(at_end)
            if until_end and at_end:
                return Proposal(tuple(self._buffer[:n_records]), ended=True)
            if time.monotonic() - silent_since > wait_s:
                break
        if stopped():
            return Proposal((), ended=True)
        return Proposal(tuple(self._buffer[:n_records]), heard=at_end)

    def take(self, ranges: tuple[Range, ...]) -> list[Message]:
        """The messages of these ranges in the order of partition and offset; the positions move behind them.

        Raises:
            BrokerError: The log no longer has them all, or they do not begin at the positions.
        """
        for item in ranges:
            position = self.positions[self._partition(item.partition)]
            if item.begin != position:
                raise BrokerError(
                    f"the journal names records of partition {item.partition} from {item.begin} on, and the reader "
                    f"stands at {position}: the log lost records or is another one; restore it"
                )
        ends = {self._partition(item.partition): item.end for item in ranges}
        deadline = time.monotonic() + FETCH_TIMEOUT_S
        while any(self._read_up_to(partition) < end for partition, end in ends.items()):
            self._buffer += self._source.poll(256, POLL_S)
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"the journal names records {ranges} that the log does not deliver; was it truncated?"
                )
        taken = [m for m in self._buffer if m.partition in ends and m.offset < ends[m.partition]]
        self._check_counts(ranges, taken)
        self._buffer = [m for m in self._buffer if m.partition not in ends or m.offset >= ends[m.partition]]
        self.positions |= ends
        return sorted(taken, key=lambda m: (m.partition, m.offset))

    def warn_of_late_begin(self) -> None:
        """Say of which partitions the log no longer has the beginning: a new learner begins behind it."""
        late = [f"{p.topic}[{p.index}] at offset {at}" for p, at in sorted(self.positions.items()) if at > 0]
        if late:
            logger.warning(
                "this new learner begins %s: what came before is no longer in the log and is not learned",
                ", ".join(late),
            )

    def lag(self) -> dict[int, int]:
        """Records of each partition that are not learned yet."""
        return {p.index: max(0, self._log.bounds(p).end - position) for p, position in self.positions.items()}

    def close(self) -> None:
        """Release the connection."""
        self._source.close()

    def _check_counts(self, ranges: tuple[Range, ...], taken: list[Message]) -> None:
        n_found = Counter(message.partition.index for message in taken)
        for item in ranges:
            if item.n_records and n_found[item.partition] != item.n_records:
                raise BrokerError(
                    f"the journal names {item.n_records} records of {self._partition(item.partition).topic}"
                    f"[{item.partition}] from offset {item.begin} up to {item.end}, and the log has "
                    f"{n_found[item.partition]} there: records were lost; restore the log from a backup"
                )

    def _partition(self, index: int) -> Partition:
        for partition in self.positions:
            if partition.index == index:
                return partition
        raise BrokerError(f"the journal names partition {index}, which the log does not have")

    def _read_up_to(self, partition: Partition) -> int:
        last = [m.offset + 1 for m in self._buffer if m.partition == partition]
        return max(last, default=self.positions[partition])


def ranges_of(messages: tuple[Message, ...], positions: Mapping[Partition, int]) -> tuple[Range, ...]:
    """The ranges that cover these messages from the positions on, in the order of partitions."""
    ends: dict[Partition, int] = {}
    for message in messages:
        ends[message.partition] = max(ends.get(message.partition, 0), message.offset + 1)
    counts = Counter(message.partition for message in messages)
    return tuple(Range(p.index, positions[p], end, counts[p]) for p, end in sorted(ends.items()))


def start_positions(log: Log, topic: str, saved: Mapping[str, int]) -> dict[Partition, int]:
    """The next offset of every partition: the one saved under its number, or its beginning."""
    return {p: saved.get(str(p.index), log.bounds(p).begin) for p in log.partitions(topic)}


@dataclass(frozen=True, slots=True)
class Opened:
    """What the messages of a tick hold, in their order: structures, and those that are let in nowhere."""

    structures: tuple[LabelledStructure, ...]
    refused: tuple[tuple[Message, Rejection], ...]


def opened(messages: Iterable[Message], limits: Limits) -> Opened:
    """Every message as a structure that knows its record, or a refusal; a redriven one vouches for its structure."""
    structures: list[LabelledStructure] = []
    refused: list[tuple[Message, Rejection]] = []
    for message in messages:
        verdict = decode(message.value, limits)
        if isinstance(verdict, Rejection):
            refused.append((message, verdict))
        else:
            vouched = any(name == REDRIVEN_HEADER for name, _ in message.headers)
            structures.append(replace(verdict, record=(message.partition.index, message.offset), vouched=vouched))
    return Opened(tuple(structures), tuple(refused))
