"""The demo's folder and the configuration that every process of it reads."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from lmlp_stream.errors import UsageError

DEFAULT_FOLDER = "lmlp-demo"
FARM_WORKERS = 2
LEVEL_OF_THEORY = "GFN2-xTB"
LARGEST_FORCE = 15.0
"""Labels with a larger force component are of no use here and refused, eV/Å: thermal structures stay below."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """What the user chose.

    Attributes:
        folder: Where everything of this run lies; absolute.
        labels: Labels the farm publishes.
        seconds: Longest time labels stream, s; learning the rest and the report come on top.
        seed: Seed of the geometries, velocities and networks.
    """

    folder: Path
    labels: int
    seconds: float
    seed: int

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.folder / "config.toml"

    @property
    def log(self) -> Path:
        """The SQLite log."""
        return self.folder / "log.db"

    @property
    def store(self) -> Path:
        """Snapshots and checkpoints."""
        return self.folder / "store"

    @property
    def test_file(self) -> Path:
        """Structures the farm computed and never published."""
        return self.folder / "test.extxyz"

    @property
    def simulation_lines(self) -> Path:
        """What the simulation did, as JSON lines."""
        return self.folder / "simulation.jsonl"

    @property
    def trajectory(self) -> Path:
        """The simulation's structures, each with the id of its snapshot."""
        return self.folder / "trajectory.extxyz"

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"

    @property
    def summary(self) -> Path:
        """The summary."""
        return self.folder / "summary.json"

    def output_of(self, process: str) -> Path:
        """What a process printed."""
        return self.folder / f"{process}.txt"


def require_tblite() -> None:
    """Nothing, if the reference method can be computed here.

    Raises:
        UsageError: tblite is not installed.
    """
    if importlib.util.find_spec("tblite") is None:
        raise UsageError("the demo computes GFN2-xTB with tblite, which is missing: pip install 'lmlp-stream[demo]'")


def new_folder(asked: Path | None) -> Path:
    """An empty folder for a run: the one asked for, else `lmlp-demo`, `lmlp-demo-2` and so on.

    Raises:
        UsageError: The folder asked for is not empty or cannot be made.
    """
    if asked is not None:
        folder = asked.absolute()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{asked} is not an empty folder; name another with --output")
    else:
        folder = Path(DEFAULT_FOLDER).absolute()
        number = 1
        while folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            number += 1
            folder = Path(f"{DEFAULT_FOLDER}-{number}").absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {folder}: {error.strerror}; name another with --output") from error
    return folder


def config_text(settings: DemoSettings) -> str:
    """The demo's configuration: a small potential, a short memory, snapshots every minute fraction."""
    return f"""\
# Written by `lmlp-stream demo`. Every other setting is at its default: `lmlp-stream config show` lists them.
seed = {settings.seed}
name = "demo"

[log]
url = "sqlite:{settings.log}"

[store]
url = "{settings.store}"

[wire]
level_of_theory = "{LEVEL_OF_THEORY}"
min_distance = 0.6
max_force = {LARGEST_FORCE}

[potential]
members = 4
hidden = [48, 32]
linear_features = 300
device = "cpu"
threads = 1

[learning]
steps_per_record = 3.0

[rehearsal]
holdout_share = 0.15

[service]
tick_wait_s = 1.0
checkpoint_every_s = 20.0
snapshot_every = 60
metrics_port = 0

[simulate]
max_requests = 80
min_calls_between_requests = 25

[label]
calculator = "tblite.ase:TBLite"
arguments = {{ method = "{LEVEL_OF_THEORY}", verbosity = 0 }}
"""
