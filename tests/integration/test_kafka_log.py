"""What only a real Kafka can show: settings of topics, killed brokers, deleted messages, transactions."""

import gc
import logging
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from lmlp_stream.broker.kafka import sink as sink_module
from lmlp_stream.broker.kafka import source
from lmlp_stream.broker.kafka.connection import Connection
from lmlp_stream.broker.kafka.log import KafkaLog
from lmlp_stream.broker.log import Message, Partition, TopicSpec, in_order
from lmlp_stream.broker.open import kafka_servers
from lmlp_stream.errors import BrokerError

pytestmark = pytest.mark.kafka


@pytest.fixture
def server(kafka_url: str) -> str:
    return kafka_url.removeprefix("kafka://")


@pytest.fixture
def log(kafka_url: str) -> Iterator[KafkaLog]:
    log = new_log(kafka_url)
    yield log
    log.close()


@pytest.fixture
def admin(server: str) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(bootstrap_servers=[server])
    yield admin
    admin.close()


def new_log(url: str) -> KafkaLog:
    return KafkaLog(kafka_servers(url.removeprefix("kafka:")), client="test", security={})


def new_topic(log: KafkaLog, n_partitions: int = 1, compacted: bool = False) -> str:
    spec = TopicSpec(f"test.{uuid.uuid4().hex}.v1", n_partitions=n_partitions, compacted=compacted)
    log.ensure([spec])
    return spec.name


def write(log: KafkaLog, topic: str, values: list[bytes]) -> None:
    sink = log.sink()
    for value in values:
        sink.send(topic, key=b"k", value=value)
    sink.close()


def read(log: KafkaLog, start: dict[Partition, int], n_messages: int) -> list[Message]:
    reader = log.source(start)
    messages: list[Message] = []
    while len(messages) < n_messages:
        polled = reader.poll(n_messages - len(messages), 60.0)
        assert polled
        messages += polled
    reader.close()
    return messages


@pytest.mark.parametrize("compacted", [False, True])
def test_topics_are_made_with_their_settings(log: KafkaLog, admin: KafkaAdminClient, compacted: bool) -> None:
    topic = new_topic(log, compacted=compacted)
    described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    settings = {name: entry["value"] for name, entry in described["topic"][topic].items()}
    assert settings["cleanup.policy"] == ("compact" if compacted else "delete")
    assert settings["retention.ms"] == "-1"
    assert settings["retention.bytes"] == "-1"
    assert settings["max.message.bytes"] == "9437184"


def test_committed_positions_are_the_offsets_of_a_group(log: KafkaLog, admin: KafkaAdminClient) -> None:
    topic = new_topic(log)
    write(log, topic, [b"0", b"1"])
    group = uuid.uuid4().hex
    log.commit(group, {Partition(topic, 0): 2})
    offsets = admin.list_group_offsets([group])[group]
    assert offsets[TopicPartition(topic, 0)].offset == 2


def test_messages_deleted_under_a_reader_stop_it(log: KafkaLog, admin: KafkaAdminClient) -> None:
    topic = new_topic(log)
    write(log, topic, [b"0", b"1", b"2", b"3"])
    admin.delete_records({TopicPartition(topic, 0): 3})
    assert log.bounds(Partition(topic, 0)).begin == 3
    reader = log.source({Partition(topic, 0): 1})
    with pytest.raises(BrokerError, match=r"position 1 of .* lies outside the log's 3 to 4"):
        reader.poll(1, 10.0)
    reader.close()


def test_aborted_transactions_are_never_read(log: KafkaLog, server: str) -> None:
    topic = new_topic(log)
    producer = KafkaProducer(bootstrap_servers=[server], transactional_id=uuid.uuid4().hex)
    producer.init_transactions()
    for value, kept in ((b"aborted", False), (b"kept", True), (b"aborted too", False)):
        producer.begin_transaction()
        producer.send(topic, value, b"k", partition=0)
        producer.commit_transaction() if kept else producer.abort_transaction()
    producer.close()
    write(log, topic, [b"after"])
    assert [message.value for message in read(log, {Partition(topic, 0): 0}, 2)] == [b"kept", b"after"]


def test_a_partition_that_ends_in_an_aborted_transaction_holds_up_no_other(log: KafkaLog, server: str) -> None:
    topic = new_topic(log, n_partitions=2)
    producer = KafkaProducer(bootstrap_servers=[server], transactional_id=uuid.uuid4().hex)
    producer.init_transactions()
    for index, kept in ((0, True), (0, True), (1, False)):
        producer.begin_transaction()
        producer.send(topic, b"%d" % index, b"k", partition=index)
        producer.commit_transaction() if kept else producer.abort_transaction()
    producer.close()
    messages = read(log, {Partition(topic, 0): 0, Partition(topic, 1): 0}, 2)
    assert [message.value for message in messages] == [b"0", b"0"]


