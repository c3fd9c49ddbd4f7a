import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule

from lmlp_stream.atoms.batch import Example, collate, composition_of
from lmlp_stream.atoms.structure import LabelledStructure, Structure, from_ase, unlabelled
from lmlp_stream.atoms.symmetry import SymmetryFunctions, spec_of
from lmlp_stream.config import SymmetryConfig

FUNCTIONS = SymmetryFunctions(spec_of(SymmetryConfig(cutoff=4.0)), torch.float32, torch.device("cpu"))


def example(structure: LabelledStructure) -> Example:
    return Example(structure, FUNCTIONS.evaluate(structure))


def labelled(atoms: Atoms, stress: np.ndarray | None = None) -> LabelledStructure:
    plain: Structure = from_ase(atoms)
    return LabelledStructure(
        atomic_numbers=plain.atomic_numbers,
        positions=plain.positions,
        cell=plain.cell,
        pbc=plain.pbc,
        id="x",
        group="g",
        domain="d",
        energy=-1000.123456789,
        forces=np.arange(3.0 * len(atoms)).reshape(-1, 3),
        stress=stress,
        weight=0.5,
    )


WATER = example(labelled(molecule("H2O")))
COPPER = example(labelled(bulk("Cu"), stress=np.eye(3)))
ALONE = example(unlabelled(from_ase(Atoms("Ar"))))


def test_atoms_of_all_structures_are_concatenated_in_order() -> None:
    batch = collate([WATER, COPPER, ALONE])
    assert batch.n_structures == 3
    assert batch.structure_index.tolist() == [0, 0, 0, 1, 2]
    assert batch.atomic_numbers.tolist() == [8, 1, 1, 29, 18]
    assert batch.n_atoms.tolist() == [3, 1, 1]
    assert {z: some.tolist() for z, some in batch.atoms_of.items()} == {1: [1, 2], 8: [0], 18: [4], 29: [3]}
    assert batch.order.tolist() == [1, 2, 0, 4, 3]
    assert batch.order[batch.rows].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(batch.values[:3], WATER.descriptors.values)


def test_descriptors_are_not_copied() -> None:
    batch = collate([WATER, COPPER, ALONE])
    assert batch.descriptors[0] is WATER.descriptors
    assert batch.descriptors[2].angular.shape[2] == 0


def test_missing_labels_are_nan() -> None:
    batch = collate([COPPER, WATER, ALONE])
    assert batch.energy.isnan().tolist() == [False, False, True]
    assert batch.forces.isnan().all(dim=1).tolist() == [False, False, False, False, True]
    assert batch.stress.isnan().all(dim=(1, 2)).tolist() == [False, True, True]
    assert batch.weight.tolist() == [0.5, 0.5, 1.0]


def test_energies_keep_double_precision_beside_single_precision_networks() -> None:
    batch = collate([WATER])
    assert batch.values.dtype == torch.float32
    assert batch.energy.item() == -1000.123456789


def test_only_cells_that_repeat_in_three_directions_have_a_volume() -> None:
    slab = bulk("Cu")
    slab.pbc = (True, True, False)
    batch = collate([COPPER, WATER, example(labelled(slab))])
    assert batch.any_volume
    torch.testing.assert_close(batch.volume[0].item(), float(bulk("Cu").get_volume()), rtol=1e-6, atol=0)
    assert batch.volume.isnan().tolist() == [False, True, True]
    assert not collate([WATER]).any_volume


def test_composition_counts_atoms_by_atomic_number() -> None:
    batch = collate([WATER, COPPER])
    assert batch.composition.shape == (2, 119)
    assert batch.composition[0, [1, 8, 29]].tolist() == [2, 1, 0]
    np.testing.assert_array_equal(composition_of(np.array([8, 1, 1])), batch.composition[0].numpy())


def test_an_atom_alone_makes_a_batch() -> None:
    batch = collate([ALONE])
    assert batch.values.shape == (1, FUNCTIONS.n_functions)
    assert batch.descriptors[0].neighbor_index.shape == (1, 0)
