"""The loss by hand, and what missing labels do to it."""

import numpy as np
import pytest
import torch

from lmlp_stream.atoms.batch import Example, collate
from lmlp_stream.atoms.padding import Capacity, PaddedBatch
from lmlp_stream.atoms.symmetry import SymmetryFunctions, spec_of
from lmlp_stream.config import SymmetryConfig
from lmlp_stream.learning.loss import Loss
from tests.unit.learning.structures import METHANE, WATER, labelled

FUNCTIONS = SymmetryFunctions(spec_of(SymmetryConfig(preset="published")), torch.float64, torch.device("cpu"))


def batch_of(*structures):
    return collate([Example(structure, FUNCTIONS.evaluate(structure)) for structure in structures])


def told(batch, energy, force, members=2, energy_weight=1.0, force_weight=1.0):
    """A loss that was told energies and forces off by so much, and the derivatives it answered with."""
    loss = Loss(batch, energy_weight=energy_weight, force_weight=force_weight)
    by_energy = loss.by_energy(batch.energy.nan_to_num().repeat(members, 1) + energy)
    sizes = [len(descriptors.values) for descriptors in batch.descriptors]
    forces = batch.forces.nan_to_num()[:, :, None].repeat(1, 1, members) + force
    by_forces = torch.cat([loss.by_forces(of_structure) for of_structure in torch.split(forces, sizes)])
    return loss, by_energy, by_forces


def test_the_loss_is_the_weighted_sum_of_both_mean_squares_over_members():
    batch = batch_of(labelled(0, WATER), labelled(1, WATER))
    loss, _, _ = told(batch, 0.3, 0.2, energy_weight=10.0, force_weight=2.0)
    assert loss.energy.item() == pytest.approx(10 * 0.1**2)
    assert loss.force.item() == pytest.approx(2 * 0.2**2)


def test_the_derivatives_are_the_slopes_of_the_sum_over_members():
    some_forces = np.full((5, 3), 0.1)
    some_forces[1] = np.nan
    batch = batch_of(labelled(0, WATER, weight=3.0), labelled(1, METHANE, forces=some_forces))
    generator = torch.Generator().manual_seed(0)
    energy = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    force = torch.randn(8, 3, 2, generator=generator, dtype=torch.float64)

    def total(energy, force):
        loss, *derivatives = told(batch, energy, force, energy_weight=10.0, force_weight=2.0)
        return 2 * (loss.energy + loss.force), derivatives

    _, (by_energy, by_forces) = total(energy, force)
    step = 1e-5
    for index in np.ndindex(*energy.shape):
        apart = torch.zeros_like(energy)
        apart[index] = step
        slope = (total(energy + apart, force)[0] - total(energy - apart, force)[0]) / (2 * step)
        assert by_energy[index].item() == pytest.approx(slope.item(), rel=1e-6)
    for index in np.ndindex(*force.shape):
        apart = torch.zeros_like(force)
        apart[index] = step
        slope = (total(energy, force + apart)[0] - total(energy, force - apart)[0]) / (2 * step)
        assert by_forces[index].item() == pytest.approx(slope.item(), rel=1e-6, abs=1e-9)


def test_a_missing_label_takes_no_part_and_gets_no_gradient():
    no_forces = np.full((3, 3), np.nan)
    batch = batch_of(labelled(0, WATER, energy=float("nan")), labelled(1, WATER, forces=no_forces))
    loss, by_energy, by_forces = told(batch, 0.3, 0.2)
    assert loss.energy.item() == pytest.approx(0.1**2)
    assert loss.force.item() == pytest.approx(0.2**2)
    assert (by_energy[:, 0] == 0).all()
    assert (by_energy[:, 1] != 0).all()
    assert (by_forces[:3] != 0).all()
    assert (by_forces[3:] == 0).all()


def test_without_any_energy_label_the_energy_term_is_zero():
    batch = batch_of(labelled(0, WATER, energy=float("nan")))
    loss, _, _ = told(batch, 5.0, 0.0)
    assert loss.energy.item() == 0.0
    assert loss.by_structure.tolist() == [0.0]


