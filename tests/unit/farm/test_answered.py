import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmlp_stream.broker.log import Message, Partition, TopicSpec
from lmlp_stream.broker.memory import MemoryLog
from lmlp_stream.farm.answered import CLOCK_MARGIN_MS, Seen, address, answers, first_offset_since

PARTITION = Partition("t", 0)


def log_of(times: list[int], monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    log = MemoryLog()
    log.ensure([TopicSpec("t")])
    sink = log.sink()
    for offset, now in enumerate(times):
        monkeypatch.setattr("time.time", lambda now=now: (now + 0.5) / 1000)
        monkeypatch.setattr("time.time_ns", lambda now=now: now * 10**6)
        sink.send("t", key=str(offset).encode(), value=b"")
    monkeypatch.undo()
    return log


@given(st.lists(st.integers(0, 10**6), max_size=12), st.integers(-1, 10**6 + 1))
def test_reading_starts_at_the_first_message_that_is_not_older(times: list[int], since: int):
    with pytest.MonkeyPatch.context() as monkeypatch:
        log = log_of(sorted(times), monkeypatch)

    assert first_offset_since(log, PARTITION, since) == sum(time < since for time in times)


def test_what_is_in_the_log_now_is_seen(monkeypatch: pytest.MonkeyPatch):
    log = log_of([1, 2], monkeypatch)
    seen = Seen(log, "t", 0, lambda message: (message.key,))

    assert seen.holds(b"1")
    assert not seen.holds(b"later")
    log.sink().send("t", key=b"later", value=b"")
    assert seen.holds(b"later")
    seen.close()


def test_what_is_older_than_every_clock_allows_is_not_read(monkeypatch: pytest.MonkeyPatch):
    log = log_of([0, CLOCK_MARGIN_MS, CLOCK_MARGIN_MS + 2], monkeypatch)
    seen = Seen(log, "t", CLOCK_MARGIN_MS + 1, lambda message: (message.key,))

    assert [seen.holds(key) for key in (b"0", b"1", b"2")] == [False, True, True]


def test_an_answer_names_its_request():
    message = Message(PARTITION, 7, b"", b"", (("lmlp.request", b"r"), ("other", b"o")), 0)

    assert answers(message) == (b"r",)
    assert address(message) == b"t/0/7"
