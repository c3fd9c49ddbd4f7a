import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from lmlp_stream.atoms.structure import LabelledStructure, from_ase, to_ase, unlabelled


def test_geometry_survives_the_way_to_ase_and_back() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.pbc = (True, False, True)
    back = to_ase(from_ase(atoms))
    np.testing.assert_array_equal(back.positions, atoms.positions)
    np.testing.assert_array_equal(back.cell.array, atoms.cell.array)
    np.testing.assert_array_equal(back.numbers, atoms.numbers)
    np.testing.assert_array_equal(back.pbc, atoms.pbc)


def test_charge_and_multiplicity_are_read_from_info() -> None:
    atoms = molecule("OH")
    atoms.info.update(charge=-1, multiplicity=1)
    structure = from_ase(atoms)
    assert (structure.charge, structure.multiplicity) == (-1.0, 1)


def test_charge_and_multiplicity_are_else_the_sums_over_the_atoms() -> None:
    atoms = Atoms("OH", positions=[[0, 0, 0], [0, 0, 1]], charges=[-1.2, 0.2], magmoms=[1.0, 0.0])
    structure = from_ase(atoms)
    assert structure.charge == pytest.approx(-1.0)
    assert structure.multiplicity == 2


def test_a_structure_shares_no_memory_with_its_atoms() -> None:
    atoms = molecule("H2O")
    structure = from_ase(atoms)
    atoms.positions += 1.0
    assert structure.positions[0, 2] != atoms.positions[0, 2]


def test_labels_reach_the_calculator() -> None:
    plain = from_ase(bulk("Cu", cubic=True))
    stress = np.array([[1.0, 2, 3], [2, 4, 5], [3, 5, 6]])
    labelled = LabelledStructure(
        atomic_numbers=plain.atomic_numbers,
        positions=plain.positions,
        cell=plain.cell,
        pbc=plain.pbc,
        id="a",
        group="g",
        domain="d",
        energy=-3.5,
        forces=np.ones((4, 3)),
        stress=stress,
    )
    atoms = to_ase(labelled)
    assert atoms.get_potential_energy() == -3.5
    np.testing.assert_array_equal(atoms.get_forces(), np.ones((4, 3)))
    np.testing.assert_array_equal(atoms.get_stress(voigt=False), stress)


def test_an_unlabelled_structure_has_nan_labels_and_no_results() -> None:
    structure = unlabelled(from_ase(molecule("H2O")))
    assert np.isnan(structure.energy)
    assert np.isnan(structure.forces).all()
    assert to_ase(structure).calc.results == {}