def test_a_prediction_that_is_not_finite_is_not_taken_for_a_missing_label():
    loss, _, _ = told(batch_of(labelled(0, WATER)), float("nan"), 0.0)
    assert loss.energy.isnan()
    assert loss.by_structure.isnan().all()


def test_structures_count_by_their_weight():
    batch = batch_of(labelled(0, WATER, weight=3.0), labelled(1, METHANE, weight=1.0))
    loss, _, _ = told(batch, torch.tensor([0.3, 0.0]), 0.0)
    assert loss.energy.item() == pytest.approx(0.1**2 * 3 / 4)


def test_the_loss_of_each_structure_alone_is_told():
    batch = batch_of(labelled(0, WATER, weight=2.0), labelled(1, METHANE, energy=float("nan")))
    off_by = torch.tensor([0.3, 0.5])
    loss, _, _ = told(batch, off_by, 0.2, energy_weight=10.0, force_weight=2.0)
    assert loss.by_structure.tolist() == pytest.approx([10 * 0.1**2 + 2 * 0.2**2, 2 * 0.2**2])
    alone = [batch_of(structure) for structure in (labelled(0, WATER), labelled(1, METHANE, energy=float("nan")))]
    losses = [
        told(one, off_by[[index]], 0.2, energy_weight=10.0, force_weight=2.0)[0] for index, one in enumerate(alone)
    ]
    assert loss.by_structure.tolist() == pytest.approx([(loss.energy + loss.force).item() for loss in losses])


def test_the_loss_of_a_structure_alone_does_not_know_its_weight():
    batch = batch_of(labelled(0, WATER, weight=1e-30), labelled(1, METHANE))
    loss, _, _ = told(batch, 0.3, 0.2)
    expected = batch_of(labelled(0, WATER), labelled(1, METHANE))
    assert loss.by_structure.tolist() == pytest.approx(told(expected, 0.3, 0.2)[0].by_structure.tolist())


def test_what_is_predicted_where_no_label_is_does_not_matter():
    batch = batch_of(labelled(0, WATER, energy=float("nan"), forces=np.full((3, 3), np.nan)), labelled(1, METHANE))
    force = torch.zeros(8, 3, 2, dtype=torch.float64)
    force[:3] = torch.inf
    loss, by_energy, by_forces = told(batch, torch.tensor([torch.inf, 0.1]), force)
    assert loss.by_structure.isfinite().all()
    assert by_energy.isfinite().all()
    assert by_forces.isfinite().all()


def test_a_padded_batch_has_the_loss_of_its_structures():
    some_forces = np.full((5, 3), 0.1)
    some_forces[1] = np.nan
    batch = batch_of(
        labelled(0, WATER, weight=3.0),
        labelled(1, METHANE, forces=some_forces),
        labelled(2, WATER, energy=float("nan")),
    )
    capacity = Capacity(5, {1: 20, 6: 3, 8: 4}, n_neighbors=8)
    padded = PaddedBatch(capacity, FUNCTIONS.spec, torch.float64, torch.device("cpu"))
    padded.put(batch)
    expected, by_energy, by_forces = told(batch, torch.tensor([0.3, -0.2, 0.7]), 0.2, energy_weight=10.0)
    energy = torch.tensor([0.3, -0.2, 0.7, 5.0, 5.0, 5.0])
    loss, padded_by_energy, padded_by_forces = told(padded.batch, energy, 0.2, energy_weight=10.0)
    exact = {"rtol": 1e-13, "atol": 0}
    torch.testing.assert_close(loss.energy, expected.energy, **exact)
    torch.testing.assert_close(loss.force, expected.force, **exact)
    torch.testing.assert_close(loss.by_structure[:3], expected.by_structure, **exact)
    torch.testing.assert_close(padded_by_energy[:, :3], by_energy, **exact)
    torch.testing.assert_close(padded_by_forces[:11], by_forces, **exact)
    assert not loss.by_structure[3:].any()
    assert not padded_by_energy[:, 3:].any()
    assert not padded_by_forces[11:].any()
