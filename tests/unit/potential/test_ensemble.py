from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from lmlp_stream.atoms.batch import Batch, Example, collate
from lmlp_stream.atoms.structure import LabelledStructure, from_ase, unlabelled
from lmlp_stream.atoms.symmetry import SymmetryFunctions, spec_of
from lmlp_stream.config import SymmetryConfig
from lmlp_stream.potential.baseline import Baseline
from lmlp_stream.potential.ensemble import Ensemble, Prediction
from lmlp_stream.potential.linear import Features, LinearPart

CPU = torch.device("cpu")
SPEC = spec_of(SymmetryConfig(cutoff=4.0))
MEMBERS = 3


def batch_of(items: Sequence[Atoms], dtype: torch.dtype = torch.float64) -> Batch:
    functions = SymmetryFunctions(SPEC, dtype, CPU)
    structures = [unlabelled(from_ase(atoms)) for atoms in items]
    return collate([Example(structure, functions.evaluate(structure)) for structure in structures])


def rattled(atoms: Atoms, seed: int = 0) -> Atoms:
    atoms.rattle(0.1, seed=seed)
    return atoms


ETHANOL = rattled(molecule("CH3CH2OH"))
METHANOL = rattled(molecule("CH3OH"), seed=1)
THIN_CELL = rattled(bulk("NbMo", "cesiumchloride", a=3.2), seed=2)
SLAB = rattled(bulk("NbMo", "cesiumchloride", a=3.2), seed=3)
SLAB.pbc = (True, True, False)
ALONE = Atoms("C")
ALL = (ETHANOL, METHANOL, THIN_CELL, SLAB, ALONE)


def ensemble(dtype: torch.dtype = torch.float64, members: int = MEMBERS) -> Ensemble:
    made = Ensemble(
        SPEC, hidden=(12, 9), members=members, dtype=dtype, device=CPU, baseline=Baseline({6: -1000.0, 1: -13.0})
    )
    batch, generator = batch_of(ALL, dtype), torch.Generator().manual_seed(0)
    for z, atoms in batch.atoms_of.items():
        made.add_element(z, batch.values[atoms], generator)
    for parameters in made.parameters.values():
        parameters["weight_2"] *= 10
        parameters["shift"] += 0.01 * torch.randn(members, SPEC.n_functions, generator=generator)
    made.linear = LinearPart(0.6)
    for z, atoms in batch.atoms_of.items():
        random = torch.Generator().manual_seed(z)
        features = Features.drawn(batch.values[atoms], 20, random, members=members)
        coefficients = torch.randn(20, generator=random, dtype=torch.float64)
        deviations = torch.randn(20, members, generator=random, dtype=torch.float64)
        deviations -= deviations.mean(dim=1, keepdim=True)
        made.linear.features[z] = features.with_coefficients(coefficients).with_deviations(deviations)
    return made


def partly_familiar(atoms: Atoms) -> Ensemble:
    """The ensemble, for whose linear part the atoms lie a little beyond what it learned."""
    model, batch = ensemble(), batch_of([atoms])
    for z, some in batch.atoms_of.items():
        greatest = batch.values[some].amax(dim=0)
        model.linear.features[z] = replace(model.linear.features[z], lowest=greatest - 2.0, highest=greatest - 0.2)
    return model


def predict(items: Sequence[Atoms], dtype: torch.dtype = torch.float64) -> Prediction:
    return ensemble(dtype).predict(batch_of(items, dtype))


@pytest.mark.parametrize("is_familiar", [True, False])
@pytest.mark.parametrize("atoms", ALL, ids=["ethanol", "methanol", "thin cell", "slab", "atom"])
def test_forces_of_every_member_are_minus_the_slope_of_its_energy(atoms: Atoms, is_familiar: bool) -> None:
    model, h = ensemble() if is_familiar else partly_familiar(atoms), 2e-5
    forces = model.predict(batch_of([atoms])).forces
    for index in range(len(atoms)):
        for axis in range(3):
            ahead, behind = atoms.copy(), atoms.copy()
            ahead.positions[index, axis] += h
            behind.positions[index, axis] -= h
            energy = model.predict(batch_of([ahead, behind])).energy
            slope = (energy[:, 0] - energy[:, 1]) / (2 * h)
            torch.testing.assert_close(forces[:, index, axis], -slope, rtol=1e-5, atol=1e-6)


