"""One run of one arm: a stream goes through a learner, which is examined on every domain after every domain."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import floor

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.atoms.symmetry import SymmetryFunctions
from lmlp_stream.cli.bench.stream.domains import Domain
from lmlp_stream.cli.bench.stream.errors import Examination, SquaredErrors
from lmlp_stream.cli.bench.timing import peak_rss_mb
from lmlp_stream.config import Config
from lmlp_stream.learning.learner import Learner
from lmlp_stream.learning.trainer import StepReport

QUARTERS = 4


@dataclass(frozen=True, slots=True)
class Moment:
    """What had been spent at one moment, and what was known.

    Attributes:
        labels: Labels that had arrived.
        steps: Optimizer steps.
        cpu_s: CPU time of the learner, s.
        errors: On the test structures of each domain; None where an element was not known.
    """

    labels: int
    steps: int
    cpu_s: float
    errors: tuple[SquaredErrors | None, ...]


@dataclass(frozen=True, slots=True)
class Quarter:
    """What a quarter of the stream cost.

    Attributes:
        labels: Labels that arrived in it.
        steps: Optimizer steps in it.
        cpu_s: CPU time of the learner in it, s.
        state_mb: Size of the learner's state at its end, MB.
        peak_rss_mb: Largest resident memory of the process until its end, MB.
    """

    labels: int
    steps: int
    cpu_s: float
    state_mb: float
    peak_rss_mb: float


@dataclass(frozen=True, slots=True)
class Run:
    """What one run found.

    Attributes:
        label_force_rms: Root mean square of the force labels of each domain's test structures, meV/Å.
        before: Of each domain, the moment before anything of it arrived: its own errors alone.
        curves: Of each domain, moments while it arrived: its own errors alone.
        boundaries: The moment after each domain, with the errors on all of them.
        quarters: What each quarter of the stream cost; those that end in one tick are one.
        labels_learned: Labels that were learned; the others were condemned, or wait at the end.
    """

    label_force_rms: tuple[float, ...]
    before: tuple[Moment, ...]
    curves: tuple[tuple[Moment, ...], ...]
    boundaries: tuple[Moment, ...]
    quarters: tuple[Quarter, ...]
    labels_learned: int


class _Runner:
    """A learner under examination; the time that examinations take is not counted."""

    def __init__(self, domains: Sequence[Domain], config: Config) -> None:
        self.learner = Learner(config)
        ensemble = self.learner.ensemble
        functions = SymmetryFunctions(ensemble.spec, dtype=ensemble.dtype, device=ensemble.device)
        self.examinations = [Examination(domain.tested, functions) for domain in domains]
        self._n_labels = sum(len(domain.learned) for domain in domains)
        self._quarters: list[Quarter] = []
        self._spent = (0, 0, 0.0)
        self._started = 0.0
        self.labels = 0
        self.cpu_s = 0.0

    def learn(self, tick: Sequence[LabelledStructure], observe: Callable[[StepReport], None] | None = None) -> None:
        self._started = time.process_time()
        self.learner.process_tick(tick, observe)
        self.pause()
        self.labels += len(tick)
        if self.labels >= self._n_labels * (len(self._quarters) + 1) // QUARTERS:
            self._end_quarter()

    def pause(self) -> None:
        """Count what was spent until now."""
        self.cpu_s += time.process_time() - self._started

    def go_on(self) -> None:
        """Count from now on."""
        self._started = time.process_time()

    def moment(self, labels: int, examined: Sequence[Examination]) -> Moment:
        errors = tuple(examination.errors(self.learner.ensemble) for examination in examined)
        return Moment(labels, self.learner.n_steps, self.cpu_s, errors)

    def run(self, moments: Sequence[tuple[Moment, list[Moment], Moment]]) -> Run:
        return Run(
            label_force_rms=tuple(examination.label_force_rms for examination in self.examinations),
            before=tuple(before for before, _, _ in moments),
            curves=tuple(tuple(curve) for _, curve, _ in moments),
            boundaries=tuple(after for _, _, after in moments),
            quarters=tuple(self._quarters),
            labels_learned=self.learner.labels_learned,
        )

    def _end_quarter(self) -> None:
        now = (self.labels, self.learner.n_steps, self.cpu_s)
        labels, steps, cpu_s = (new - old for new, old in zip(now, self._spent, strict=True))
        state_mb = sum(array.nbytes for array in self.learner.state_dict().values()) / 1e6
        self._quarters.append(Quarter(int(labels), int(steps), cpu_s, state_mb, peak_rss_mb()))
        self._spent = now


def run_stream(domains: Sequence[Domain], config: Config) -> Run:
    """One domain after the other, in ticks."""
    runner = _Runner(domains, config)
    size = config.learning.records_per_tick
    moments = []
    for domain, examination in zip(domains, runner.examinations, strict=True):
        before = runner.moment(runner.labels, [examination])
        curve = []
        for first in range(0, len(domain.learned), size):
            runner.learn(domain.learned[first : first + size])
            curve.append(runner.moment(runner.labels, [examination]))
        moments.append((before, curve, runner.moment(runner.labels, runner.examinations)))
    return runner.run(moments)


def run_together(domains: Sequence[Domain], config: Config) -> Run:
    """Everything present from the start; examined after as many steps as the stream has taken after each domain.

    Where fewer steps are taken, because labels wait unlearned, the end stands for the moments that never came.
    """
    runner = _Runner(domains, config)
    structures = [structure for domain in domains for structure in domain.learned]
    ends = [sum(len(domain.learned) for domain in domains[: index + 1]) for index in range(len(domains))]
    due = [floor(config.learning.steps_per_record * end) for end in ends]
    boundaries: list[Moment] = []

    def observe(_: StepReport) -> None:
        while len(boundaries) < len(domains) - 1 and runner.learner.n_steps >= due[len(boundaries)]:
            runner.pause()
            boundaries.append(runner.moment(len(structures), runner.examinations))
            runner.go_on()

    before = [runner.moment(0, [examination]) for examination in runner.examinations]
    runner.learn(structures, observe)
    ended = runner.moment(len(structures), runner.examinations)
    boundaries += [ended] * (len(domains) - len(boundaries))
    return runner.run([(moment, [], boundary) for moment, boundary in zip(before, boundaries, strict=True)])
