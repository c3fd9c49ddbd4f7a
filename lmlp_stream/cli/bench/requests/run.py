"""One pool of structures, one learner, and two ways to choose which of them are labelled."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf

import numpy as np
import torch

from lmlp_stream.atoms.structure import LabelledStructure, Structure
from lmlp_stream.atoms.symmetry import SymmetryFunctions, spec_of
from lmlp_stream.cli.bench.stream.errors import Examination
from lmlp_stream.config import Config
from lmlp_stream.learning.learner import Learner
from lmlp_stream.learning.selection import step_generator
from lmlp_stream.service.teller import provenance_of
from lmlp_stream.simulate.evaluator import Evaluation, Evaluator
from lmlp_stream.store.snapshot import manifest_of

NEVER = "1970-01-01T00:00:00+00:00"
"""When the snapshots of a bench are made: it knows no time."""


class Rule(StrEnum):
    """How labels are chosen."""

    RANDOM = "random"
    FORCES = "forces"
    ATOM = "atom"
    EXCESS = "excess"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How labels come.

    Attributes:
        labels: Most labels of a run.
        start: Labels drawn at random before the first request.
        candidates: Structures that a round visits.
        asked: Structures of a round whose label is asked for.
        every: Labels between two examinations.
    """

    labels: int
    start: int
    candidates: int
    asked: int
    every: int


@dataclass(frozen=True, slots=True)
class Point:
    """Errors on the test structures after so many labels: RMSE of forces in meV/Å, of energies in meV/atom."""

    labels: int
    force_rmse: float
    energy_rmse: float


def learning_curve(
    pool: Sequence[LabelledStructure],
    test: Examination,
    config: Config,
    plan: Plan,
    rule: Rule,
    *,
    enough: float,
    advance: Callable[[], None],
) -> list[Point]:
    """Errors while labels are chosen by a rule; it ends with the labels, or with a force RMSE that is enough.

    The last examination is at the end, whatever the labels between two; empty where an element never became known.

    Args:
        pool: What can be labelled; each structure once.
        test: What is predicted.
        config: Of the learner.
        plan: How labels come.
        rule: How they are chosen.
        enough: Force RMSE at which to end, meV/Å.
        advance: Called after each label.
    """
    learner, curve = Learner(config), list[Point]()
    n_labels = n_examined = 0
    for chosen in _rounds(pool, learner, config, plan, rule):
        size = config.learning.records_per_tick
        for first in range(0, len(chosen), size):
            learner.process_tick(chosen[first : first + size])
        n_labels += len(chosen)
        for _ in chosen:
            advance()
        if n_labels // plan.every > n_examined // plan.every:
            curve += _points(test, learner, n_labels)
            n_examined = n_labels
            if curve and curve[-1].force_rmse <= enough:
                break
    if n_examined < n_labels:
        curve += _points(test, learner, n_labels)
    return curve


def _points(test: Examination, learner: Learner, n_labels: int) -> list[Point]:
    """The point of a curve after so many labels; none where an element is not known yet."""
    errors = test.errors(learner.ensemble)
    if errors is None:
        return []
    named = errors.named("ensemble")
    return [Point(n_labels, named["force_rmse_mev_per_angstrom"], named["energy_rmse_mev_per_atom"])]


def functions_of(config: Config) -> SymmetryFunctions:
    """Symmetry functions of a configuration, in its precision, on a CPU."""
    return SymmetryFunctions(spec_of(config.symmetry), getattr(torch, config.potential.dtype), torch.device("cpu"))


def _rounds(
    pool: Sequence[LabelledStructure], learner: Learner, config: Config, plan: Plan, rule: Rule
) -> Iterator[list[LabelledStructure]]:
    """What is labelled in each round, while the learner learns between rounds."""
    random = step_generator(config.seed, 0)
    waiting = list(random.permutation(len(pool)))
    first, waiting = waiting[: plan.start], waiting[plan.start :]
    yield [pool[index] for index in first]
    for _ in range(plan.start, plan.labels, plan.asked):
        visited, waiting = waiting[: plan.candidates], waiting[plan.candidates :]
        if rule == Rule.RANDOM:
            order = list(range(len(visited)))
        else:
            evaluator = _evaluator(learner, config)
            unsure = np.array([uncertainty(evaluator, pool[index], rule) for index in visited])
            order = list(np.argsort(-unsure, kind="stable"))
        asked = [visited[place] for place in order[: plan.asked]]
        waiting += list(random.permutation([visited[place] for place in order[plan.asked :]]))
        if not asked:
            return
        yield [pool[index] for index in asked]


def _evaluator(learner: Learner, config: Config) -> Evaluator:
    """What a simulation would have in its hands now."""
    provenance = provenance_of(config, learner, learner.assess(), journal_position=0, parent_id="", created_at=NEVER)
    return Evaluator(manifest_of(learner.ensemble, provenance), learner.ensemble, config.simulate)


def uncertainty(evaluator: Evaluator, structure: Structure, rule: Rule) -> float:
    """How unsure a snapshot is of a structure, by a rule; infinitely, where an element or composition is new."""
    if not set(structure.atomic_numbers.tolist()) <= set(evaluator.manifest.elements):
        return inf
    said = evaluator.evaluate(structure)
    return inf if said.energy_uncertainty == inf else _measures(said)[rule]


def _measures(said: Evaluation) -> dict[Rule, float]:
    return {
        Rule.FORCES: said.max_forces_uncertainty,
        Rule.ATOM: float(np.linalg.norm(said.forces_uncertainty, axis=1).max()),
        Rule.EXCESS: said.excess,
    }