def test_stress_of_every_member_is_the_slope_of_its_energy_by_strain() -> None:
    model, h = ensemble(), 1e-5
    stress = model.predict(batch_of([THIN_CELL])).stress[:, 0]
    for one in range(3):
        for two in range(3):
            strained = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[one, two] += sign * h
                atoms = THIN_CELL.copy()
                atoms.set_cell(atoms.cell.array @ strain.T, scale_atoms=True)
                strained.append(atoms)
            energy = model.predict(batch_of(strained)).energy
            slope = (energy[:, 0] - energy[:, 1]) / (2 * h) / THIN_CELL.get_volume()
            torch.testing.assert_close(stress[:, one, two], slope, rtol=1e-5, atol=1e-7)


def test_only_structures_with_a_volume_have_stress() -> None:
    prediction = predict(ALL)
    assert prediction.stress.isnan().all(dim=(2, 3)).all(dim=0).tolist() == [True, True, False, True, True]
    assert predict([ETHANOL]).stress.isnan().all()


def test_a_batch_of_many_equals_each_alone() -> None:
    together, first = predict(ALL), 0
    for index, atoms in enumerate(ALL):
        alone, rows = predict([atoms]), slice(first, first + len(atoms))
        torch.testing.assert_close(together.energy[:, index], alone.energy[:, 0], rtol=1e-13, atol=1e-12)
        torch.testing.assert_close(together.forces[:, rows], alone.forces, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(
            together.stress[:, index], alone.stress[:, 0], rtol=1e-11, atol=1e-12, equal_nan=True
        )
        first += len(atoms)


def test_a_prediction_is_repeated_bit_for_bit() -> None:
    model, batch = ensemble(torch.float32), batch_of(ALL, torch.float32)
    first, again = model.predict(batch), model.predict(batch_of(ALL, torch.float32))
    assert torch.equal(first.energy, again.energy)
    assert torch.equal(first.forces, again.forces)


class Told:
    """A loss Σ (E - baseline)² + Σ k F² with k of each component, and what it was told."""

    def __init__(self, model: Ensemble, batch: Batch) -> None:
        self.baseline = model.baseline.energy(batch.composition)
        self.energy = torch.empty(0)
        self.forces: list[torch.Tensor] = []

    def by_energy(self, energy: torch.Tensor) -> torch.Tensor:
        self.energy = energy
        return 2 * (energy - self.baseline)

    def by_forces(self, forces: torch.Tensor) -> torch.Tensor:
        self.forces.append(forces.clone())
        return 2 * self.counts(forces) * forces

    def counts(self, forces: torch.Tensor) -> torch.Tensor:
        return 1 + torch.arange(forces.numel(), dtype=forces.dtype).view(forces.shape) / forces.numel()

    @property
    def total(self) -> torch.Tensor:
        return ((self.energy - self.baseline) ** 2).sum() + sum(
            (self.counts(forces) * forces**2).sum() for forces in self.forces
        )


def test_a_loss_is_told_what_the_networks_alone_predict() -> None:
    model, batch = ensemble(), batch_of(ALL)
    told = Told(model, batch)
    model.loss_gradient(batch, told.by_energy, told.by_forces, model.baseline.energy(batch.composition))
    model.linear = None
    plain = model.predict(batch)
    torch.testing.assert_close(told.energy, plain.energy, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.cat(told.forces).permute(2, 0, 1), plain.forces, rtol=1e-12, atol=1e-12)


def test_the_gradient_of_a_loss_of_energies_and_forces_is_the_slope_of_the_loss() -> None:
    model, batch = ensemble(), batch_of([METHANOL, THIN_CELL, ALONE, ETHANOL])
    told = Told(model, batch)
    gradients = model.loss_gradient(batch, told.by_energy, told.by_forces, model.baseline.energy(batch.composition))
    assert list(gradients) == [z for z in model.elements if z in batch.atoms_of]
    generator = torch.Generator().manual_seed(4)
    for z, of_element in gradients.items():
        for name, gradient in zip(model.parameters[z], of_element, strict=True):
            parameter = model.parameters[z][name]
            direction = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            step, before, ends = 1e-6, parameter.clone(), []
            for sign in (1, -1):
                parameter.copy_(before + sign * step * direction)
                moved = Told(model, batch)
                model.loss_gradient(batch, moved.by_energy, moved.by_forces, model.baseline.energy(batch.composition))
                ends.append(moved.total)
            parameter.copy_(before)
            slope = (ends[0] - ends[1]) / (2 * step)
            torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-6, atol=1e-6)


