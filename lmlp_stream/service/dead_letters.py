"""The dead letters of a log: read, completed from the log where they were cut, and published again.

A message that is published again carries the address of the refused one in a header, in the same write: whether a
letter was redriven is looked up where it would stand, so no crash can make it forgotten or half done.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b

from lmlp_stream.broker.log import Headers, Log, Message, Partition, partition_of
from lmlp_stream.errors import BrokerError
from lmlp_stream.wire.dead_letter import REDRIVEN_HEADER, DeadLetter, decode_dead_letter
from lmlp_stream.wire.rejection import Rejection

MESSAGES_PER_POLL = 500
POLL_S = 0.5
READ_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of letters, by the addresses of the refused messages.

    Attributes:
        published: Published again; in a dry run, those that would be.
        before: Published again by an earlier redrive.
        lost: The letter holds only a part, and the log no longer has the rest.
    """

    published: tuple[str, ...]
    before: tuple[str, ...]
    lost: tuple[str, ...]


def dead_letters(log: Log, topic: str) -> Iterator[DeadLetter | Rejection]:
    """Every dead letter that is in the topic now, oldest first; a rejection where a message is none.

    A message that repeats an earlier one, headers included, is passed over: a learner that was suspended while another
    took over may write its newest letters again when it wakes.

    Raises:
        BrokerError: The log cannot be reached.
    """
    begins = {partition: log.bounds(partition).begin for partition in log.partitions(topic)}
    return (decode_dead_letter(message.value) for message in _distinct(_messages(log, begins)))


def whole(log: Log, letter: DeadLetter) -> tuple[bytes, bytes] | None:
    """Key and value of the refused message, from the log where the letter was cut; None where the log lost them.

    Raises:
        BrokerError: The log cannot be reached.
    """
    if not letter.cut:
        return letter.key, letter.value
    partition = Partition(letter.topic, letter.partition)
    if partition not in log.partitions(letter.topic):
        return None
    message = message_at(log, partition, letter.offset)
    if message is None or not _belongs(message, letter):
        return None
    return message.key, message.value


def message_at(log: Log, partition: Partition, offset: int) -> Message | None:
    """The message at this place, or None where the log no longer has it.

    Raises:
        BrokerError: The log cannot be reached, or lost what lies between others.
    """
    bounds = log.bounds(partition)
    if not bounds.begin <= offset < bounds.end:
        return None
    with closing(log.source({partition: offset})) as source:
        messages = source.poll(1, READ_TIMEOUT_S)
    return messages[0] if messages and messages[0].offset == offset else None


def redrive(
    log: Log,
    topic: str,
    chosen: Callable[[DeadLetter], bool],
    *,
    dry_run: bool,
    advance: Callable[[], None] = lambda: None,
) -> Redriven:
    """Publish refused messages again, each to its topic and each once, however many letters tell of it.

    Args:
        log: Where they stood.
        topic: Where their letters are.
        chosen: Which letters.
        dry_run: Publish nothing.
        advance: Called after each message.

    Raises:
        BrokerError: The log cannot be reached, or a topic of a letter is not there.
    """
    pending: set[str] = set()
    starts: dict[Partition, int] = {}
    for letter in _chosen(log, topic, chosen):
        pending.add(letter.address)
        for partition, start in _landing(log, letter).items():
            starts[partition] = min(start, starts.get(partition, start))
    before = pending & _redriven(log, starts)
    pending -= before
    published, lost = [], []
    with closing(log.sink()) as sink:
        for letter in _chosen(log, topic, lambda letter: letter.address in pending):
            pending.remove(letter.address)
            message = whole(log, letter)
            if message is None:
                lost.append(letter.address)
            else:
                published.append(letter.address)
                if not dry_run:
                    key, value = message
                    sink.send(letter.topic, key=key, value=value, headers=_marks(letter))
            advance()
        sink.flush()
    return Redriven(tuple(published), tuple(sorted(before)), tuple(lost))


def _distinct(messages: Iterable[Message]) -> Iterator[Message]:
    seen: set[bytes] = set()
    for message in messages:
        digest = blake2b(repr((message.key, message.headers)).encode() + message.value, digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            yield message


def _chosen(log: Log, topic: str, chosen: Callable[[DeadLetter], bool]) -> Iterator[DeadLetter]:
    return (letter for letter in dead_letters(log, topic) if isinstance(letter, DeadLetter) and chosen(letter))


def _marks(letter: DeadLetter) -> Headers:
    return ((REDRIVEN_HEADER, letter.address.encode()),)


def _belongs(message: Message, letter: DeadLetter) -> bool:
    """Whether a message is the one the letter was cut from, not another one in a log that was made anew."""
    return message.value.startswith(letter.value) and message.key.startswith(letter.key)


def _redriven(log: Log, starts: Mapping[Partition, int]) -> set[str]:
    """Addresses of refused messages that stand again in these partitions from these offsets on."""
    headers = (header for message in _messages(log, starts) for header in message.headers)
    return {value.decode(errors="replace") for name, value in headers if name == REDRIVEN_HEADER}


def _landing(log: Log, letter: DeadLetter) -> dict[Partition, int]:
    """Where the refused message stands if it was published again: from which offset on in which partitions.

    That is the partition of its key; every one where the key was cut.
    """
    partitions = log.partitions(letter.topic)
    if partitions and not letter.cut:
        partitions = (partitions[partition_of(letter.key, len(partitions))],)
    starts = {}
    for partition in partitions:
        begin = log.bounds(partition).begin
        starts[partition] = max(begin, letter.offset + 1) if partition.index == letter.partition else begin
    return starts


def _messages(log: Log, positions: Mapping[Partition, int]) -> Iterator[Message]:
    """The messages from these positions to where the partitions end now.

    Raises:
        BrokerError: The log does not hand out what it holds.
    """
    unread = {p: log.bounds(p).end for p, position in positions.items() if position < log.bounds(p).end}
    if not unread:
        return
    with closing(log.source({partition: positions[partition] for partition in unread})) as source:
        deadline = time.monotonic() + READ_TIMEOUT_S
        while unread:
            messages = source.poll(MESSAGES_PER_POLL, POLL_S)
            if messages:
                deadline = time.monotonic() + READ_TIMEOUT_S
            elif time.monotonic() > deadline:
                raise BrokerError(f"the log hands out nothing of {sorted(unread)} for {READ_TIMEOUT_S:g} s")
            for message in messages:
                if message.offset + 1 >= unread.get(message.partition, message.offset + 2):
                    del unread[message.partition]
                yield message
