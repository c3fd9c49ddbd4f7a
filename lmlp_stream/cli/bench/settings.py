"""What is measured, and for how long."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path

from lmlp_stream.config import Config, parse_config

MIN_STRUCTURES = 32
MIN_BATCHES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """The settings of one measurement.

    Attributes:
        structures: File of labelled structures; None: built-in ones.
        members: Potentials in the ensemble.
        batch: Structures of a batch.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads of the linear algebra.
        preset: Symmetry functions.
        dtype: Precision.
        elements: Which elements are learned.
        repeats: Least number of repeats.
        seconds: Least wall time of all repeats together, s.
    """

    structures: Path | None
    members: int
    batch: int
    device: str
    threads: int
    preset: str
    dtype: str
    elements: str
    repeats: int
    seconds: float

    @property
    def n_structures(self) -> int:
        """Structures that one repeat goes through: whole batches, at least `MIN_BATCHES` and `MIN_STRUCTURES`."""
        return self.batch * max(MIN_BATCHES, ceil(MIN_STRUCTURES / self.batch))

    def config(self, device: str) -> Config:
        """The default configuration with these settings."""
        return parse_config(
            {
                "wire": {"elements": self.elements},
                "symmetry": {"preset": self.preset},
                "potential": {
                    "members": self.members,
                    "device": device,
                    "threads": self.threads,
                    "dtype": self.dtype,
                },
            },
            place="bench",
        )
