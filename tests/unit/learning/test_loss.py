"""The loss by hand, and what missing labels do to it."""

import numpy as np
import pytest
import torch

from lmlp_stream.atoms.batch import Example, collate
from lmlp_stream.atoms.symmetry import SymmetryFunctions, spec_of
from lmlp_stream.config import SymmetryConfig
from lmlp_stream.learning.loss import loss
from lmlp_stream.potential.ensemble import Prediction
from tests.unit.learning.structures import METHANE, WATER, labelled

FUNCTIONS = SymmetryFunctions(spec_of(SymmetryConfig(preset="published")), torch.float64, torch.device("cpu"))


def batch_of(*structures):
    return collate([Example(structure, FUNCTIONS.evaluate(structure)) for structure in structures])


def prediction_off_by(batch, energy, force, members=2):
    energies = batch.energy.nan_to_num().repeat(members, 1) + energy
    forces = batch.forces.nan_to_num().repeat(members, 1, 1) + force
    stress = torch.full((members, batch.n_structures, 3, 3), torch.nan, dtype=torch.float64)
    return Prediction(energies.requires_grad_(), forces.requires_grad_(), stress)


def test_the_loss_is_the_weighted_sum_of_both_mean_squares_over_members():
    batch = batch_of(labelled(0, WATER), labelled(1, WATER))
    value = loss(prediction_off_by(batch, 0.3, 0.2), batch, energy_weight=10.0, force_weight=2.0)
    assert value.energy.item() == pytest.approx(10 * 0.1**2)
    assert value.force.item() == pytest.approx(2 * 0.2**2)
    assert value.total.item() == pytest.approx(2 * (10 * 0.1**2 + 2 * 0.2**2))


def test_a_missing_label_takes_no_part_and_gets_no_gradient():
    no_forces = np.full((3, 3), np.nan)
    batch = batch_of(labelled(0, WATER, energy=float("nan")), labelled(1, WATER, forces=no_forces))
    prediction = prediction_off_by(batch, 0.3, 0.2)
    value = loss(prediction, batch, energy_weight=1.0, force_weight=1.0)
    energy_gradient, force_gradient = torch.autograd.grad(value.total, [prediction.energy, prediction.forces])
    assert value.energy.item() == pytest.approx(0.1**2)
    assert value.force.item() == pytest.approx(0.2**2)
    assert (energy_gradient[:, 0] == 0).all()
    assert (energy_gradient[:, 1] != 0).all()
    assert (force_gradient[:, :3] != 0).all()
    assert (force_gradient[:, 3:] == 0).all()


def test_without_any_energy_label_the_energy_term_is_zero():
    batch = batch_of(labelled(0, WATER, energy=float("nan")))
    assert loss(prediction_off_by(batch, 5.0, 0.0), batch, energy_weight=1.0, force_weight=1.0).total.item() == 0.0


def test_a_prediction_that_is_not_finite_is_not_taken_for_a_missing_label():
    batch = batch_of(labelled(0, WATER))
    value = loss(prediction_off_by(batch, float("nan"), 0.0), batch, energy_weight=1.0, force_weight=1.0)
    assert value.total.isnan()


def test_structures_count_by_their_weight():
    batch = batch_of(labelled(0, WATER, weight=3.0), labelled(1, METHANE, weight=1.0))
    prediction = prediction_off_by(batch, torch.tensor([0.3, 0.0]), 0.0)
    value = loss(prediction, batch, energy_weight=1.0, force_weight=1.0)
    assert value.energy.item() == pytest.approx(0.1**2 * 3 / 4)


def test_the_loss_of_each_structure_alone_is_told():
    batch = batch_of(labelled(0, WATER), labelled(1, METHANE, energy=float("nan")))
    off_by = torch.tensor([0.3, 0.5])
    value = loss(prediction_off_by(batch, off_by, 0.2), batch, energy_weight=10.0, force_weight=2.0)
    assert value.by_structure.tolist() == pytest.approx([10 * 0.1**2 + 2 * 0.2**2, 2 * 0.2**2])
    alone = [batch_of(structure) for structure in (labelled(0, WATER), labelled(1, METHANE, energy=float("nan")))]
    totals = [
        loss(prediction_off_by(one, off_by[[index]], 0.2, members=1), one, energy_weight=10.0, force_weight=2.0).total
        for index, one in enumerate(alone)
    ]
    assert value.by_structure.tolist() == pytest.approx([total.item() for total in totals])
