"""What every log promises: one body of tests for memory, SQLite and a real Kafka."""

import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lmlp_stream.broker.log import MAX_MESSAGE_BYTES, Log, Message, Partition, TopicSpec, partition_of
from lmlp_stream.broker.open import open_log
from lmlp_stream.errors import BrokerError

PATIENCE_S = 60.0


@pytest.fixture(params=["memory", "sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "kafka":
        found: str = request.getfixturevalue("kafka_url")
        return found
    return f"memory:{uuid.uuid4().hex}" if request.param == "memory" else f"sqlite:{tmp_path}/log.db"


@pytest.fixture
def log(url: str) -> Iterator[Log]:
    log = open_log(url, client="contract")
    yield log
    log.close()


@pytest.fixture
def topic(log: Log) -> str:
    """A topic of one partition."""
    return new_topic(log)


def new_topic(log: Log, n_partitions: int = 1, compacted: bool = False) -> str:
    spec = TopicSpec(f"test.{uuid.uuid4().hex}.v1", n_partitions=n_partitions, compacted=compacted)
    log.ensure([spec])
    return spec.name


def write(log: Log, topic: str, *messages: tuple[bytes, bytes]) -> None:
    sink = log.sink()
    for key, value in messages:
        sink.send(topic, key=key, value=value)
    sink.close()


def read(log: Log, start: Mapping[Partition, int], n_messages: int, poll_size: int = 100) -> list[Message]:
    """That many messages, or fewer if no more come."""
    source = log.source(start)
    messages: list[Message] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(messages) < n_messages and time.monotonic() < deadline:
        messages += source.poll(min(poll_size, n_messages - len(messages)), 1.0)
    source.close()
    return messages


def begins(log: Log, topic: str) -> dict[Partition, int]:
    return {partition: log.bounds(partition).begin for partition in log.partitions(topic)}


def key_for(index: int, n_partitions: int) -> bytes:
    """A key that belongs to this partition."""
    return next(key for key in map(b"key-%d".__mod__, range(1000)) if partition_of(key, n_partitions) == index)


def uneven_topic(log: Log) -> str:
    """Three partitions of 7, 2 and 4 messages, sent partition after partition."""
    topic = new_topic(log, n_partitions=3)
    for index, count in enumerate((7, 2, 4)):
        write(log, topic, *[(key_for(index, 3), b"%d/%d" % (index, number)) for number in range(count)])
    return topic


UNEVEN = [b"0/0", b"1/0", b"2/0", b"0/1", b"1/1", b"2/1", b"0/2", b"2/2", b"0/3", b"2/3", b"0/4", b"0/5", b"0/6"]


def test_a_created_topic_has_its_partitions_in_order(log: Log) -> None:
    topic = new_topic(log, n_partitions=3)
    assert log.partitions(topic) == (Partition(topic, 0), Partition(topic, 1), Partition(topic, 2))


def test_a_topic_that_exists_is_left_as_it_is(log: Log) -> None:
    topic = new_topic(log, n_partitions=2)
    write(log, topic, (b"k", b"kept"))
    log.ensure([TopicSpec(topic, n_partitions=5, compacted=True)])
    assert len(log.partitions(topic)) == 2
    assert [message.value for message in read(log, begins(log, topic), 1)] == [b"kept"]


def test_a_topic_that_does_not_exist_has_no_partitions_no_bounds_and_no_writers(log: Log) -> None:
    assert log.partitions("nowhere") == ()
    with pytest.raises(BrokerError, match="no partition nowhere"):
        log.bounds(Partition("nowhere", 0))
    sink = log.sink()
    with pytest.raises(BrokerError, match="no topic 'nowhere'"):
        sink.send("nowhere", key=b"", value=b"")
    sink.close()


def test_reading_a_partition_that_does_not_exist_is_refused(log: Log, topic: str) -> None:
    source = log.source({Partition(topic, 7): 0})
    with pytest.raises(BrokerError, match="no partition"):
        source.poll(1, 1.0)
    source.close()


def test_an_empty_partition_begins_where_it_ends_and_gives_nothing(log: Log, topic: str) -> None:
    bounds = log.bounds(Partition(topic, 0))
    assert bounds.begin == bounds.end
    source = log.source(begins(log, topic))
    assert source.poll(10, 0.05) == []
    source.close()


def test_a_message_arrives_as_it_was_sent(log: Log, topic: str) -> None:
    headers = (("format", b"labelled-structure/1"), ("twice", b""), ("twice", b"\xff\x00"))
    before_ms = int(time.time() * 1000)
    sink = log.sink()
    sink.send(topic, key=b"\x00key", value=bytes(range(256)), headers=headers)
    sink.send(topic, key=b"", value=b"")
    sink.close()
    first, second = read(log, begins(log, topic), 2)
    assert (first.key, first.value, first.headers) == (b"\x00key", bytes(range(256)), headers)
    assert (second.key, second.value, second.headers) == (b"", b"", ())
    assert before_ms <= first.timestamp_ms <= second.timestamp_ms


def test_bounds_follow_what_is_written(log: Log, topic: str) -> None:
    partition = Partition(topic, 0)
    begin = log.bounds(partition).begin
    write(log, topic, (b"k", b"0"), (b"k", b"1"), (b"k", b"2"))
    assert log.bounds(partition).begin == begin
    assert log.bounds(partition).end == begin + 3
    assert [message.offset for message in read(log, {partition: begin}, 3)] == [begin, begin + 1, begin + 2]


def test_a_source_starts_at_the_position_it_is_given(log: Log, topic: str) -> None:
    write(log, topic, *[(b"k", b"%d" % number) for number in range(5)])
    third = log.bounds(Partition(topic, 0)).begin + 3
    assert [message.value for message in read(log, {Partition(topic, 0): third}, 2)] == [b"3", b"4"]


def test_a_poll_gives_no_more_than_was_asked_for(log: Log, topic: str) -> None:
    write(log, topic, *[(b"k", b"%d" % number) for number in range(5)])
    source = log.source(begins(log, topic))
    assert 1 <= len(source.poll(2, PATIENCE_S)) <= 2
    source.close()


def test_messages_of_one_sink_keep_their_order(log: Log, topic: str) -> None:
    sent = [b"%d" % number for number in range(1500)]
    write(log, topic, *[(b"k", value) for value in sent])
    assert [message.value for message in read(log, begins(log, topic), 1500, poll_size=400)] == sent


def test_the_key_names_the_partition(log: Log) -> None:
    topic = new_topic(log, n_partitions=4)
    keys = [b"trajectory-%d" % number for number in range(40)]
    write(log, topic, *[(key, key) for key in keys])
    messages = read(log, begins(log, topic), 40)
    assert {message.key: message.partition.index for message in messages} == {key: partition_of(key, 4) for key in keys}


@pytest.mark.parametrize("poll_size", [1, 3, 100])
def test_the_lowest_offset_comes_first_whatever_the_polls_take(log: Log, poll_size: int) -> None:
    topic = uneven_topic(log)
    assert [message.value for message in read(log, begins(log, topic), 13, poll_size)] == UNEVEN


def test_an_interrupted_reader_goes_on_in_the_same_order(log: Log) -> None:
    topic = uneven_topic(log)
    for n_before in (1, 5, 9):
        positions = begins(log, topic)
        before = read(log, positions, n_before)
        positions |= {message.partition: message.offset + 1 for message in before}
        assert [message.value for message in before + read(log, positions, 13 - n_before)] == UNEVEN


def test_a_reader_at_the_end_gets_what_is_written_later_in_the_same_order(log: Log) -> None:
    topic = new_topic(log, n_partitions=2)
    source = log.source(begins(log, topic))
    assert source.poll(10, 0.2) == []
    write(log, topic, *[(key_for(index, 2), b"%d/%d" % (index, number)) for index in (1, 0) for number in range(3)])
    messages: list[Message] = []
    while len(messages) < 6:
        messages += source.poll(2, PATIENCE_S)
    source.close()
    assert [message.value for message in messages] == [b"0/0", b"1/0", b"0/1", b"1/1", b"0/2", b"1/2"]


def test_a_poll_that_waits_returns_when_something_comes(log: Log, topic: str) -> None:
    source = log.source(begins(log, topic))
    writer = threading.Timer(0.3, write, (log, topic, (b"k", b"late")))
    writer.start()
    assert [message.value for message in source.poll(10, PATIENCE_S)] == [b"late"]
    writer.join()
    source.close()


def test_a_source_knows_when_it_is_at_the_end(log: Log, topic: str) -> None:
    write(log, topic, (b"", b"0"), (b"", b"1"))
    source = log.source({Partition(topic, 0): log.bounds(Partition(topic, 0)).begin})
    n_messages = len(source.poll(1, PATIENCE_S))
    assert not source.at_end()
    while n_messages < 2:
        n_messages += len(source.poll(1, 1.0))
    assert source.at_end()
    write(log, topic, (b"", b"2"))
    assert not source.at_end()
    source.close()


def test_two_logs_at_one_url_are_the_same_log(url: str, log: Log, topic: str) -> None:
    other = open_log(url, client="other")
    write(other, topic, (b"k", b"shared"))
    assert [message.value for message in read(log, begins(log, topic), 1)] == [b"shared"]
    other.close()


@pytest.mark.parametrize("beyond", [-1, 1])
def test_a_position_outside_the_partition_stops_the_reader(log: Log, topic: str, beyond: int) -> None:
    write(log, topic, (b"k", b"0"), (b"k", b"1"))
    bounds = log.bounds(Partition(topic, 0))
    position = bounds.begin - 1 if beyond < 0 else bounds.end + 1
    source = log.source({Partition(topic, 0): position})
    with pytest.raises(BrokerError, match=f"position {position} of .* lies outside the log's {bounds.begin}"):
        source.poll(1, 1.0)
    source.close()


def test_the_largest_message_passes(log: Log, topic: str) -> None:
    value = os.urandom(MAX_MESSAGE_BYTES - 1)
    write(log, topic, (b"k", value))
    (message,) = read(log, begins(log, topic), 1)
    assert message.value == value


def test_a_larger_message_is_refused_and_the_sink_goes_on(log: Log, topic: str) -> None:
    sink = log.sink()
    sink.send(topic, key=b"k", value=b"before")
    with pytest.raises(BrokerError, match="larger than"):
        sink.send(topic, key=b"k", value=bytes(MAX_MESSAGE_BYTES))
    sink.send(topic, key=b"k", value=b"after")
    sink.close()
    assert [message.value for message in read(log, begins(log, topic), 2)] == [b"before", b"after"]


def test_a_compacted_topic_keeps_the_newest_of_each_key(log: Log) -> None:
    topic = new_topic(log, compacted=True)
    start = begins(log, topic)
    write(log, topic, *[(key, b"%s %d" % (key, number)) for number in range(5) for key in (b"a", b"b")])
    write(log, topic, (b"c", b"c 0"))
    assert log.bounds(Partition(topic, 0)).end == start[Partition(topic, 0)] + 11
    source = log.source(start)
    newest: dict[bytes, bytes] = {}
    while b"c" not in newest:
        newest |= {message.key: message.value for message in source.poll(100, PATIENCE_S)}
    source.close()
    assert newest == {b"a": b"a 4", b"b": b"b 4", b"c": b"c 0"}


def test_a_gap_of_a_compacted_topic_is_no_loss(log: Log) -> None:
    topic = new_topic(log, compacted=True)
    (partition,) = log.partitions(topic)
    begin = log.bounds(partition).begin
    write(log, topic, *[(b"a", b"%d" % number) for number in range(6)])
    for position in range(begin, begin + 6):
        messages = read(log, {partition: position}, 1)
        assert messages[0].offset >= position
    source = log.source({partition: begin + 6})
    assert source.poll(10, 0.1) == []
    source.close()


def test_committed_positions_move_no_reader(log: Log, topic: str) -> None:
    write(log, topic, (b"k", b"0"), (b"k", b"1"))
    begin = log.bounds(Partition(topic, 0)).begin
    log.commit("learner", {Partition(topic, 0): begin + 2})
    log.commit("learner", {Partition(topic, 0): begin + 1})
    assert len(read(log, begins(log, topic), 2)) == 2
