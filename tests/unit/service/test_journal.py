"""The journal: decisions survive, and one writer at a time decides."""

import pytest

from lmlp_stream.broker.log import Partition, TopicSpec
from lmlp_stream.broker.memory import MemoryLog
from lmlp_stream.errors import BrokerError, FencedError
from lmlp_stream.service.journal import Journal
from lmlp_stream.wire.journal import Claim, Range, Tell, Tick, decode_entry, encode_entry

TOPIC = "lmlp.journal.test.v1"


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog()
    log.ensure([TopicSpec(TOPIC)])
    return log


def test_a_new_learner_replays_every_decision_of_the_old_one(log: MemoryLog) -> None:
    old = Journal(log, TOPIC, "old")
    assert old.claim() == []
    decisions = [old.write_tick(0, (Range(0, 0, 16),)), old.write_tick(1, (Range(0, 16, 20),)), old.write_tell(2)]

    new = Journal(log, TOPIC, "new")
    assert new.claim() == decisions
    assert new.epoch == 2


def test_a_learner_starts_behind_the_decisions_its_checkpoint_holds(log: MemoryLog) -> None:
    old = Journal(log, TOPIC, "old")
    old.claim()
    old.write_tick(0, (Range(0, 0, 16),))
    position, epoch = old.position, old.epoch
    second = old.write_tick(1, (Range(0, 16, 32),))

    assert Journal(log, TOPIC, "new", position=position, epoch=epoch).claim() == [second]


def test_a_learner_that_slept_through_a_claim_is_fenced_and_its_decision_counts_for_nobody(log: MemoryLog) -> None:
    sleeper = Journal(log, TOPIC, "sleeper")
    sleeper.claim()
    first = sleeper.write_tick(0, (Range(0, 0, 16),))
    other = Journal(log, TOPIC, "other")
    other.claim()

    with pytest.raises(FencedError, match="taken over"):
        sleeper.write_tick(1, (Range(0, 16, 99),))
    with pytest.raises(FencedError, match="taken over"):
        Journal(log, TOPIC, "sleeper", position=1, epoch=1).confirm()

    theirs = other.write_tick(1, (Range(0, 16, 32),))
    assert Journal(log, TOPIC, "third").claim() == [first, theirs]


def test_a_learner_from_elsewhere_is_refused_unless_it_takes_over(log: MemoryLog) -> None:
    first = Journal(log, TOPIC, "first", home=("id-1", "host:/a"))
    first.claim()
    for home in (("id-2", "host:/a"), ("id-2", "other:/a")):
        Journal(log, TOPIC, "neighbor", home=home).claim(take_over=home[1] == "other:/a")
    back = Journal(log, TOPIC, "back", home=("id-1", "host:/a"))
    with pytest.raises(FencedError, match=r"other:/a.*--take-over"):
        back.claim()
    with pytest.raises(FencedError, match="taken over"):
        first.confirm()
    back.claim(take_over=True)
    back.release()
    Journal(log, TOPIC, "anybody", home=("id-3", "third:/c")).claim()
    back = Journal(log, TOPIC, "back", home=("id-1", "host:/a"))
    back.claim(take_over=True)
    assert Journal(log, TOPIC, "moved", home=("id-1", "third:/b")).claim() == []


def test_of_two_claims_of_the_same_epoch_the_first_counts(log: MemoryLog) -> None:
    class Late(Journal):
        """A learner that another one overtakes between its look at the journal and its claim."""

        def _append(self, entry: Claim | Tick | Tell) -> None:
            sink = log.sink()
            sink.send(TOPIC, key=b"early", value=encode_entry(Claim(1, "early")))
            super()._append(entry)

    with pytest.raises(FencedError, match="early"):
        Late(log, TOPIC, "late").claim()


def test_a_damaged_entry_stops_the_learner(log: MemoryLog) -> None:
    log.sink().send(TOPIC, key=b"", value=b"\xc1")
    with pytest.raises(BrokerError, match="offset 0 is damaged"):
        Journal(log, TOPIC, "new").claim()


@pytest.mark.parametrize(
    "entry",
    [Claim(3, "w"), Claim(3, "w", ("id", "h:/p")), Tick(3, "w", 7, (Range(0, 1, 5), Range(2, 0, 9))), Tell(3, "w", 8)],
)
def test_an_entry_survives_the_wire(entry: Claim | Tick | Tell) -> None:
    assert decode_entry(encode_entry(entry)) == entry


@pytest.mark.parametrize("value", [b"", b"\x80", b"\x93\x01\x02\x03", b"\xff" * 9, encode_entry(Tell(1, "w", 2))[:-3]])
def test_other_bytes_are_no_entry(value: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - msgpack's own words
        decode_entry(value)


def test_the_journal_begins_where_the_log_begins(log: MemoryLog) -> None:
    assert Journal(log, TOPIC, "new").position == log.bounds(Partition(TOPIC, 0)).begin


def test_a_checkpoint_in_the_middle_of_a_replay_stands_before_what_is_not_done(log: MemoryLog) -> None:
    old = Journal(log, TOPIC, "old")
    old.claim()
    decisions = [old.write_tick(number, (Range(0, 8 * number, 8 * number + 8),)) for number in range(3)]

    replaying = Journal(log, TOPIC, "replaying")
    replaying.claim()
    replaying.done()
    position, epoch = replaying.place
    assert Journal(log, TOPIC, "next", position=position, epoch=epoch).claim() == decisions[1:]


def test_a_journal_that_ends_before_a_checkpoint_stops_the_learner(log: MemoryLog) -> None:
    with pytest.raises(BrokerError, match=r"position 7 of .* lies outside"):
        Journal(log, TOPIC, "new", position=7, epoch=1)