def test_the_gradient_in_single_precision_is_that_in_double_precision() -> None:
    gradients = []
    for dtype in (torch.float64, torch.float32):
        model, batch = ensemble(torch.float64), batch_of([METHANOL, THIN_CELL, ALONE, ETHANOL], dtype)
        model.parameters = {
            z: {name: array.to(dtype) for name, array in of_element.items()}
            for z, of_element in model.parameters.items()
        }
        told = Told(model, batch)
        gradients.append(
            model.loss_gradient(batch, told.by_energy, told.by_forces, model.baseline.energy(batch.composition))
        )
    double, single = gradients
    for z, of_element in double.items():
        for exact, found in zip(of_element, single[z], strict=True):
            torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=2e-5 * float(exact.abs().max()))


def test_two_copies_far_apart_have_twice_the_energy() -> None:
    two = ETHANOL.copy()
    other = ETHANOL.copy()
    other.translate([100.0, 0.0, 0.0])
    two.extend(other)
    prediction = predict([ETHANOL, two])
    torch.testing.assert_close(prediction.energy[:, 1], 2 * prediction.energy[:, 0], rtol=1e-12, atol=0)
    forces = prediction.forces[:, : len(ETHANOL)]
    torch.testing.assert_close(prediction.forces[:, len(ETHANOL) :], forces.repeat(1, 2, 1), rtol=1e-10, atol=1e-11)


def test_a_supercell_has_the_forces_and_stress_of_its_cell() -> None:
    prediction = predict([THIN_CELL, THIN_CELL.repeat((2, 2, 2))])
    torch.testing.assert_close(prediction.energy[:, 1], 8 * prediction.energy[:, 0], rtol=1e-12, atol=1e-11)
    torch.testing.assert_close(
        prediction.forces[:, 2:], prediction.forces[:, :2].repeat(1, 8, 1), rtol=1e-9, atol=1e-11
    )
    torch.testing.assert_close(prediction.stress[:, 1], prediction.stress[:, 0], rtol=1e-10, atol=1e-12)


def check_the_same(found: Prediction, expected: Prediction, order: np.ndarray) -> None:
    """All members say the same of a structure whose atom i was atom order[i]."""
    torch.testing.assert_close(found.energy, expected.energy, rtol=1e-14, atol=1e-12)
    torch.testing.assert_close(found.forces, expected.forces[:, order], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.stress, expected.stress, rtol=1e-12, atol=1e-13, equal_nan=True)


@pytest.mark.parametrize("is_familiar", [True, False])
@pytest.mark.parametrize(
    "atoms", [ETHANOL, THIN_CELL.repeat((2, 1, 2)), SLAB.repeat((2, 2, 1))], ids=["ethanol", "thin cell", "slab"]
)
def test_forces_follow_their_atoms_through_a_permutation(atoms: Atoms, is_familiar: bool) -> None:
    model = ensemble() if is_familiar else partly_familiar(atoms)
    order = np.random.default_rng(6).permutation(len(atoms))
    check_the_same(model.predict(batch_of([atoms[order]])), model.predict(batch_of([atoms])), order)


@pytest.mark.parametrize("is_familiar", [True, False])
@pytest.mark.parametrize("atoms", [THIN_CELL, SLAB], ids=["thin cell", "slab"])
def test_it_does_not_matter_which_image_of_an_atom_is_named(atoms: Atoms, is_familiar: bool) -> None:
    model, other = ensemble() if is_familiar else partly_familiar(atoms), atoms.copy()
    other.positions += (np.array([[3, 0, -2], [0, 5, 1]]) * atoms.pbc) @ atoms.cell.array
    check_the_same(model.predict(batch_of([other])), model.predict(batch_of([atoms])), np.arange(len(atoms)))


def test_forces_turn_with_the_structure_and_sum_to_zero() -> None:
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turned = ETHANOL.copy()
    turned.positions = ETHANOL.positions @ turn.T
    prediction = predict([ETHANOL, turned])
    n_atoms = len(ETHANOL)
    torch.testing.assert_close(
        prediction.forces[:, n_atoms:], prediction.forces[:, :n_atoms] @ torch.tensor(turn.T), rtol=1e-9, atol=1e-10
    )
    assert prediction.forces[:, :n_atoms].sum(dim=1).abs().max() < 1e-11


