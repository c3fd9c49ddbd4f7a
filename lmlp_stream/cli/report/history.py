"""The learner's history: what its conductor wrote line by line beside the checkpoints, read back as values."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Any

from lmlp_stream.config import Config
from lmlp_stream.store.checkpoint import checkpoints_folder

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
    """

    index: int
    time: float
    domain: str
    source: str
    energy_error: float | None
    force_squared_error: float | None
    n_force_components: int
    held_out: bool = False


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


@dataclass(slots=True)
class HistoryReader:
    """Follows a history file that is being written: each `read` takes in what was added since.

    Attributes:
        path: The file; it may not exist yet.
    """

    path: Path
    _position: int = 0
    _partial: bytes = b""
    _ticks: dict[int, dict[str, Any]] = field(default_factory=dict)
    _snapshots: dict[int, dict[str, Any]] = field(default_factory=dict)
    _restarts: list[float] = field(default_factory=list)

    def read(self) -> History:
        """The history up to the last whole line; a line that is not JSON is skipped."""
        for line in self._new_lines():
            self._take(line)
        return _history(self._ticks, self._snapshots, self._restarts)

    def _new_lines(self) -> Iterable[bytes]:
        try:
            with self.path.open("rb") as stream:
                stream.seek(self._position)
                data = stream.read()
        except FileNotFoundError:
            return []
        self._position += len(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        return lines

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return
        if not isinstance(entry, dict):
            return
        number = int(entry.get("tick", 0))
        if entry.get("kind") == "tick":
            if self._ticks and number <= max(self._ticks):
                self._restarts.append(float(entry["time"]))
                self._forget_from(number)
            self._ticks[number] = entry
        elif entry.get("kind") == "snapshot":
            self._snapshots[number] = entry

    def _forget_from(self, number: int) -> None:
        for later in [key for key in self._ticks if key >= number]:
            del self._ticks[later]
        for later in [key for key in self._snapshots if key > number]:
            del self._snapshots[later]


def history_path(config: Config) -> Path:
    """Where the learner of this configuration writes its history."""
    return checkpoints_folder(config) / "history.jsonl"


def read_history(path: Path) -> History:
    """The history of a file as it stands; empty without a file."""
    return HistoryReader(path).read()


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


def _history(
    ticks: Mapping[int, dict[str, Any]], snapshots: Mapping[int, dict[str, Any]], restarts: Sequence[float]
) -> History:
    arrivals: list[Arrival] = []
    elements: dict[str, None] = {}
    verdicts: list[VerdictLine] = []
    for number, entry in sorted(ticks.items()):
        elements.update(dict.fromkeys(str(symbol) for symbol in entry.get("elements", ())))
        for item in entry.get("arrivals", ()):
            arrivals.append(
                Arrival(
                    index=len(arrivals),
                    time=float(entry["time"]),
                    domain=item["domain"] or "—",
                    source=item["source"],
                    energy_error=item["energy_error_ev_per_atom"],
                    force_squared_error=item["force_squared_error_sum"],
                    n_force_components=item["n_force_components"],
                    held_out=item["held_out"],
                )
            )
        judged = (entry, snapshots[number + 1]) if number + 1 in snapshots else (entry,)
        verdicts += [VerdictLine(len(arrivals), one.get("verdict", ""), one.get("evidence", "")) for one in judged]
    return History(
        ticks=tuple(_tick(entry) for _, entry in sorted(ticks.items())),
        arrivals=tuple(arrivals),
        snapshots=tuple(_snapshot(entry) for _, entry in sorted(snapshots.items())),
        elements=tuple(elements),
        restarts=tuple(restarts),
        verdicts=tuple(verdicts),
    )


def _tick(entry: Mapping[str, Any]) -> Tick:
    return Tick(
        number=entry["tick"],
        time=float(entry["time"]),
        labels_learned=entry["labels_learned"],
        n_new=entry["n_new"],
        n_duplicates=entry["n_duplicates"],
        n_refused=entry["n_refused"],
        steps=entry["steps"],
    )


def _snapshot(entry: Mapping[str, Any]) -> SnapshotLine:
    return SnapshotLine(
        id=str(entry.get("id") or ""),
        announced=bool(entry["announced"]),
        reasons=tuple(entry.get("reasons", ())),
        time=float(entry["time"]),
        labels_learned=entry["labels_learned"],
        errors=_known(entry.get("errors", {})),
        newest=_by_part(entry.get("newest", {})),
        held_out=_by_part(entry.get("held_out", {})),
    )


def _by_part(entry: Mapping[str, Any]) -> ErrorsByPart:
    return {kind: {name: _known(errors) for name, errors in named.items()} for kind, named in entry.items()}


def _known(errors: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in errors.items() if value is not None}
