"""The journal: a decision is written down before it is learned, and one writer at a time may decide.

Each tick is one small record in a topic of its own, `PREFIX.journal.NAME.v1`, with one partition. A learner that
starts claims the next *epoch*; entries of an older epoch that stand after a newer claim count for nobody. A
learner reads its own entry back before it acts on it, so one that slept through a claim learns that it is fenced
before it learns, saves or tells anything else.
"""

import time
from collections import deque
from collections.abc import Iterator

from lmlp_stream.broker.log import Log, Message, Partition, check_position
from lmlp_stream.errors import BrokerError, FencedError
from lmlp_stream.wire.journal import Claim, Entry, Range, Tell, Tick, decode_entry, encode_entry

READ_BACK_TIMEOUT_S = 120.0
POLL_S = 0.5


class JournalReader:
    """The entries of a journal that count, from one place on.

    A claim counts when its epoch is newer than every other; a decision when its epoch is the newest.

    Args:
        log: Where the journal topic lies; the topic exists.
        topic: Its name.
        position: Next offset to read; None: the beginning.
        epoch: Newest epoch known at that position.

    Attributes:
        position: Offset behind the last entry that was read.
        epoch: Newest epoch there.
        home: What the claim of that epoch says of its learner's home; empty where no claim was read.
    """

    def __init__(self, log: Log, topic: str, *, position: int | None = None, epoch: int = 0) -> None:
        self._log = log
        self._topic = topic
        self._partition = Partition(topic, 0)
        bounds = log.bounds(self._partition)
        self.position = bounds.begin if position is None else position
        self.epoch = epoch
        self.home: tuple[str, ...] = ()
        check_position(self._partition, self.position, bounds)
        self._source = log.source({self._partition: self.position})
        self._unread: deque[Message] = deque()
        self._undone: deque[tuple[int, int]] = deque()

    @property
    def place(self) -> tuple[int, int]:
        """Where the next run reads on: position and epoch before the first decision that is not done yet."""
        return self._undone[0] if self._undone else (self.position, self.epoch)

    def done(self) -> None:
        """The oldest decision that was not done yet is done: a checkpoint may stand behind it."""
        self._undone.popleft()

    def read(self) -> Iterator[Entry]:
        """The entries up to where the journal ends now.

        Raises:
            BrokerError: An entry is damaged, or the log does not hand out what it holds.
        """
        end = self._log.bounds(self._partition).end
        deadline = time.monotonic() + READ_BACK_TIMEOUT_S
        while self.position < end:
            before = self.position
            yield from self.poll()
            if self.position > before:
                deadline = time.monotonic() + READ_BACK_TIMEOUT_S
            elif time.monotonic() > deadline:
                raise BrokerError(f"{self._topic} ends at {end} but nothing can be read from {self.position} on")

    def poll(self) -> Iterator[Entry]:
        """The entries that arrive within `POLL_S`, one by one; position and epoch follow each.

        Raises:
            BrokerError: An entry is damaged.
        """
        if not self._unread:
            self._unread.extend(self._source.poll(256, POLL_S))
        while self._unread:
            message = self._unread.popleft()
            self.position = message.offset + 1
            try:
                entry = decode_entry(message.value)
            except ValueError as error:
                raise BrokerError(f"{self._topic} offset {message.offset} is damaged: {error}") from error
            if isinstance(entry, Claim):
                if entry.epoch > self.epoch:
                    self.epoch, self.home = entry.epoch, entry.home
                    yield entry
            elif entry.epoch == self.epoch:
                self._undone.append((message.offset, entry.epoch))
                yield entry

    def decisions(self) -> list[Tick | Tell]:
        """The ticks and tells up to where the journal ends now.

        Raises:
            BrokerError: An entry is damaged, or the log does not hand out what it holds.
        """
        return [entry for entry in self.read() if not isinstance(entry, Claim)]

    def close(self) -> None:
        """Release the connection."""
        self._source.close()


