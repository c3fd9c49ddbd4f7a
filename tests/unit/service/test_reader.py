"""The reader: what a tick learns does not depend on polls, restarts or the order of partitions."""

import pytest

from lmlp_stream.broker.log import Partition, TopicSpec
from lmlp_stream.broker.memory import MemoryLog
from lmlp_stream.errors import BrokerError
from lmlp_stream.service import reader as reader_module
from lmlp_stream.service.reader import Reader, ranges_of
from lmlp_stream.wire.journal import Range

TOPIC = "lmlp.structures.v1"


def filled(n_messages: int, n_partitions: int) -> MemoryLog:
    log = MemoryLog()
    log.ensure([TopicSpec(TOPIC, n_partitions=n_partitions)])
    sink = log.sink()
    for number in range(n_messages):
        sink.send(TOPIC, key=f"group {number % 7}".encode(), value=str(number).encode())
    return log


def reader_of(log: MemoryLog) -> Reader:
    return Reader(log, dict.fromkeys(log.partitions(TOPIC), 0))


def propose(reader: Reader, n_records: int, *, until_end: bool = True, wait_s: float = 0.01):
    return reader.propose(n_records, wait_s=wait_s, until_end=until_end, stopped=lambda: False)


@pytest.mark.parametrize("n_partitions", [1, 4])
def test_ticks_are_the_same_whether_the_reader_was_restarted_or_not(n_partitions: int) -> None:
    log = filled(50, n_partitions)
    through, values = reader_of(log), []
    while messages := propose(through, 8).messages:
        values.append([m.value for m in through.take(ranges_of(messages, through.positions))])

    restarted = reader_of(log)
    for expected in values:
        restarted = Reader(log, restarted.positions)
        ranges = ranges_of(propose(restarted, 8).messages, restarted.positions)
        assert [m.value for m in restarted.take(ranges)] == expected
    assert sorted(int(v) for tick in values for v in tick) == list(range(50))


def test_a_journalled_tick_is_taken_whatever_was_read_before() -> None:
    log = filled(20, 1)
    reader = reader_of(log)
    propose(reader, 16)
    assert [m.value for m in reader.take((Range(0, 0, 5),))] == [b"0", b"1", b"2", b"3", b"4"]
    assert [m.value for m in propose(reader, 4).messages] == [b"5", b"6", b"7", b"8"]
    assert reader.lag() == {0: 15}


@pytest.mark.parametrize("answers", [True, False])
def test_silence_says_whether_the_log_answered(monkeypatch: pytest.MonkeyPatch, answers: bool) -> None:
    reader = reader_of(filled(0, 1))
    monkeypatch.setattr(reader._source, "at_end", lambda: answers)
    proposal = propose(reader, 4, until_end=False)
    assert (proposal.messages, proposal.ended, proposal.heard) == ((), False, answers)


def test_the_end_is_told_with_the_last_records() -> None:
    reader = reader_of(filled(3, 1))
    proposal = propose(reader, 16)
    assert len(proposal.messages) == 3
    assert proposal.ended


def test_silence_makes_a_smaller_tick() -> None:
    reader = reader_of(filled(3, 1))
    proposal = propose(reader, 16, until_end=False)
    assert len(proposal.messages) == 3
    assert not proposal.ended


@pytest.mark.parametrize("answers", [True, False])
def test_in_silence_the_reader_says_whether_the_log_answers(monkeypatch: pytest.MonkeyPatch, answers: bool) -> None:
    reader, heard = reader_of(filled(0, 1)), []
    monkeypatch.setattr(reader._source, "at_end", lambda: answers)
    reader.propose(16, wait_s=9.0, until_end=False, stopped=lambda: bool(heard), heard=heard.append)
    assert heard == [answers]


def test_a_stopped_reader_proposes_nothing() -> None:
    reader = reader_of(filled(3, 1))
    proposal = reader.propose(16, wait_s=9.0, until_end=False, stopped=lambda: True)
    assert proposal.ended
    assert proposal.messages == ()


def test_records_the_log_does_not_have_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "FETCH_TIMEOUT_S", 0.05)
    monkeypatch.setattr(reader_module, "POLL_S", 0.01)
    reader = reader_of(filled(3, 1))
    with pytest.raises(reader_module.BrokerError, match="truncated"):
        reader.take((Range(0, 0, 9),))
    assert Partition(TOPIC, 0) in reader.positions


@pytest.mark.parametrize("n_records", [4, 6])
def test_a_range_that_holds_more_or_fewer_records_than_the_journal_says_is_an_error(n_records: int) -> None:
    log = filled(20, 1)
    del log._messages[Partition(TOPIC, 0)][3]
    reader = reader_of(log)
    message = rf"names {n_records} records of {TOPIC}\[0\] from offset 0 up to 6, and the log has 5 there: .*; restore"
    with pytest.raises(BrokerError, match=message):
        reader.take((Range(0, 0, 6, n_records),))
    assert len(reader_of(log).take((Range(0, 0, 6),))) == 5


def test_ranges_count_their_records() -> None:
    reader = reader_of(filled(20, 4))
    messages = propose(reader, 16).messages
    ranges = ranges_of(messages, reader.positions)
    assert sum(item.n_records for item in ranges) == 16
    assert [item.n_records for item in ranges] == [item.end - item.begin for item in ranges]


def test_a_position_that_the_log_does_not_reach_stops_the_learner_at_once() -> None:
    with pytest.raises(reader_module.BrokerError, match=r"position 9 of .* lies outside"):
        Reader(filled(3, 1), {Partition(TOPIC, 0): 9})
