"""Reads what the conductor of a learner wrote line by line beside the checkpoints."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmlp_stream.cli.report.history import Arrival, ErrorsByPart, History, SnapshotLine, Tick, VerdictLine
from lmlp_stream.config import Config
from lmlp_stream.store.checkpoint import checkpoints_folder


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


def _history(
    ticks: Mapping[int, dict[str, Any]], snapshots: Mapping[int, dict[str, Any]], restarts: Sequence[float]
) -> History:
    arrivals: list[Arrival] = []
    elements: dict[str, None] = {}
    for _, entry in sorted(ticks.items()):
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
                    id=item["id"],
                )
            )
    return History(
        ticks=tuple(_tick(entry) for _, entry in sorted(ticks.items())),
        arrivals=tuple(arrivals),
        snapshots=tuple(_snapshot(entry) for _, entry in sorted(snapshots.items())),
        elements=tuple(elements),
        restarts=tuple(restarts),
        verdicts=tuple(_verdicts(ticks, snapshots)),
    )


def _verdicts(ticks: Mapping[int, dict[str, Any]], snapshots: Mapping[int, dict[str, Any]]) -> Iterator[VerdictLine]:
    """Of ticks and snapshots in their order; a snapshot bears the number of the tick that comes after it."""
    entries = [((number, 0), entry) for number, entry in snapshots.items()]
    entries += [((number, 1), entry) for number, entry in ticks.items()]
    n_arrivals = 0
    for _, entry in sorted(entries, key=lambda item: item[0]):
        n_arrivals += len(entry.get("arrivals", ()))
        yield VerdictLine(n_arrivals, entry.get("verdict", ""), entry.get("evidence", ""))


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
