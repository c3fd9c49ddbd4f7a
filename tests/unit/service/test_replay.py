"""What a replay needs, and what it says where that is missing."""

from dataclasses import replace

import pytest

from lmlp_stream.broker.memory import MemoryLog
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.config import Config
from lmlp_stream.errors import BrokerError
from lmlp_stream.service.journal import Journal
from lmlp_stream.service.replay import chain_to, replay
from lmlp_stream.wire.announcement import SnapshotManifest
from lmlp_stream.wire.journal import Range


def manifest(parent_id: str = "", journal_position: int = 1) -> SnapshotManifest:
    unnamed = SnapshotManifest(
        id="",
        name="lmlp",
        step=3,
        labels_learned=3,
        journal_position=journal_position,
        elements=(1, 6),
        cutoff=5.2,
        level_of_theory="EMT",
        symmetry={},
        potential={},
        errors={},
        calibration={},
        weights_uri="",
        weights_sha256="0" * 64,
        parent_id=parent_id,
        code_version="0",
        created_at="2026-01-01T00:00:00+00:00",
    )
    return replace(unnamed, id=unnamed.content_id())


def journalled(config: Config, *begins: int) -> MemoryLog:
    """A log with a journal of ticks of one record each, and no records."""
    log = MemoryLog()
    log.ensure(topic_specs(config.log, config.name))
    journal = Journal(log, config.log.journal(config.name), "writer")
    journal.claim()
    for number, begin in enumerate(begins):
        journal.write_tick(number, (Range(0, begin, begin + 1),))
    return log


def test_a_chain_leads_from_the_first_snapshot_to_the_target() -> None:
    first = manifest()
    second = manifest(first.id, 2)
    third = manifest(second.id, 3)
    assert chain_to(second, [third, first, second]) == (first, second)


def test_a_chain_with_a_hole_is_an_error() -> None:
    first = manifest()
    with pytest.raises(BrokerError, match=f"{first.id} as its parent"):
        chain_to(manifest(first.id, 2), [])


def test_a_journal_that_ends_before_the_snapshot_is_an_error() -> None:
    with pytest.raises(BrokerError, match="after 3 journal entries"):
        replay(Config(), journalled(Config(), 0, 1), [manifest(journal_position=3)], lambda _: None)


def test_a_log_that_no_longer_begins_where_the_journal_does_is_an_error() -> None:
    with pytest.raises(BrokerError, match="the log lost records"):
        replay(Config(), journalled(Config(), 7), [manifest()], lambda _: None)


def test_snapshots_of_one_place_are_no_chain() -> None:
    first = manifest(journal_position=0)
    with pytest.raises(BrokerError, match="do not follow each other"):
        replay(Config(), journalled(Config()), [first], lambda _: None)
