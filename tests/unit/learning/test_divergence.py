"""A structure that no step can be made with is found, forgotten and named; everything else is learned as before."""

from collections.abc import Callable
from dataclasses import replace
from math import log2

import numpy as np
import pytest
import torch

from lmlp_stream.atoms.batch import Batch
from lmlp_stream.errors import DivergedError
from lmlp_stream.learning import trainer
from lmlp_stream.learning.bisection import guilty
from lmlp_stream.learning.learner import Learner
from lmlp_stream.learning.loss import Loss
from lmlp_stream.learning.trainer import Trainer
from tests.unit.learning.structures import labelled
from tests.unit.learning.test_learner import assert_equal_states, config_of

CONFIG = config_of(rehearsal={"holdout_share": 0.0}, quarantine={"enabled": False})


def exploding(index: int):
    """Forces that obey every limit of the door and every law, and are far too large."""
    structure = labelled(index)
    push = np.zeros((3, 3))
    push[1], push[2] = [299.0, 299.0, 0.0], [-299.0, -299.0, 0.0]
    return replace(structure, forces=push)


def learned(*ticks: list) -> Learner:
    learner = Learner(CONFIG)
    for tick in ticks:
        learner.process_tick(tick)
    return learner


@pytest.mark.parametrize("n_guilty", [0, 1, 3])
def test_halving_finds_exactly_the_structures_that_are_not_sound(n_guilty: int):
    structures = [labelled(index) for index in range(11)]
    bad = {structure.id for structure in structures[1 : 1 + 4 * n_guilty : 4]}
    found = guilty(structures, lambda some: not bad & {structure.id for structure in some})
    assert {structure.id for structure in found} == bad


@pytest.mark.parametrize("places", [{0}, {37}, {3, 4}, {0, 31, 63}])
def test_halving_asks_no_more_than_twice_a_level_for_each_guilty_structure(places: set[int]):
    structures = [labelled(index) for index in range(64)]
    bad = {structures[place].id for place in places}
    asked: list[int] = []

    def sound(some) -> bool:
        asked.append(len(some))
        return not bad & {structure.id for structure in some}

    assert {structure.id for structure in guilty(structures, sound)} == bad
    assert len(asked) <= 1 + 2 * len(bad) * log2(len(structures))


def test_a_whole_tick_but_its_exploding_label_is_learned_after_few_evaluations(monkeypatch: pytest.MonkeyPatch):
    config = config_of(
        rehearsal={"holdout_share": 0.0, "capacity": 60},
        quarantine={"enabled": False},
        learning={"batch_size": 32, "fresh_share": 1.0, "steps_per_record": 0.25},
    )
    learner = Learner(config)
    learner.process_tick([labelled(index) for index in range(8)])
    asked: list[int] = []
    honest = Trainer.sound

    def counted(trainer: Trainer, batch: Batch) -> bool:
        asked.append(batch.n_structures)
        return honest(trainer, batch)

    monkeypatch.setattr(Trainer, "sound", counted)
    tick = [labelled(index) for index in range(8, 40)]
    tick[19] = exploding(27)
    report = learner.process_tick(tick)

    assert [one.structure.id for one in report.diverging] == [tick[19].id]
    assert report.n_learned - len(report.diverging) == 31
    assert {structure.id for structure in learner._memory.reservoir} >= {one.id for one in tick} - {tick[19].id}
    assert len(report.steps) == 8
    assert max(asked) == 16
    assert len(asked) <= 2 + 2 * log2(32)


def test_an_exploding_structure_is_forgotten_and_the_rest_of_its_tick_is_learned():
    learner = learned([labelled(index) for index in range(12)])
    report = learner.process_tick([labelled(12), exploding(13), labelled(14)])
    assert [one.structure.id for one in report.diverging] == [labelled(13).id]
    assert len(report.steps) == 4
    assert all(np.isfinite(step.losses).all() for step in report.steps)
    assert learner.n_remembered == 14


def test_a_structure_that_explodes_leaves_no_trace_in_the_weights():
    before = learned([labelled(index) for index in range(12)])
    weights = {name: array.copy() for name, array in before.state_dict().items() if name.startswith("optimizer.")}
    report = before.process_tick([exploding(13)])
    assert len(report.diverging) == 1
    step_counts = [int(array) for name, array in before.state_dict().items() if name.endswith("n_steps")]
    assert step_counts == [int(array) + len(report.steps) for n, array in weights.items() if n.endswith("n_steps")]


def test_what_explodes_is_found_though_no_step_would_have_met_it():
    config = config_of(
        learning={"steps_per_record": 0.0}, rehearsal={"holdout_share": 0.0}, quarantine={"enabled": False}
    )
    learner = Learner.restore(config, learned([labelled(index) for index in range(12)]).state_dict())
    before = learner.ensemble.linear.features[8].coefficients
    report = learner.process_tick([exploding(13)])
    assert [one.structure.id for one in report.diverging] == [labelled(13).id]
    assert learner.ensemble.linear.features[8].coefficients.equal(before)


def test_an_overflow_is_blamed_on_the_structure_that_brings_it():
    learner = learned([labelled(index) for index in range(12)])
    report = learner.process_tick([replace(labelled(13), energy=-2e6), labelled(14)])
    assert [one.structure.id for one in report.diverging] == [labelled(13).id]
    assert np.isfinite(learner.assess().prequential.force_rmse)


def faulty_where(strikes: Callable[[Batch], bool]) -> type[Loss]:
    """A loss whose derivatives are no numbers for some micro-batches."""

    class Faulty(Loss):
        def __init__(self, batch: Batch, **weights: float) -> None:
            super().__init__(batch, **weights)
            self.factor = np.nan if strikes(batch) else 1.0

        def by_energy(self, energy: torch.Tensor) -> torch.Tensor:
            return super().by_energy(energy) * self.factor

    return Faulty


def test_a_fault_that_strikes_one_structure_only_is_blamed_on_it(monkeypatch: pytest.MonkeyPatch):
    learner = learned([labelled(index) for index in range(12)])
    struck = labelled(13)
    monkeypatch.setattr(trainer, "Loss", faulty_where(lambda batch: bool((batch.energy == struck.energy).any())))
    report = learner.process_tick([labelled(12), struck, labelled(14)])
    assert [one.structure.id for one in report.diverging] == [struck.id]
    assert learner.process_tick([struck]).n_duplicates == 1


def test_a_fault_that_no_structure_brings_alone_stops_the_learner(monkeypatch: pytest.MonkeyPatch):
    learner = learned([labelled(index) for index in range(12)])
    monkeypatch.setattr(trainer, "Loss", faulty_where(lambda batch: batch.n_structures > 1))
    before = learner.ensemble.state_dict()
    with pytest.raises(DivergedError, match="not finite"):
        learner.process_tick([labelled(12), labelled(13)])
    networks = {name: array for name, array in before.items() if name.startswith("element.")}
    assert networks
    assert all(learner.ensemble.state_dict()[name].equal(array) for name, array in networks.items())


def test_stopping_changes_no_bit_of_what_follows_an_explosion():
    ticks = [[labelled(index) for index in range(9)], [exploding(10), labelled(11)], [labelled(12), labelled(13)]]
    through = learned(*ticks)
    stopped = Learner.restore(CONFIG, learned(*ticks[:2]).state_dict())
    stopped.process_tick(ticks[2])
    assert_equal_states(stopped, through)
