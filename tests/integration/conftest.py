"""A small deterministic stream: rattled molecules with the energies and forces of ASE's effective medium theory."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.broker.log import Log
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.config import Config, load_config
from lmlp_stream.wire.record import encode

LEVEL = "EMT"
NAMES = ("H2O", "CH4", "NH3", "CH3OH")

SMALL = """
seed = 7
[log]
url = "sqlite:{folder}/log.db"
[store]
url = "{folder}/store"
[wire]
level_of_theory = "EMT"
max_net_force = 5.0
[potential]
members = 2
hidden = [12, 8]
linear_features = 16
dtype = "{dtype}"
device = "cpu"
threads = 1
[learning]
records_per_tick = 8
steps_per_record = 1.0
batch_size = 6
[rehearsal]
capacity = 40
holdout_share = 0.1
[quarantine]
enabled = false
[service]
checkpoint_every_s = 0.3
snapshot_every = 24
metrics_port = 0
"""


def stream(n_structures: int, seed: int = 0) -> list[LabelledStructure]:
    generator = np.random.default_rng(seed)
    structures = []
    for number in range(n_structures):
        atoms = molecule(NAMES[number % len(NAMES)])
        atoms.positions += generator.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = EMT()
        structures.append(
            LabelledStructure(
                id=f"structure {seed}/{number}",
                group=f"group {seed}/{number // 4}",
                domain=NAMES[number % len(NAMES)],
                atomic_numbers=atoms.numbers.astype(np.int64),
                positions=atoms.positions,
                cell=np.zeros((3, 3)),
                pbc=np.zeros(3, dtype=bool),
                energy=float(atoms.get_potential_energy()),
                forces=atoms.get_forces(),
                level_of_theory=LEVEL,
                source="test",
            )
        )
    return structures


def write(config: Config, log: Log, records: list[bytes]) -> None:
    log.ensure(topic_specs(config.log, config.name))
    sink = log.sink()
    for number, record in enumerate(records):
        sink.send(config.log.structures, key=f"{number // 4}".encode(), value=record)
    sink.close()


class Learning:
    """A configuration in a folder of its own, and the learner's process."""

    def __init__(self, folder: Path, dtype: str = "float64", settings: tuple[str, ...] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "lmlp.toml"
        self.path.write_text(SMALL.format(folder=folder, dtype=dtype))
        self.config = load_config(self.path, settings)
        self._settings = settings

    def command(self, verb: str, *arguments: str) -> list[str]:
        settings = [part for setting in self._settings for part in ("--set", setting)]
        return [sys.executable, "-m", "lmlp_stream.cli.main", verb, str(self.path), *settings, *arguments]

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command("learn", *arguments), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def learn(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command("learn", *arguments), text=True, capture_output=True, check=False, timeout=300
        )


@pytest.fixture
def learning(tmp_path: Path) -> Callable[..., Learning]:
    """Makes a learner in a folder of the test."""

    def make(name: str = "run", **options: object) -> Learning:
        return Learning(tmp_path / name, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def records() -> list[bytes]:
    """Ninety labelled structures of four molecules, as they travel."""
    return [encode(structure) for structure in stream(90)]


@pytest.fixture
def publish() -> Callable[[Config, Log, list[bytes]], None]:
    """Writes records to the structures topic of a configuration."""
    return write
