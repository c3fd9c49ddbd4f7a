import pytest

from lmlp_stream.broker.memory import MemoryLog
from lmlp_stream.broker.topics import create_topics, topic_specs
from lmlp_stream.config import LogConfig


def test_only_structures_have_several_partitions():
    specs = topic_specs(LogConfig(partitions=3), "carbon")

    assert {spec.name: spec.n_partitions for spec in specs if spec.n_partitions > 1} == {"lmlp.structures.v1": 3}


def test_only_snapshots_are_compacted():
    assert [spec.name for spec in topic_specs(LogConfig(), "carbon") if spec.compacted] == ["lmlp.snapshots.v1"]


def test_a_journal_belongs_to_a_learner():
    assert [spec.name for spec in topic_specs(LogConfig(), "carbon")][-1] == "lmlp.journal.carbon.v1"
    assert all("journal" not in spec.name for spec in topic_specs(LogConfig()))


def test_every_topic_has_the_copies_that_are_asked_for():
    assert {spec.replication_factor for spec in topic_specs(LogConfig(replication_factor=3), "carbon")} == {3}


def test_another_number_of_partitions_for_a_topic_that_is_there_is_warned_of(caplog: pytest.LogCaptureFixture):
    log = MemoryLog()
    create_topics(log, LogConfig(partitions=2), "carbon")
    create_topics(log, LogConfig(partitions=2), "carbon")
    create_topics(log, LogConfig(), "carbon")
    assert caplog.messages == []
    create_topics(log, LogConfig(partitions=4), "carbon")
    assert len(log.partitions("lmlp.structures.v1")) == 2
    (said,) = caplog.messages
    assert said.startswith("log.partitions = 4 changes nothing: lmlp.structures.v1 was made with 2; set log.partitions")