def test_single_precision_agrees_with_double() -> None:
    single, double = predict(ALL, torch.float32), predict(ALL)
    assert single.forces.dtype == torch.float32
    assert single.energy.dtype == torch.float64
    torch.testing.assert_close(single.energy, double.energy, rtol=0, atol=1e-4)
    torch.testing.assert_close(single.forces.double(), double.forces, rtol=1e-3, atol=1e-3)


def test_an_isolated_atom_has_no_forces() -> None:
    assert predict([ALONE]).forces.abs().max() == 0


def test_energies_include_the_baseline() -> None:
    batch = batch_of([METHANOL])
    model = ensemble()
    with_baseline = model.predict(batch).energy
    model.baseline = Baseline({})
    torch.testing.assert_close(with_baseline - model.predict(batch).energy, torch.full((3, 1), -1052.0).double())


def test_mean_and_disagreement_are_those_of_the_members() -> None:
    prediction = predict([ETHANOL, THIN_CELL])
    torch.testing.assert_close(prediction.mean_energy, prediction.energy.mean(dim=0))
    torch.testing.assert_close(prediction.mean_forces, prediction.forces.mean(dim=0))
    torch.testing.assert_close(prediction.mean_stress[1], prediction.stress.mean(dim=0)[1])
    expected = np.std(prediction.energy.numpy(), axis=0, ddof=1)
    np.testing.assert_allclose(prediction.energy_disagreement.numpy(), expected, rtol=1e-12)
    expected = np.std(prediction.forces.numpy(), axis=0, ddof=1)
    np.testing.assert_allclose(prediction.forces_disagreement.numpy(), expected, rtol=1e-12)


def test_one_member_disagrees_with_nobody() -> None:
    prediction = ensemble(members=1).predict(batch_of([ETHANOL]))
    assert prediction.energy_disagreement.tolist() == [0.0]
    assert prediction.forces_disagreement.abs().max() == 0


def test_a_new_element_leaves_the_others_alone_and_elements_stay_sorted() -> None:
    model = ensemble()
    before = model.state_dict()
    assert model.elements == (1, 6, 8, 41, 42)
    assert model.covers([1, 8])
    assert not model.covers([1, 9])
    model.add_element(9, batch_of([ETHANOL]).values[:1], torch.Generator().manual_seed(1))
    assert model.elements == (1, 6, 8, 9, 41, 42)
    assert all(torch.equal(model.state_dict()[name], array) for name, array in before.items())


def test_an_ensemble_survives_its_state() -> None:
    model, batch = ensemble(), batch_of(ALL)
    state = model.state_dict()
    again = Ensemble.from_state(SPEC, state, hidden=(12, 9), members=MEMBERS, dtype=torch.float64, device=CPU)
    assert torch.equal(again.predict(batch).energy, model.predict(batch).energy)
    assert torch.equal(again.predict(batch).forces, model.predict(batch).forces)
    assert again.state_dict().keys() == state.keys()


def test_parameters_keep_their_order_whatever_the_order_of_the_state() -> None:
    first = ensemble()
    state = dict(sorted(first.state_dict().items(), reverse=True))
    again = Ensemble.from_state(
        first.spec, state, hidden=first.hidden, members=first.members, dtype=first.dtype, device=first.device
    )
    assert [(z, list(named)) for z, named in again.parameters.items()] == [
        (z, list(named)) for z, named in first.parameters.items()
    ]


def test_a_state_does_not_follow_later_changes() -> None:
    model = ensemble()
    state = model.state_dict()
    model.parameters[6]["bias_0"] += 1
    assert state["element.6.bias_0"].abs().max() == 0


def test_labels_do_not_touch_a_prediction() -> None:
    plain = from_ase(METHANOL)
    structure = LabelledStructure(
        atomic_numbers=plain.atomic_numbers,
        positions=plain.positions,
        cell=plain.cell,
        pbc=plain.pbc,
        id="",
        group="",
        domain="",
        energy=5.0,
        forces=np.ones((plain.n_atoms, 3)),
    )
    batch = collate([Example(structure, SymmetryFunctions(SPEC, torch.float64, CPU).evaluate(structure))])
    assert torch.equal(ensemble().predict(batch).energy, predict([METHANOL]).energy)
