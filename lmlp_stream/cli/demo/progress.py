"""What the demo's processes have reached, read from the log, the history and the simulation's lines."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmlp_stream.broker.log import Log
from lmlp_stream.cli.report.history import History, force_rmse, windows
from lmlp_stream.cli.report.reading import HistoryReader, history_path
from lmlp_stream.cli.report.tail import Tail
from lmlp_stream.config import Config
from lmlp_stream.farm.answered import REQUEST_HEADER

N_WINDOWS = 16


@dataclass(frozen=True, slots=True)
class SimulationState:
    """What the simulation did.

    Attributes:
        steps: MD steps over all of its trajectories.
        temperature: In K.
        uncertainty: Largest uncertainty of a force component in eV/Å.
        snapshots: Ids of the snapshots it took steps with, oldest first.
        restarts: How often the trajectory was given up and begun anew.
    """

    steps: int = 0
    temperature: float = 0.0
    uncertainty: float = 0.0
    snapshots: tuple[str, ...] = ()
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at everything.

    Attributes:
        history: What the learner's conductor wrote.
        simulation: What the simulation did.
        n_published: Records on the structures topic.
        n_requests: Label requests asked.
        n_labelled: Answers published by the labeller.
        n_failed: Requests that could not be labelled.
        n_refused: Dead letters.
    """

    history: History = field(default_factory=History)
    simulation: SimulationState = field(default_factory=SimulationState)
    n_published: int = 0
    n_requests: int = 0
    n_labelled: int = 0
    n_failed: int = 0
    n_refused: int = 0

    @property
    def n_requests_learned(self) -> int:
        """Answers that were learned."""
        return sum(not arrival.held_out for arrival in self.history.answers)

    @property
    def n_requests_held_out(self) -> int:
        """Answers that the learner tests itself on instead."""
        return len(self.history.answers) - self.n_requests_learned

    @property
    def n_processed(self) -> int:
        """Records the learner is done with, whatever became of them."""
        return sum(tick.n_new + tick.n_duplicates + tick.n_refused for tick in self.history.ticks)

    @property
    def force_errors(self) -> list[float]:
        """Prequential force RMSE in eV/Å in consecutive windows of the stream."""
        parts = windows(self.history.arrivals, min(N_WINDOWS, max(1, len(self.history.arrivals) // 8)))
        return [error for part in parts if (error := force_rmse(part)) is not None]


class Watch:
    """Reads the progress of a running demo, each time only what is new.

    Args:
        log: The log.
        config: The demo's configuration.
        simulation_lines: Where the simulation writes its lines.
    """

    def __init__(self, log: Log, config: Config, simulation_lines: Path) -> None:
        self._topics = config.log
        self._tail = Tail(log, (config.log.structures, config.log.requests, config.log.dead_letters))
        self._history = HistoryReader(history_path(config))
        self._lines = simulation_lines
        self._counts = dict.fromkeys((config.log.structures, config.log.requests, config.log.dead_letters), 0)
        self._n_labelled = 0
        self._n_failed = 0

    def look(self) -> Progress:
        """The progress at this moment.

        Raises:
            BrokerError: The log cannot be read.
        """
        for message in self._tail.new_messages():
            self._counts[message.partition.topic] += 1
            self._n_labelled += any(name == REQUEST_HEADER for name, _ in message.headers)
            self._n_failed += ("__connect.errors.topic", self._topics.requests.encode()) in message.headers
        return Progress(
            history=self._history.read(),
            simulation=read_simulation(self._lines),
            n_published=self._counts[self._topics.structures],
            n_requests=self._counts[self._topics.requests],
            n_labelled=self._n_labelled,
            n_failed=self._n_failed,
            n_refused=self._counts[self._topics.dead_letters],
        )

    def close(self) -> None:
        """Release the connections."""
        self._tail.close()


def read_simulation(path: Path) -> SimulationState:
    """What a simulation's lines say so far; nothing without the file."""
    if not path.exists():
        return SimulationState()
    lines = [parsed for line in path.read_text(encoding="utf-8").splitlines() if (parsed := _parsed(line))]
    status: Mapping[str, Any] = next((line for line in reversed(lines) if line["kind"] == "status"), {})
    return SimulationState(
        steps=status.get("step", 0),
        temperature=status.get("temperature", 0.0),
        uncertainty=status.get("uncertainty", 0.0),
        snapshots=tuple(dict.fromkeys(line["id"] for line in lines if line["kind"] == "snapshot")),
        restarts=sum(line["kind"] == "restart" for line in lines),
    )


def _parsed(line: str) -> Mapping[str, Any]:
    try:
        parsed: Mapping[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return parsed
