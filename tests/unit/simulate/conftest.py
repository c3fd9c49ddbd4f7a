from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from lmlp_stream.atoms.structure import LabelledStructure, from_ase, unlabelled
from lmlp_stream.atoms.symmetry import AngularFunction, RadialFunction, SymmetrySpec
from lmlp_stream.broker.memory import MemoryLog
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.config import Config
from lmlp_stream.potential.baseline import Baseline
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.store.snapshot import Provenance, publish
from lmlp_stream.wire.announcement import SnapshotManifest, announce, announcement_key

CONFIG = Config()

SPEC = SymmetrySpec(
    cutoff=4.0,
    radial=(RadialFunction(1.0, 0.0, "1"), RadialFunction(2.0, 1.5, "n")),
    angular=(AngularFunction(0.5, 1.0, 1.0, 1, 1.0, "sum:1"),),
)


def with_energy(atoms: Atoms, energy: float) -> LabelledStructure:
    return replace(unlabelled(from_ase(atoms)), energy=energy)


def an_ensemble(seed: int, members: int = 3) -> Ensemble:
    """A potential of H, O and Si that was never trained but knows the compositions of water and silicon."""
    generator = torch.Generator().manual_seed(seed)
    baseline = Baseline({})
    baseline.fit([with_energy(molecule("H2O"), -14.0), with_energy(bulk("Si"), -10.0)])
    ensemble = Ensemble(
        SPEC, hidden=(5,), members=members, dtype=torch.float64, device=torch.device("cpu"), baseline=baseline
    )
    for z in (1, 8, 14):
        ensemble.add_element(z, torch.rand(6, SPEC.n_functions, generator=generator, dtype=torch.float64), generator)
    return ensemble


def a_provenance(labels_learned: int, name: str = CONFIG.name) -> Provenance:
    return Provenance(
        name=name,
        step=80,
        labels_learned=labels_learned,
        journal_position=2,
        level_of_theory="GFN2-xTB",
        errors={"energy_rmse_ev_per_atom": 1e-3, "force_rmse_ev_per_angstrom": 1e-3},
        calibration={},
        parent_id="",
        code_version="0.1.0",
        created_at="2026-01-01T00:00:00+00:00",
    )


@dataclass
class Learner:
    """Publishes and announces snapshots, each of another potential."""

    log: MemoryLog
    store: Path

    def tell(self, labels_learned: int, name: str = CONFIG.name) -> SnapshotManifest:
        manifest = publish(an_ensemble(labels_learned), a_provenance(labels_learned, name), self.store)
        self.announce(manifest)
        return manifest

    def announce(self, manifest: SnapshotManifest) -> None:
        self.send(announcement_key(manifest), announce(manifest))

    def send(self, key: bytes, value: bytes) -> None:
        self.log.ensure(topic_specs(CONFIG.log))
        sink = self.log.sink()
        sink.send(CONFIG.log.snapshots, key=key, value=value)
        sink.flush()


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def learner(log: MemoryLog, tmp_path: Path) -> Learner:
    return Learner(log, tmp_path / "store")


@pytest.fixture
def water() -> Atoms:
    return molecule("H2O")


@pytest.fixture
def silicon() -> Atoms:
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.fixture
def published(tmp_path: Path) -> Callable[..., SnapshotManifest]:
    def publish_one(seed: int = 0, members: int = 3, **errors: float) -> SnapshotManifest:
        provenance = a_provenance(10)
        if errors:
            provenance = replace(provenance, errors=errors)
        return publish(an_ensemble(seed, members), provenance, tmp_path / "published")

    return publish_one
