"""The learner: a fold over ticks of labelled structures.

State after a tick depends on the ticks, the configuration and the seed alone: no clock, no global random state. Every
random choice is a function of (seed, step) or (seed, atomic number).
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import floor
from typing import Self

import numpy as np

from lmlp_stream.atoms.batch import Batch, collate, composition_of
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.config import Config
from lmlp_stream.errors import DivergedError
from lmlp_stream.learning.admission import withheld
from lmlp_stream.learning.bisection import guilty
from lmlp_stream.learning.columns import in_room, read_text_column, text_column
from lmlp_stream.learning.conformal import Conformal, held_out_intervals
from lmlp_stream.learning.evaluation import (
    MIN_HELD_OUT,
    Calibration,
    Errors,
    EvaluationReport,
    HeldError,
    calibration,
    error_rows,
    joined,
    summary,
)
from lmlp_stream.learning.evidence import evidence
from lmlp_stream.learning.memory import Memory
from lmlp_stream.learning.quarantine import Condemned, Judgement, Quarantine
from lmlp_stream.learning.residuals import Residuals
from lmlp_stream.learning.selection import draw, step_generator
from lmlp_stream.learning.strangers import Strangers
from lmlp_stream.learning.tick import Arrival, TickReport
from lmlp_stream.learning.trainer import StepReport, Trainer
from lmlp_stream.learning.verdict import ARRIVING, Held, Ruling, Trend
from lmlp_stream.learning.window import Window, element_rows
from lmlp_stream.potential.ensemble import Ensemble

PREDICTED_TOGETHER = 16
"""Structures of one batch where many are predicted or absorbed."""
DIVERGING = (
    "the loss of this label alone, or its gradient, is not finite or so large that no step can be made with it; check "
    "its energy and forces, or redrive it"
)


class Learner:
    """Learns ticks, examines itself, and can be saved and restored between any two ticks.

    Attributes:
        labels_learned: Accepted labels that were not held out.
        n_steps: Optimizer steps.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._trainer = Trainer(config)
        self._memory = Memory(config, self._trainer.functions)
        self._strangers = [Strangers(config.quarantine) for _ in self._trainer.baselines]
        self._quarantines = [Quarantine(config.quarantine) for _ in self._trainer.baselines]
        self._window = Window(config.evaluation.window)
        self._conformal = Conformal()
        self._trend = Trend()
        self._announced: dict[str, HeldError] = {}
        self._credit = 0.0
        self._n_further = 0
        self.labels_learned = 0
        self.n_steps = 0

    @property
    def ensemble(self) -> Ensemble:
        """The potential as it is now."""
        return self._trainer.ensemble

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that are known, ascending."""
        return self.ensemble.elements

    @property
    def remembered(self) -> tuple[LabelledStructure, ...]:
        """Structures in the reservoir."""
        return tuple(self._memory.reservoir)

    @property
    def n_remembered(self) -> int:
        """How many these are."""
        return len(self._memory.reservoir)

    @property
    def prequential(self) -> Errors:
        """Errors of the newest arrivals before they were learned."""
        return summary(self._window.rows)

    @property
    def spread(self) -> Calibration:
        """What the members' disagreement said of these errors."""
        return calibration(self._window.rows)

    @property
    def ruling(self) -> Ruling:
        """Whether it improves, has converged, drifts or forgets, and why one may say so."""
        return self._trend.ruling

    @property
    def n_held_out(self) -> int:
        """Structures in the hold-out."""
        return len(self._memory.hold_out)

    @property
    def quarantined(self) -> tuple[LabelledStructure, ...]:
        """Structures that wait for their judgement; those of one level of theory in the order they came."""
        rooms: list[Strangers | Quarantine] = [*self._strangers, *self._quarantines]
        return tuple(structure for room in rooms for structure in room.structures)

    @property
    def n_quarantined(self) -> int:
        """How many these are."""
        return sum(map(len, self._strangers)) + sum(map(len, self._quarantines))

    def process_tick(
        self, structures: Sequence[LabelledStructure], observe: Callable[[StepReport], None] | None = None
    ) -> TickReport:
        """Examine, remember and learn what arrived.

        Args:
            structures: Arrivals in the order of the journal; those whose id is known change nothing.
            observe: Called after each optimizer step.

        Raises:
            DivergedError: No step can be made, and no single structure is to blame.
        """
        new = self._memory.admit(structures)
        passing: list[LabelledStructure] = []
        for head, (strangers, baseline) in enumerate(zip(self._strangers, self._trainer.baselines, strict=True)):
            passing += strangers.passing(self._of_head(head, new), self._covers, baseline)
        covered = [structure for structure in passing if self._covers(structure)]
        waiting, errors = self._examine(covered)
        judgement = self._judge()
        came = [structure for structure in passing if structure.id not in waiting]
        came += [waited.structure for waited in judgement.released if not waited.learned]
        came_ids = {structure.id for structure in came}
        back = [waited.structure for waited in judgement.released if waited.learned]
        n_recalled = self._recall()
        fresh = [structure for structure in (*came, *back) if not self._memory.is_held_out(structure)]
        self.ensemble.baseline.fit(self._of_head(0, fresh))
        added = self._meet(fresh)
        unabsorbed = [structure for structure in fresh if self._memory.kept(structure.id) is None]
        self._memory.remember([*came, *back])
        held_out = {structure.id for structure in came if self._memory.is_held_out(structure)}
        judged = {structure.id for structure in covered}
        judged |= held_out & {waited.structure.id for waited in judgement.released}
        for head, quarantine in enumerate(self._quarantines):
            quarantine.learned(self._of_head(head, came), unpredicted=came_ids - judged, held_out=held_out)
        n_learned = len(came) - len(held_out)
        self.labels_learned += n_learned
        self._n_further += len(came) - len(self._of_head(0, came))
        exploding = self._exploding(fresh)
        gone_ids = {one.structure.id for one in exploding}
        fresh = [structure for structure in fresh if structure.id not in gone_ids]
        self._absorb([structure for structure in unabsorbed if structure.id not in gone_ids], at_once=bool(added))
        self._redraw()
        steps, diverging = self._steps(fresh, self._spend(n_learned), observe)
        self._weigh(n_learned)
        waiting = {structure.id for structure in self.quarantined}
        gone = [structure for structure in (*new, *passing, *came, *back) if structure.id not in waiting]
        self._memory.forget_unkept(gone)
        return TickReport(
            n_duplicates=len(structures) - len(new),
            n_learned=n_learned,
            n_held_out=len(came) - n_learned,
            n_unlearned=len(new) - len(came),
            n_released=len(judgement.released),
            n_recalled=n_recalled,
            n_waiting=self.n_quarantined,
            arrivals=tuple(self._arrival(structure, came_ids, errors) for structure in new),
            new_elements=added,
            elements=self.elements,
            steps=steps,
            inconsistent=judgement.condemned,
            diverging=(*exploding, *diverging),
        )

    def assess(self) -> EvaluationReport:
        """Everything that is known about the potential now; changes nothing."""
        held_out = self._held_out()
        found, kept = list(self._residuals(held_out)), Window(len(held_out))
        groups = [structure.group_or_id for structure in held_out]
        intervals = held_out_intervals(found, groups, self._conformal.steady)
        rows = joined(error_rows(some, some.widths(intervals)) for some in found)
        kept.append(rows, element_rows(found, np.ones(len(rows), dtype=np.bool_)), held_out)
        newest = self.spread
        held = {structure.id: HeldError.of(row) for structure, row in zip(held_out, rows, strict=True)}
        reasons = withheld(
            self._config.evaluation,
            labels_learned=self.labels_learned - self._n_further,
            finite=self._trainer.finite(),
            held=held,
            announced=self._announced,
        )
        return EvaluationReport(
            labels_learned=self.labels_learned,
            n_steps=self.n_steps,
            prequential=self.prequential,
            newest=self._window.parts(),
            retention=summary(rows),
            kept=kept.parts(),
            calibration=replace(
                calibration(rows) if len(rows) >= MIN_HELD_OUT else newest,
                energy_coverage_90=newest.energy_coverage_90,
                force_coverage_90=newest.force_coverage_90,
            ),
            intervals=intervals,
            held=held,
            reasons=reasons,
        )

    def note_assessed(self, report: EvaluationReport) -> None:
        """Measure later examinations of the hold-out against this one too, for the verdict."""
        arriving = set(self._window.domains[-ARRIVING:])
        self._trend.examine(
            [
                Held(item.id, item.group_or_id, item.domain not in arriving, report.held[item.id].force_rmse)
                for item in self._memory.hold_out
                if item.id in report.held and report.held[item.id].n_forces
            ]
        )

    def note_announced(self, report: EvaluationReport) -> None:
        """Measure later snapshots against this one, which was announced."""
        self._announced = dict(report.held)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything that `restore` needs, as flat arrays by name."""
        announced = self._announced
        return {
            "counters": np.array([self.labels_learned, self.n_steps], dtype=np.int64),
            "credit": np.array([self._credit]),
            **({"labels_of_further_levels": np.array([self._n_further])} if self._n_further else {}),
            "announced.ids": text_column(list(announced)),
            "announced.force_squared": np.array([error.force_squared for error in announced.values()], np.float64),
            "announced.n_forces": np.array([error.n_forces for error in announced.values()], np.int64),
            **{f"window.{name}": array for name, array in self._window.state_dict().items()},
            **{f"trend.{name}": array for name, array in self._trend.state_dict().items()},
            **{f"conformal.{name}": array for name, array in self._conformal.state_dict().items()},
            **_rooms("strangers", self._strangers),
            **_rooms("quarantine", self._quarantines),
            **{f"memory.{name}": array for name, array in self._memory.state_dict().items()},
            **self._trainer.state_dict(),
        }

    @classmethod
    def restore(cls, config: Config, state: Mapping[str, np.ndarray]) -> Self:
        """The learner `state_dict` described; it goes on bit for bit as if it had never stopped (on a CPU)."""
        learner = cls(config)
        learner.labels_learned, learner.n_steps = (int(count) for count in state["counters"])
        learner._credit = float(state["credit"][0])
        learner._n_further = int(state.get("labels_of_further_levels", [0])[0])
        announced = zip(state["announced.force_squared"], state["announced.n_forces"], strict=True)
        learner._announced = {
            id_: HeldError(float(squared), int(n_forces))
            for id_, (squared, n_forces) in zip(read_text_column(state["announced.ids"]), announced, strict=True)
        }
        learner._window.load_state_dict(in_room(state, "window."))
        learner._trend.load_state_dict(in_room(state, "trend."))
        learner._conformal.load_state_dict(in_room(state, "conformal."))
        learner._memory.load_state_dict(in_room(state, "memory."))
        for head, (strangers, quarantine) in enumerate(zip(learner._strangers, learner._quarantines, strict=True)):
            strangers.load_state_dict(in_room(state, _room("strangers", head)))
            quarantine.load_state_dict(in_room(state, _room("quarantine", head)))
        learner._trainer.load_state_dict(state)
        return learner

    def _examine(self, covered: Sequence[LabelledStructure]) -> tuple[set[str], dict[str, np.ndarray]]:
        """Predict structures before anything is learned from them: ids of those that wait, and `ERROR_ROW`s by id.

        Those of the main level of theory have rows, and enter the window where they fit.
        """
        waiting: set[str] = set()
        for head, quarantine in enumerate(self._quarantines):
            some = self._of_head(head, covered)
            waiting |= quarantine.arrived(some, self._evidence(some, head))
        main = self._of_head(0, covered)
        found = list(self._residuals(main))
        rows = joined(error_rows(some, self._conformal.examine(some)) for some in found)
        self._window_in(main, found, rows, waiting)
        return waiting, {structure.id: row for structure, row in zip(main, rows, strict=True)}

    def _arrival(self, structure: LabelledStructure, came: Container[str], errors: Mapping[str, np.ndarray]) -> Arrival:
        return Arrival(
            id=structure.id,
            domain=structure.domain,
            source=structure.source,
            held_out=self._memory.is_held_out(structure),
            waits=structure.id not in came,
            errors=errors.get(structure.id),
        )

    def _window_in(
        self,
        structures: Sequence[LabelledStructure],
        found: Sequence[Residuals],
        rows: np.ndarray,
        but: Container[str],
    ) -> None:
        """Examined structures enter the window and the trend, but those whose id is named."""
        chosen = np.array([structure.id not in but for structure in structures], dtype=np.bool_)
        some = [structure for structure, is_chosen in zip(structures, chosen, strict=True) if is_chosen]
        self._window.append(rows[chosen], element_rows(found, chosen), some)
        self._trend.follow([HeldError.of(row).force_rmse for row in rows[chosen] if row["n_forces"]])

    def _judge(self) -> Judgement:
        """Examine again what waits; what comes out for the first time enters the window late."""
        judgements = [
            quarantine.judge(quarantine.structures, self._evidence(quarantine.structures, head))
            for head, quarantine in enumerate(self._quarantines)
        ]
        judgement = Judgement(
            released=tuple(waited for one in judgements for waited in one.released),
            condemned=tuple(condemned for one in judgements for condemned in one.condemned),
        )
        first = self._of_head(0, [waited.structure for waited in judgement.released if not waited.learned])
        found = list(self._residuals(first))
        intervals = self._conformal.steady
        rows = joined(error_rows(some, some.widths(intervals)) for some in found)
        self._window_in(first, found, rows, ())
        for condemned in judgement.condemned:
            self._memory.condemn(condemned.structure)
        return judgement

    def _recall(self) -> int:
        """Examine what came some time ago; forget what does not fit, and say how many structures that are."""
        n_recalled = 0
        for head, quarantine in enumerate(self._quarantines):
            due = quarantine.unaudited()
            kept = [self._memory.kept(id_) for id_ in due]
            structures = [structure for structure in kept if structure is not None]
            recalled = quarantine.audited(structures, self._evidence(structures, head))
            quarantine.is_audited(due, {item.id for item in structures if not self._memory.is_held_out(item)})
            for structure in recalled:
                self._release(structure)
                self._memory.forget(structure)
            n_recalled += len(recalled)
        return n_recalled

    def _exploding(self, fresh: Sequence[LabelledStructure]) -> list[Condemned]:
        """Forget those that no step can be made with before anything is learned from them, and name them."""
        found = []
        for some in portions(fresh):
            found += guilty(some, lambda part: self._trainer.sound(self._collated(part)))
        for structure in found:
            self._memory.condemn(structure)
        return [Condemned(structure, DIVERGING) for structure in found]

    def _absorb(self, fresh: Sequence[LabelledStructure], *, at_once: bool) -> None:
        main = self._of_head(0, fresh)
        for some in portions(main):
            self._trainer.linear_fit.absorb(self._collated(some))
        elements = {int(z) for structure in main for z in structure.atomic_numbers}
        self._trainer.linear_fit.fit(elements, at_once=at_once)

    def _redraw(self) -> None:
        """Let the linear part choose its features while everything that it learned is remembered still."""
        main = self._of_head(0, self._memory.reservoir)
        n_coming = self._config.learning.records_per_tick + self.n_quarantined
        is_full = self._config.rehearsal.capacity - self.n_remembered < n_coming
        while self._trainer.linear_fit.is_ripe(len(main), is_full=is_full):
            self._trainer.linear_fit.redraw(lambda: map(self._collated, portions(main)))

    def _weigh(self, n_learned: int) -> None:
        """Weigh networks and linear part by as many held-out structures as were learned, each in its turn."""
        kept = self._held_out()
        if not n_learned or not kept:
            return
        first = (self.labels_learned - n_learned) % len(kept)
        some = [*kept[first:], *kept[:first]][:n_learned]
        examined = (([item.id for item in portion], self._collated(portion)) for portion in portions(some))
        self._trainer.linear_fit.weigh(examined, {structure.id for structure in kept})

    def _release(self, structure: LabelledStructure) -> None:
        if not self._memory.is_held_out(structure) and not self._memory.head_of(structure):
            self._trainer.linear_fit.release(self._collated([structure]))

    def _meet(self, fresh: Sequence[LabelledStructure]) -> tuple[int, ...]:
        """Standardise known elements with the atoms that came, and add the elements that are new."""
        if fresh:
            self._trainer.follow(self._collated(fresh))
        main = self._of_head(0, fresh)
        bringing = [structure for structure in main if not self.ensemble.covers(structure.atomic_numbers)]
        added = self._trainer.add_elements(self._collated(bringing)) if bringing else ()
        for head in range(1, len(self._trainer.baselines)):
            strange = [structure for structure in self._of_head(head, fresh) if not self._covers(structure)]
            if strange:
                self._trainer.begin(head, self._collated(strange))
        return added

    def _evidence(self, structures: Sequence[LabelledStructure], head: int) -> np.ndarray:
        """How labels stand against the networks alone: the linear part follows a wrong label more closely."""
        return evidence(self._residuals(structures, head, networks_alone=True), structures)

    def _residuals(
        self, structures: Sequence[LabelledStructure], head: int = 0, *, networks_alone: bool = False
    ) -> Iterator[Residuals]:
        potential = self._trainer.folded(head, networks_alone=networks_alone)
        for some in portions(structures):
            batch = self._collated(some)
            yield Residuals.of(potential.predict(batch), batch)

    def _collated(self, structures: Sequence[LabelledStructure]) -> Batch:
        return collate([self._memory.prepare(structure) for structure in structures])

    def _covers(self, structure: LabelledStructure) -> bool:
        """Whether a structure can be predicted; of a further level of theory, one without energy too: it has forces."""
        numbers, head = structure.atomic_numbers, self._memory.head_of(structure)
        has_energy = head == 0 or not np.isnan(structure.energy)
        known = not has_energy or self._trainer.baselines[head].covers(composition_of(numbers))
        return known and self._trainer.covers(head, numbers)

    def _of_head(self, head: int, structures: Iterable[LabelledStructure]) -> list[LabelledStructure]:
        """Those of one level of theory."""
        if len(self._trainer.baselines) == 1:
            return list(structures)
        return [structure for structure in structures if self._memory.head_of(structure) == head]

    def _held_out(self) -> list[LabelledStructure]:
        """What is held out and can be predicted."""
        return [structure for structure in self._memory.hold_out if self._covers(structure)]

    def _spend(self, n_learned: int) -> int:
        """Steps that the labels of a tick buy; a fraction is carried over, what exceeds the cap is not."""
        learning = self._config.learning
        self._credit += learning.steps_per_record * n_learned
        whole = floor(self._credit)
        self._credit -= whole
        return min(whole, learning.max_steps_per_tick)

    def _steps(
        self, fresh: list[LabelledStructure], n_steps: int, observe: Callable[[StepReport], None] | None
    ) -> tuple[tuple[StepReport, ...], tuple[Condemned, ...]]:
        """Make steps; structures that no step can be made with leave `fresh` and the memory."""
        places = [self._memory.reservoir.index(structure.id) for structure in fresh]
        steps: list[StepReport] = []
        diverging: list[Condemned] = []
        while len(steps) < n_steps:
            structures = self._drawn(fresh, places)
            if not structures:
                break
            try:
                steps.append(self._trainer.step(self._collated(structures)))
            except DivergedError:
                found = guilty(structures, lambda some: self._trainer.sound(self._collated(some)))
                if not found:
                    raise
                for structure in found:
                    self._release(structure)
                    self._memory.condemn(structure)
                    diverging.append(Condemned(structure, DIVERGING))
                self._trainer.linear_fit.fit((), at_once=True)
                fresh = [structure for structure in fresh if structure not in found]
                places = [self._memory.reservoir.index(structure.id) for structure in fresh]
                continue
            self.n_steps += 1
            if observe:
                observe(steps[-1])
        return tuple(steps), tuple(diverging)

    def _drawn(self, fresh: Sequence[LabelledStructure], places: list[int | None]) -> list[LabelledStructure]:
        """The micro-batch of the next step."""
        learning, reservoir = self._config.learning, self._memory.reservoir
        chosen = draw(
            step_generator(self._config.seed, self.n_steps),
            places,
            len(reservoir),
            batch_size=learning.batch_size,
            fresh_share=learning.fresh_share,
        )
        return [fresh[index] for index in chosen.fresh] + [reservoir[index] for index in chosen.rehearsed]


def portions(structures: Sequence[LabelledStructure]) -> Iterator[Sequence[LabelledStructure]]:
    """Structures, `PREDICTED_TOGETHER` at a time."""
    for first in range(0, len(structures), PREDICTED_TOGETHER):
        yield structures[first : first + PREDICTED_TOGETHER]


def _room(name: str, head: int) -> str:
    """How names of what is kept for each head begin in a saved state."""
    return f"{name}_{head}." if head else f"{name}."


def _rooms(name: str, kept: Sequence[Strangers] | Sequence[Quarantine]) -> dict[str, np.ndarray]:
    """What is kept for each head, by such names."""
    states = [one.state_dict() for one in kept]
    return {f"{_room(name, head)}{key}": array for head, state in enumerate(states) for key, array in state.items()}