def test_a_refused_message_is_told_and_the_next_sink_call_works(log: KafkaLog, admin: KafkaAdminClient) -> None:
    """The broker refuses it: its topic takes less than ours do. kafka-python's producer is poisoned after that."""
    topic = f"test.{uuid.uuid4().hex}.v1"
    admin.create_topics(
        {topic: {"num_partitions": 1, "configs": {"max.message.bytes": "1000"}}}, wait_for_metadata=True
    )
    sink = log.sink()
    sink.send(topic, key=b"k", value=b"small")
    sink.flush()
    sink.send(topic, key=b"k", value=os.urandom(5000))
    with pytest.raises(BrokerError, match="did not accept 1 messages"):
        sink.flush()
    sink.send(topic, key=b"k", value=b"small again")
    sink.close()
    assert [message.value for message in read(log, {Partition(topic, 0): 0}, 2)] == [b"small", b"small again"]


@pytest.mark.parametrize("ahead_bytes", [200_000, 16 * 2**20])
def test_the_order_holds_over_many_fetches(log: KafkaLog, monkeypatch: pytest.MonkeyPatch, ahead_bytes: int) -> None:
    monkeypatch.setattr(source, "_MAX_AHEAD_BYTES", ahead_bytes)
    topic = new_topic(log, n_partitions=3)
    sink = log.sink()
    for number in range(1200):
        sink.send(topic, key=b"%d" % number, value=os.urandom(4000))
    sink.close()
    messages = read(log, dict.fromkeys(log.partitions(topic), 0), 1200)
    assert messages == in_order(messages, 1200)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_killed_broker_costs_nothing(new_kafka: Callable[[], Any], caplog: pytest.LogCaptureFixture) -> None:
    """kafka-python 3.0 leaves the sockets of refused connections to the garbage collector: it is called here."""
    caplog.set_level(logging.CRITICAL, logger="kafka")
    broker = new_kafka()
    broker.start()
    log = new_log(broker.url)
    topic = new_topic(log, n_partitions=2)
    sink = log.sink()
    reader = log.source(dict.fromkeys(log.partitions(topic), 0))
    sent = [b"%d" % number for number in range(300)]
    for value in sent[:100]:
        sink.send(topic, key=value, value=value)
    sink.flush()
    messages = reader.poll(50, 60.0)
    broker.kill()
    for value in sent[100:200]:
        sink.send(topic, key=value, value=value)
    messages += reader.poll(1000, 0.5)
    assert not reader.at_end()
    broker.start()
    for value in sent[200:]:
        sink.send(topic, key=value, value=value)
    sink.close()
    while len(messages) < 300:
        polled = reader.poll(50, 60.0)
        assert polled
        messages += polled
    assert sorted(int(message.value) for message in messages) == list(range(300))
    reader.close()
    log.close()
    broker.stop()
    gc.collect()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_message_for_a_topic_that_was_not_written_to_yet_waits_for_a_broker_that_is_away(
    new_kafka: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The producer asks for the topic's leader for no longer than a request may take: it is asked again."""
    caplog.set_level(logging.CRITICAL, logger="kafka")
    monkeypatch.setattr(sink_module, "REQUEST_S", 0.2)
    broker = new_kafka()
    broker.start()
    log = new_log(broker.url)
    topics = [new_topic(log), new_topic(log)]
    sink = log.sink()
    sink.send(topics[0], key=b"k", value=b"before")
    sink.flush()
    again = threading.Timer(2.0, broker.start)
    described = Connection.partitions

    def described_for_the_last_time(connection: Connection, topic: str) -> tuple[Partition, ...]:
        found = described(connection, topic)
        broker.kill()
        again.start()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "partitions", described_for_the_last_time)
        sink.send(topics[1], key=b"k", value=b"during")
    again.join()
    sink.close()
    assert [message.value for message in read(log, {Partition(topics[1], 0): 0}, 1)] == [b"during"]
    log.close()
    broker.stop()
    gc.collect()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize("deed", ["create", "read"])
def test_a_program_that_begins_waits_for_a_broker_that_is_away(
    new_kafka: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, deed: str
) -> None:
    """A client of kafka-python gives up while it is made: the broker is killed just before."""
    caplog.set_level(logging.CRITICAL, logger="kafka")
    broker = new_kafka()
    broker.start()
    log = new_log(broker.url)
    topic = new_topic(log)
    write(log, topic, [b"before"])
    log._connection.settings["bootstrap_timeout_ms"] = 1000
    again = threading.Timer(3.0, broker.start)

    def killed() -> None:
        broker.kill()
        again.start()

    if deed == "create":
        killed()
        topic = new_topic(log)
        again.join()
        write(log, topic, [b"before"])
    else:
        attempts = []

        def late(**settings: object) -> KafkaConsumer:
            if not attempts:
                killed()
            attempts.append(settings)
            return KafkaConsumer(**settings)

        monkeypatch.setattr(source, "KafkaConsumer", late)
    reader = log.source({Partition(topic, 0): 0})
    while not (messages := reader.poll(1, 60.0)):
        pass
    again.join()
    assert [message.value for message in messages] == [b"before"]
    reader.close()
    if deed == "read":
        assert len(attempts) > 1
    log.close()
    broker.stop()
    gc.collect()
