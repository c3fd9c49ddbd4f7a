import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from hypothesis import given
from hypothesis import strategies as st

from lmlp_stream.errors import UsageError
from lmlp_stream.farm.labels import ENERGY_KEYS, LabelFinder, Labels, Missing, calculated_labels, full_stress

FORCES = np.arange(9.0).reshape(3, 3)


def water(**info: object) -> Atoms:
    atoms = Atoms("OH2", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    for key, value in info.items():
        (atoms.arrays if np.shape(value) == (3, 3) else atoms.info)[key] = value
    return atoms


def found(atoms: Atoms, finder: LabelFinder | None = None) -> Labels:
    labels = (finder or LabelFinder()).find(atoms, "water.xyz, structure 1")
    assert isinstance(labels, Labels)
    return labels


@pytest.mark.parametrize("prefix", ["REF_", "", "dft_", "DFT_"])
def test_labels_are_found_under_the_keys_people_use(prefix: str):
    finder = LabelFinder()
    labels = found(water(**{f"{prefix}energy": -76.0, f"{prefix}forces": FORCES}), finder)

    assert labels.energy == -76.0
    assert np.array_equal(labels.forces, FORCES)
    assert (finder.energy_key, finder.forces_key) == (f"{prefix}energy", f"{prefix}forces")


def test_total_energy_goes_with_any_forces():
    assert found(water(TotEnergy=-76.0, forces=FORCES)).energy == -76.0


def test_results_of_a_calculator_are_labels():
    atoms = water()
    atoms.calc = SinglePointCalculator(atoms, energy=-76.0, forces=FORCES)

    assert found(atoms).energy == -76.0


def test_the_same_energy_under_two_keys_is_no_doubt():
    finder = LabelFinder()

    assert found(water(REF_energy=-76.0, energy=-76.0 + 1e-9, REF_forces=FORCES), finder).energy == -76.0
    assert finder.energy_key == "REF_energy"


def test_two_energies_that_differ_are_refused():
    with pytest.raises(UsageError, match=r"structure 1: 'REF_energy' and 'energy' hold different .*--energy-key"):
        found(water(REF_energy=-76.0, energy=-75.0, REF_forces=FORCES))


def test_two_forces_that_differ_are_refused():
    with pytest.raises(UsageError, match=r"'REF_forces' and 'dft_forces' hold different .*--forces-key"):
        found(water(REF_energy=-76.0, REF_forces=FORCES, dft_forces=FORCES + 1))


def test_a_key_that_is_named_ends_the_doubt():
    finder = LabelFinder("energy", "REF_forces")

    assert found(water(REF_energy=-76.0, energy=-75.0, REF_forces=FORCES), finder).energy == -75.0


def test_energy_and_forces_of_two_families_are_refused():
    with pytest.raises(UsageError, match=r"'REF_energy' but the forces under 'forces'.*--energy-key REF_energy"):
        found(water(REF_energy=-76.0, forces=FORCES))


def test_a_key_that_changes_within_a_file_is_refused():
    finder = LabelFinder()
    found(water(REF_energy=-76.0, REF_forces=FORCES), finder)

    with pytest.raises(UsageError, match="under 'energy' but under 'REF_energy' in the structures before"):
        found(water(energy=-76.0, forces=FORCES), finder)


def test_a_structure_without_labels_says_what_was_looked_for():
    missing = LabelFinder().find(water(), "")

    assert isinstance(missing, Missing)
    assert all(key in missing.clause for key in (*ENERGY_KEYS, "REF_forces"))


def test_forces_are_wanted_unless_they_are_said_to_be_missing():
    assert isinstance(LabelFinder().find(water(energy=-76.0), ""), Missing)
    assert np.isnan(found(water(energy=-76.0), LabelFinder(forces_key="none")).forces).all()
    assert np.isnan(found(water(forces=FORCES), LabelFinder(energy_key="none")).energy)


def test_a_single_atom_needs_no_forces():
    assert found(Atoms("H", info={"energy": -13.6})).energy == -13.6


def test_forces_of_another_number_of_atoms_are_refused():
    with pytest.raises(UsageError, match=r"forces has shape \[2, 3\] instead of \[3, 3\]"):
        found(Atoms("OH2", positions=FORCES, info={"energy": -76.0, "forces": FORCES[:2]}))


def test_an_energy_that_is_no_number_is_refused():
    with pytest.raises(UsageError, match="energy is 'low', not numbers"):
        found(water(energy="low", forces=FORCES))


def test_the_stress_of_a_crystal_comes_from_the_family_of_its_energy():
    atoms = water(REF_energy=-76.0, REF_forces=FORCES, stress=[9.0] * 6)
    atoms.info["REF_stress"] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    atoms.set_cell([5, 5, 5])
    atoms.pbc = True

    stress = found(atoms).stress

    assert stress is not None
    assert stress.tolist() == [[1, 6, 5], [6, 2, 4], [5, 4, 3]]


def test_a_molecule_has_no_stress():
    assert found(water(energy=-76.0, forces=FORCES, stress=[0.0] * 6)).stress is None


@given(st.lists(st.floats(-1e3, 1e3), min_size=6, max_size=6))
def test_a_stress_is_the_same_in_six_and_in_nine_numbers(voigt: list[float]):
    full = full_stress(voigt, "")

    assert np.array_equal(full, full.T)
    assert np.array_equal(full_stress(full, ""), full)
    assert np.array_equal(full[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], voigt)


@given(st.sampled_from(ENERGY_KEYS), st.sampled_from(ENERGY_KEYS), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_no_label_is_guessed_between_two(one: str, other: str, first: float, second: float):
    atoms = water(**{one: first, other: second})
    finder = LabelFinder(forces_key="none")
    agree = one == other or abs(first - second) <= 1e-6

    if agree:
        assert abs(found(atoms, finder).energy - second) <= 1e-6
    else:
        with pytest.raises(UsageError, match="hold different energy"):
            finder.find(atoms, "")


def test_a_calculator_is_asked_for_forces_on_fixed_atoms_too():
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 1.0]], constraint=FixAtoms([0]))
    atoms.calc = LennardJones()

    assert np.abs(calculated_labels(atoms).forces[0]).max() > 1.0


def test_results_for_other_positions_are_no_labels():
    atoms = water()
    atoms.calc = SinglePointCalculator(atoms, energy=-76.0, forces=FORCES)
    atoms.positions[0, 0] += 0.1

    with pytest.raises(UsageError, match="calculator of H2O has no energy or forces at these positions"):
        calculated_labels(atoms)


def test_a_label_that_is_nan_is_no_label():
    assert isinstance(LabelFinder().find(water(energy=float("nan"), forces=FORCES), ""), Missing)


def test_a_calculator_that_says_nan_is_refused():
    atoms = water()
    atoms.calc = SinglePointCalculator(atoms, energy=float("nan"), forces=FORCES)

    with pytest.raises(UsageError, match="says NaN"):
        calculated_labels(atoms)
