"""What one tick did: which structures were accepted, how they were predicted, which steps followed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmlp_stream.atoms.elements import SYMBOLS
from lmlp_stream.learning.evaluation import ERROR_ROW, calibration
from lmlp_stream.learning.quarantine import Condemned
from lmlp_stream.learning.trainer import StepReport


@dataclass(frozen=True, slots=True)
class Arrival:
    """One accepted structure as it was examined before it was learned.

    Attributes:
        id: Its id.
        domain: Molecule, reaction or phase.
        source: Who published it.
        held_out: Whether it is never learned.
        waits: Whether it is in quarantine: it does not fit.
        errors: Its `ERROR_ROW`, or None where the potential could not predict it: an element or composition is new, or
            it is of a further level of theory.
    """

    id: str
    domain: str
    source: str
    held_out: bool
    waits: bool
    errors: np.ndarray | None

    def named(self) -> dict[str, Any]:
        """The arrival as plain values with units in their names; NaN or None where nothing is known."""
        row = self.errors
        return {
            "id": self.id,
            "domain": self.domain,
            "source": self.source,
            "held_out": self.held_out,
            "waits": self.waits,
            "energy_error_ev_per_atom": None if row is None else float(row["energy_error"]),
            "force_squared_error_sum": None if row is None else float(row["force_squared"]),
            "n_force_components": 0 if row is None else int(row["n_forces"]),
        }


@dataclass(frozen=True, slots=True)
class TickReport:
    """What one tick did.

    Attributes:
        n_duplicates: Structures whose id was known; they changed nothing.
        n_learned: Structures that are learned from now on, those that came out of quarantine included.
        n_held_out: Structures that are held out from now on, those that came out of quarantine included.
        n_unlearned: Structures that wait from now on and were never learned, less those that waited and are learned.
        n_released: Structures that came out of quarantine, those that had been learned before included.
        n_recalled: Structures that had been learned, or held out unjudged, and wait now: what came later fits better.
        n_waiting: Structures in quarantine now.
        arrivals: The accepted structures in their order.
        new_elements: Atomic numbers whose networks were added.
        elements: Atomic numbers that are known now.
        steps: Optimizer steps in their order.
        inconsistent: Structures that do not fit, forgotten for ever.
        diverging: Structures that no step can be made with, forgotten for ever.
    """

    n_duplicates: int
    n_learned: int
    n_held_out: int
    n_unlearned: int
    n_released: int
    n_recalled: int
    n_waiting: int
    arrivals: tuple[Arrival, ...]
    new_elements: tuple[int, ...]
    elements: tuple[int, ...]
    steps: tuple[StepReport, ...]
    inconsistent: tuple[Condemned, ...]
    diverging: tuple[Condemned, ...]

    @property
    def rows(self) -> np.ndarray:
        """Errors of the arrivals that could be predicted, one `ERROR_ROW` each."""
        return np.array([a.errors for a in self.arrivals if a.errors is not None], dtype=ERROR_ROW)

    def named(self) -> dict[str, Any]:
        """The report as plain values, units in their names; NaN where nothing is known."""
        spread = calibration(self.rows)
        return {
            "n_new": len(self.arrivals),
            "n_learned": self.n_learned,
            "n_held_out": self.n_held_out,
            "n_duplicates": self.n_duplicates,
            "n_unlearned": self.n_unlearned,
            "n_released": self.n_released,
            "n_recalled": self.n_recalled,
            "n_waiting": self.n_waiting,
            "n_condemned": len(self.inconsistent) + len(self.diverging),
            "n_not_examinable": sum(arrival.errors is None for arrival in self.arrivals),
            "steps": len(self.steps),
            "energy_loss": _mean([step.energy_loss for step in self.steps]),
            "force_loss": _mean([step.force_loss for step in self.steps]),
            "energy_disagreement_ev_per_atom": spread.energy_disagreement,
            "force_disagreement_ev_per_angstrom": spread.force_disagreement,
            "new_elements": [SYMBOLS[z] for z in self.new_elements],
            "elements": [SYMBOLS[z] for z in self.elements],
            "arrivals": [arrival.named() for arrival in self.arrivals],
        }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
