"""Redriving: whole messages, each once, and never another message than the one that was refused."""

import pytest

from lmlp_stream.broker.log import Message, Partition, TopicSpec
from lmlp_stream.broker.memory import MemoryLog
from lmlp_stream.service.dead_letters import dead_letters, redrive, whole
from lmlp_stream.wire.dead_letter import MAX_KEPT_BYTES, MAX_KEY_BYTES, DeadLetter, encode_dead_letter
from lmlp_stream.wire.rejection import Reason, Rejection

TOPIC = "lmlp.structures.v1"
LETTERS = "lmlp.dead-letters.v1"


def letter_of(message: Message, reason: Reason = Reason.NOT_MSGPACK) -> DeadLetter:
    return DeadLetter(
        reason=reason,
        detail="",
        topic=message.partition.topic,
        partition=message.partition.index,
        offset=message.offset,
        timestamp_ms=message.timestamp_ms,
        key=message.key,
        value=message.value,
    )


def log_of(*records: tuple[bytes, bytes], n_partitions: int = 3) -> MemoryLog:
    """A log of records, every one of which was refused."""
    log = MemoryLog()
    log.ensure([TopicSpec(TOPIC, n_partitions=n_partitions), TopicSpec(LETTERS)])
    for key, value in records:
        log.append(TOPIC, key, value, ())
    for message in messages(log):
        log.append(LETTERS, b"", encode_dead_letter(letter_of(message)), ())
    return log


def messages(log: MemoryLog) -> list[Message]:
    return log.read(dict.fromkeys(log.partitions(TOPIC), 0), 1000, 0.0)


def first_letter(log: MemoryLog) -> DeadLetter:
    letter = next(dead_letters(log, LETTERS))
    assert isinstance(letter, DeadLetter)
    return letter


@pytest.mark.parametrize(
    ("key", "value"), [(b"k" * (MAX_KEY_BYTES + 1), b"v"), (b"k", b"v" * (MAX_KEPT_BYTES + 1)), (b"", b"")]
)
def test_a_cut_letter_is_completed_from_the_log_and_redriven_once(key: bytes, value: bytes) -> None:
    log = log_of((key, value))
    assert len(redrive(log, LETTERS, lambda _: True, dry_run=False).published) == 1
    assert len(redrive(log, LETTERS, lambda _: True, dry_run=False).before) == 1
    assert [(message.key, message.value) for message in messages(log)] == [(key, value)] * 2


def test_a_cut_letter_whose_message_is_gone_is_lost_and_the_others_go() -> None:
    log = log_of((b"k", b"v"))
    gone = Message(Partition(TOPIC, 0), 77, b"k", b"v" * (MAX_KEPT_BYTES + 1), (), -1)
    log.append(LETTERS, b"", encode_dead_letter(letter_of(gone)), ())
    redriven = redrive(log, LETTERS, lambda _: True, dry_run=False)
    assert redriven.lost == (f"{TOPIC}/0/77",)
    assert len(redriven.published) == 1


def test_a_message_at_the_address_that_is_another_one_is_not_taken() -> None:
    refused = Message(Partition(TOPIC, 0), 0, b"k", b"v" * (MAX_KEPT_BYTES + 1), (), -1)
    log = log_of((b"k", b"another"), n_partitions=1)
    log.append(LETTERS, b"", encode_dead_letter(letter_of(refused)), ())
    *_, letter = dead_letters(log, LETTERS)
    assert isinstance(letter, DeadLetter)
    assert whole(log, letter) is None


def test_two_letters_for_one_message_redrive_it_once() -> None:
    log = log_of((b"k", b"v"))
    log.append(LETTERS, b"", encode_dead_letter(first_letter(log)), ())
    assert len(redrive(log, LETTERS, lambda _: True, dry_run=False).published) == 1


def test_a_letter_that_one_learner_wrote_twice_is_read_once() -> None:
    log = log_of((b"k", b"v"), (b"l", b"w"))
    first, second = dead_letters(log, LETTERS)
    assert isinstance(first, DeadLetter)
    log.append(LETTERS, b"", encode_dead_letter(first), ())
    assert list(dead_letters(log, LETTERS)) == [first, second]
    log.append(LETTERS, b"", encode_dead_letter(first), (("lmlp.learner", b"another"),))
    assert list(dead_letters(log, LETTERS)) == [first, second, first]


def test_a_message_that_is_refused_again_can_be_redriven_again() -> None:
    log = log_of((b"k", b"v"))
    redrive(log, LETTERS, lambda _: True, dry_run=False)
    again = max(messages(log), key=lambda message: message.offset)
    log.append(LETTERS, b"", encode_dead_letter(letter_of(again)), ())
    redriven = redrive(log, LETTERS, lambda _: True, dry_run=False)
    assert (len(redriven.before), len(redriven.published)) == (1, 1)


def test_what_is_no_letter_is_passed_over() -> None:
    log = log_of((b"k", b"v"))
    log.append(LETTERS, b"", b"\xc1", ())
    assert [type(letter) for letter in dead_letters(log, LETTERS)] == [DeadLetter, Rejection]
    assert len(redrive(log, LETTERS, lambda _: True, dry_run=False).published) == 1