class Journal:
    """The journal of one learner from one position on, to be claimed and written.

    Args:
        log: Where the journal topic lies; the topic exists.
        topic: Its name.
        writer: Unique name of this process.
        position: Next offset to read; None: the beginning.
        epoch: Newest epoch known at that position.
        home: Names of the folder of the learner's checkpoints, of which each suffices.

    Raises:
        BrokerError: The log does not reach to the position, or no longer begins before it.
    """

    def __init__(
        self,
        log: Log,
        topic: str,
        writer: str,
        *,
        position: int | None = None,
        epoch: int = 0,
        home: tuple[str, ...] = (),
    ) -> None:
        self._topic = topic
        self._writer = writer
        self._home = home
        self._reader = JournalReader(log, topic, position=position, epoch=epoch)
        self._sink = log.sink()

    @property
    def position(self) -> int:
        """Offset behind the last entry that was read."""
        return self._reader.position

    @property
    def epoch(self) -> int:
        """Newest epoch that was read."""
        return self._reader.epoch

    @property
    def place(self) -> tuple[int, int]:
        """Where the next run reads on: position and epoch before the first decision that is not done yet."""
        return self._reader.place

    def done(self) -> None:
        """The oldest decision that was not done yet is done: a checkpoint may stand behind it."""
        self._reader.done()

    def claim(self, *, take_over: bool = False) -> list[Tick | Tell]:
        """Become the one writer; the decisions after the starting position, to be replayed.

        Args:
            take_over: Also where the last writer, whose home is another one, did not release the journal: a lock keeps
                two learners apart only at home.

        Raises:
            FencedError: It did not, or a learner claimed the journal at the same moment.
        """
        decisions = self._reader.decisions()
        last = self._reader.home
        if last and self._home and set(last).isdisjoint(self._home) and not take_over:
            raise FencedError(
                f"{self._topic} belongs to a learner whose checkpoints lie elsewhere ({last[-1]}) and which did not "
                "stop in order: it may still run; start this one there, give it another `name`, or fence off the other "
                "one with `lmlp-stream learn --take-over`"
            )
        mine = Claim(self.epoch + 1, self._writer, self._home)
        self._append(mine)
        return decisions + self._read_back(mine)

    def write_tick(self, number: int, ranges: tuple[Range, ...]) -> Tick:
        """Write down which records the next tick learns; returns when no other learner has taken over.

        Raises:
            FencedError: Another learner has taken over.
        """
        tick = Tick(self.epoch, self._writer, number, ranges)
        self._append(tick)
        self._read_back(tick)
        return tick

    def write_tell(self, number: int) -> Tell:
        """Write down that a snapshot is due now.

        Raises:
            FencedError: Another learner has taken over.
        """
        tell = Tell(self.epoch, self._writer, number)
        self._append(tell)
        self._read_back(tell)
        return tell

    def release(self) -> None:
        """Let a learner from anywhere claim the journal: this one writes nothing more."""
        self._append(Claim(self.epoch + 1, self._writer))

    def confirm(self) -> None:
        """Return if this learner is still the one writer; called before anything is saved or told.

        Raises:
            FencedError: Another learner has taken over.
        """
        for entry in self._reader.read():
            self._check(entry)

    def close(self) -> None:
        """Release the connections."""
        self._reader.close()
        self._sink.close()

    def _append(self, entry: Entry) -> None:
        self._sink.send(self._topic, key=self._writer.encode(), value=encode_entry(entry))
        self._sink.flush()

    def _read_back(self, mine: Entry) -> list[Tick | Tell]:
        others: list[Tick | Tell] = []
        deadline = time.monotonic() + READ_BACK_TIMEOUT_S
        while time.monotonic() < deadline:
            for entry in self._reader.poll():
                if entry == mine:
                    return others
                if entry.epoch >= mine.epoch:
                    self._check(entry)
                if not isinstance(entry, Claim):
                    others.append(entry)
        raise BrokerError(f"{self._topic} did not return an entry written {READ_BACK_TIMEOUT_S:.0f} s ago")

    def _check(self, entry: Entry) -> None:
        if isinstance(entry, Claim) and entry.writer != self._writer:
            raise FencedError(
                f"another learner ({entry.writer}) has taken over {self._topic} with epoch {entry.epoch}; "
                "this one stops without saving or telling; give it another `name` to run both"
            )
