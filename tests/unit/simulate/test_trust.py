"""With trusted keys, a calculator computes with nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
from ase import Atoms

from lmlp_stream.broker.open import open_log
from lmlp_stream.config import Config, LogConfig, SimulateConfig
from lmlp_stream.errors import DamagedStoreError, UntrustedError
from lmlp_stream.simulate.calculator import LmlpCalculator
from lmlp_stream.simulate.follower import Follower
from lmlp_stream.store.signing import KEY, KeyPair, new_key_pair, signer
from lmlp_stream.wire.announcement import SnapshotManifest

OURS, THEIRS = new_key_pair(), new_key_pair()
TRUSTING = SimulateConfig(trusted_keys=(OURS.public,))


def signed(manifest: SnapshotManifest, by: KeyPair) -> SnapshotManifest:
    return replace(manifest, signature=signer({KEY: by.private})(manifest.id))


def test_a_calculator_takes_a_signed_snapshot(published, water: Atoms) -> None:
    manifest = signed(published(), OURS)
    calculator = LmlpCalculator(manifest, device="cpu", config=TRUSTING)
    assert calculator.get_potential_energy(water)
    assert calculator.snapshot_id == manifest.id


def test_a_calculator_refuses_the_unsigned_and_the_wrongly_signed(published) -> None:
    manifest = published()
    folder = Path(manifest.weights_uri.removeprefix("file://")).parent
    for where in (manifest, folder, signed(manifest, THEIRS), replace(signed(manifest, OURS), signature="0" * 128)):
        with pytest.raises(UntrustedError):
            LmlpCalculator(where, device="cpu", config=TRUSTING)


def test_a_following_calculator_stays_with_its_snapshot_when_a_newer_one_is_not_signed(learner, log) -> None:
    first = signed(learner.tell(10), OURS)
    learner.announce(first)
    follower = Follower(log, Config().log.snapshots, trusted_keys=TRUSTING.trusted_keys)
    calculator = LmlpCalculator(follower.wait(0.0), device="cpu", config=TRUSTING, follower=follower)
    learner.tell(20)
    assert not calculator.update()
    assert calculator.snapshot_id == first.id


def test_following_a_log_without_a_signed_snapshot_ends_with_the_reason(learner, tmp_path: Path) -> None:
    url = "memory:trust"
    learner.log = open_log(url, client="test")
    learner.tell(10)
    config = Config(log=LogConfig(url=url), simulate=TRUSTING)
    with pytest.raises(DamagedStoreError, match=r"is not signed; simulate\.trusted_keys asks"):
        LmlpCalculator.follow(config, device="cpu", timeout_s=0.0)
