from dataclasses import replace

import pytest

from lmlp_stream.broker.memory import MemoryLog
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.config import Config
from lmlp_stream.errors import BrokerError, DamagedStoreError, UntrustedError
from lmlp_stream.simulate.follower import Follower
from lmlp_stream.store.signing import KEY, KeyPair, new_key_pair, signer
from lmlp_stream.wire.announcement import SnapshotManifest, announce

CONFIG = Config()
TOPIC = CONFIG.log.snapshots


def test_announcements_are_told_once_in_their_order(log: MemoryLog, learner) -> None:
    first, second = learner.tell(10), learner.tell(20)
    follower = Follower(log, TOPIC)
    assert follower.new_manifests() == (first, second)
    assert follower.new_manifests() == ()
    third = learner.tell(30)
    assert follower.new_manifests() == (third,)
    assert follower.latest() == third


def test_a_snapshot_announced_again_after_a_crash_is_told_once(log: MemoryLog, learner) -> None:
    first = learner.tell(10)
    learner.send(b"another key", announce(replace(first, created_at="2026-03-01T00:00:00+00:00")))
    follower = Follower(log, TOPIC)
    assert follower.new_manifests() == (first,)
    learner.announce(first)
    assert follower.new_manifests() == ()


def test_damaged_announcements_are_passed_over(log: MemoryLog, learner) -> None:
    learner.send(b"a", b"\xff")
    good = learner.tell(10)
    learner.send(b"b", announce(good)[:-7])
    learner.send(b"c", announce(good).replace(b"GFN2-xTB", b"GFN1-xTB"))
    assert Follower(log, TOPIC).new_manifests() == (good,)


def test_the_latest_learned_the_most_labels(log: MemoryLog, learner) -> None:
    more = learner.tell(20)
    learner.tell(10)
    assert Follower(log, TOPIC).latest() == more


def test_only_the_named_learner_is_followed(log: MemoryLog, learner) -> None:
    ours, theirs = learner.tell(10, name="ours"), learner.tell(20, name="theirs")
    assert Follower(log, TOPIC, "ours").latest() == ours
    assert Follower(log, TOPIC).latest() == theirs


def test_a_follower_may_start_before_the_topic_exists(log: MemoryLog, learner) -> None:
    follower = Follower(log, TOPIC)
    assert follower.new_manifests() == ()
    assert follower.latest() is None
    log.ensure(topic_specs(CONFIG.log))
    assert follower.latest() is None
    first = learner.tell(10)
    assert follower.wait(timeout_s=0.0) == first


def test_waiting_in_vain_says_what_is_missing(log: MemoryLog) -> None:
    with pytest.raises(BrokerError, match=r"no snapshot .* by learner 'water' on lmlp\.snapshots\.v1 within 0 s"):
        Follower(log, TOPIC, "water").wait(timeout_s=0.0)


def test_a_loaded_snapshot_is_verified(log: MemoryLog, learner) -> None:
    manifest = learner.tell(10)
    follower = Follower(log, TOPIC)
    assert follower.load(manifest).elements == (1, 8, 14)
    (learner.store / manifest.id / "weights.safetensors").write_bytes(b"")
    with pytest.raises(DamagedStoreError):
        follower.load(manifest)


def test_with_a_trusted_key_the_unsigned_and_the_wrongly_signed_are_passed_over(log: MemoryLog, learner) -> None:
    ours, theirs = new_key_pair(), new_key_pair()
    unsigned = learner.tell(30)
    forged = signed_by(theirs, learner.tell(20))
    learner.announce(forged)
    follower = Follower(log, TOPIC, trusted_keys=(ours.public,))
    assert follower.latest() is None
    assert follower.untrusted.keys() == {unsigned.id, forged.id}
    with pytest.raises(UntrustedError, match=r"2 snapshots were announced, .* is of none of simulate\.trusted_keys"):
        follower.wait(timeout_s=0.0)

    genuine = signed_by(ours, forged)
    learner.announce(genuine)
    assert follower.latest() == genuine
    assert follower.load(genuine).elements == (1, 8, 14)
    assert follower.untrusted.keys() == {unsigned.id}
    with pytest.raises(UntrustedError):
        follower.load(unsigned)


def signed_by(pair: KeyPair, manifest: SnapshotManifest) -> SnapshotManifest:
    return replace(manifest, signature=signer({KEY: pair.private})(manifest.id))


def test_a_closed_follower_goes_on_where_it_was(log: MemoryLog, learner) -> None:
    learner.tell(10)
    follower = Follower(log, TOPIC)
    follower.latest()
    follower.close()
    second = learner.tell(20)
    assert follower.new_manifests() == (second,)
