"""The learner's history as values, and errors of parts of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt

ANSWER_SOURCE = "label:"
"""How the source of a label begins that answers a request; who asked follows."""

ErrorsByPart = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Errors by name, units in the names, of each of the `domains`, `sources` and `elements`."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One label as it was examined before it was learned.

    Attributes:
        index: Place in the stream, counted from 0.
        time: When its tick ended, unix s.
        domain: Molecule, reaction or phase.
        source: Who published it.
        energy_error: Predicted minus reference energy per atom in eV; None where nothing could be predicted.
        force_squared_error: Sum of squared force component errors in (eV/Å)²; None likewise.
        n_force_components: Number of components in that sum.
        held_out: Whether it went to the hold-out instead of being learned.
        id: Its id.
    """

    index: int
    time: float
    domain: str
    source: str
    energy_error: float | None
    force_squared_error: float | None
    n_force_components: int
    held_out: bool = False
    id: str = ""


@dataclass(frozen=True, slots=True)
class VerdictLine:
    """What the learner was said to do at one moment.

    Attributes:
        n_arrivals: Labels that had come.
        verdict: One word; empty: not known.
        evidence: Why, one sentence.
    """

    n_arrivals: int
    verdict: str
    evidence: str


@dataclass(frozen=True, slots=True)
class SnapshotLine:
    """One decision about a snapshot: announced, or withheld for reasons.

    Attributes:
        id: Content id; may be empty for a withheld one.
        announced: Whether it was told to the simulators.
        reasons: Why it was withheld.
        time: Unix s.
        labels_learned: Labels the learner knew then.
        errors: Held-out errors by name, units in the names.
        newest: Errors of the newest labels before they were learned, by domain, source and element.
        held_out: Errors on the hold-out, likewise.
    """

    id: str
    announced: bool
    reasons: tuple[str, ...]
    time: float
    labels_learned: int
    errors: Mapping[str, float]
    newest: ErrorsByPart = field(default_factory=dict)
    held_out: ErrorsByPart = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tick:
    """Counts of one turn of the learner's loop."""

    number: int
    time: float
    labels_learned: int
    n_new: int
    n_duplicates: int
    n_refused: int
    steps: int


@dataclass(frozen=True, slots=True)
class History:
    """Everything the history file says, ticks in order and each tick once.

    Attributes:
        ticks: One per tick.
        arrivals: In stream order.
        snapshots: In order of decision, those repeated after a crash once.
        elements: Symbols the potential covers.
        restarts: Unix s at which a tick was done again after a crash.
        verdicts: After each tick, and once more after the snapshot that followed it.
    """

    ticks: tuple[Tick, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    snapshots: tuple[SnapshotLine, ...] = ()
    elements: tuple[str, ...] = ()
    restarts: tuple[float, ...] = ()
    verdicts: tuple[VerdictLine, ...] = ()

    @property
    def announced(self) -> tuple[SnapshotLine, ...]:
        """The snapshots that were announced."""
        return tuple(line for line in self.snapshots if line.announced)

    @property
    def answers(self) -> tuple[Arrival, ...]:
        """The arrivals that answer label requests."""
        return tuple(arrival for arrival in self.arrivals if arrival.source.startswith(ANSWER_SOURCE))

    @property
    def labels_learned(self) -> int:
        """Labels learned at the last tick."""
        return self.ticks[-1].labels_learned if self.ticks else 0

    @property
    def steps(self) -> int:
        """Optimizer steps over all ticks."""
        return sum(tick.steps for tick in self.ticks)


def force_rmse(arrivals: Iterable[Arrival]) -> float | None:
    """Root mean squared force component error in eV/Å of the arrivals that could be predicted, or None."""
    known = [arrival for arrival in arrivals if arrival.force_squared_error is not None]
    n_components = sum(arrival.n_force_components for arrival in known)
    if not n_components:
        return None
    return sqrt(sum(arrival.force_squared_error or 0.0 for arrival in known) / n_components)


def energy_rmse(arrivals: Iterable[Arrival]) -> float | None:
    """Root mean squared energy error per atom in eV of the arrivals that could be predicted, or None."""
    errors = [arrival.energy_error for arrival in arrivals if arrival.energy_error is not None]
    return sqrt(sum(error**2 for error in errors) / len(errors)) if errors else None


def windows(arrivals: Sequence[Arrival], n_windows: int) -> list[tuple[Arrival, ...]]:
    """The stream cut into at most `n_windows` consecutive parts of nearly equal length."""
    n_windows = min(n_windows, len(arrivals))
    edges = [round(part * len(arrivals) / n_windows) for part in range(n_windows + 1)] if n_windows else []
    return [tuple(arrivals[begin:end]) for begin, end in pairwise(edges)]


def by_domain(arrivals: Iterable[Arrival]) -> dict[str, list[Arrival]]:
    """The arrivals of each domain in stream order, domains in alphabetical order."""
    domains: dict[str, list[Arrival]] = {}
    for arrival in arrivals:
        domains.setdefault(arrival.domain, []).append(arrival)
    return dict(sorted(domains.items()))
