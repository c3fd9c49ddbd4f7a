from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from lmlp_stream.atoms.neighbors import neighbor_list
from lmlp_stream.atoms.structure import Structure
from lmlp_stream.errors import UsageError

CUTOFF = 4.0
CELL = np.array([[2.7, 0.3, 0.0], [0.2, 3.1, 0.1], [0.0, -0.4, 9.0]])


def structure(pbc: tuple[bool, bool, bool], cell: np.ndarray = CELL, n_atoms: int = 5) -> Structure:
    positions = np.random.default_rng(1).normal(scale=3.0, size=(n_atoms, 3))
    return Structure(
        atomic_numbers=np.full(n_atoms, 6),
        positions=positions,
        cell=cell,
        pbc=np.array(pbc),
    )


def brute_force(item: Structure) -> set[tuple[int, int, float, float, float]]:
    ranges = [range(-16, 17) if periodic else (0,) for periodic in item.pbc]
    found = set()
    for shift in product(*ranges):
        offset = np.array(shift) @ item.cell
        for i, j in product(range(item.n_atoms), repeat=2):
            vector = item.positions[j] - item.positions[i] + offset
            if 1e-8 < np.linalg.norm(vector) < CUTOFF:
                found.add((i, j, *(round(float(x), 9) + 0.0 for x in vector)))
    return found


@pytest.mark.parametrize("pbc", list(product([False, True], repeat=3)))
def test_pairs_are_those_of_a_search_through_all_images(pbc: tuple[bool, bool, bool]) -> None:
    item = structure(pbc)
    pairs = neighbor_list(item, CUTOFF)
    found = {
        (int(i), int(j), *(round(float(x), 9) + 0.0 for x in vector))
        for i, j, vector in zip(pairs.center_index, pairs.neighbor_index, pairs.vectors, strict=True)
    }
    assert len(found) == len(pairs.center_index)
    assert found == brute_force(item)


@pytest.mark.parametrize("pbc", [(True, False, False), (False, True, True), (False, False, False)])
def test_lattice_vectors_that_do_not_repeat_may_be_zero(pbc: tuple[bool, bool, bool]) -> None:
    cell = np.where(np.array(pbc)[:, None], CELL, 0.0)
    assert len(neighbor_list(structure(pbc, cell), CUTOFF).center_index) == len(brute_force(structure(pbc, cell)))


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, False)])
def test_the_reverse_of_a_pair_is_the_same_pair_seen_from_its_neighbor(pbc: tuple[bool, bool, bool]) -> None:
    pairs = neighbor_list(structure(pbc), CUTOFF)
    np.testing.assert_array_equal(pairs.center_index[pairs.reverse_index], pairs.neighbor_index)
    np.testing.assert_array_equal(pairs.neighbor_index[pairs.reverse_index], pairs.center_index)
    np.testing.assert_allclose(pairs.vectors[pairs.reverse_index], -pairs.vectors, atol=1e-14)
    np.testing.assert_array_equal(pairs.reverse_index[pairs.reverse_index], np.arange(len(pairs.reverse_index)))


@pytest.mark.parametrize("pbc", [(True, True, True), (False, False, False)])
def test_pairs_are_sorted_by_center_then_by_element_and_index_of_the_neighbor_then_by_image(
    pbc: tuple[bool, bool, bool],
) -> None:
    item = replace(structure(pbc), atomic_numbers=np.array([8, 6, 1, 8, 6]))
    pairs = neighbor_list(item, CUTOFF)
    offsets = pairs.vectors - item.positions[pairs.neighbor_index] + item.positions[pairs.center_index]
    shifts = (offsets @ np.linalg.inv(item.cell)).round().astype(int)
    keys = [
        (i, item.atomic_numbers[j], j, *shift)
        for i, j, shift in zip(pairs.center_index, pairs.neighbor_index, shifts, strict=True)
    ]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    np.testing.assert_array_equal(np.diff(pairs.starts), np.bincount(pairs.center_index, minlength=item.n_atoms))


def test_a_lonely_atom_has_no_neighbors() -> None:
    pairs = neighbor_list(structure((False, False, False), np.zeros((3, 3)), n_atoms=1), CUTOFF)
    assert pairs.vectors.shape == (0, 3)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, True, False)])
def test_a_cell_that_cannot_repeat_is_refused(pbc: tuple[bool, bool, bool]) -> None:
    with pytest.raises(UsageError, match="spans no volume"):
        neighbor_list(structure(pbc, np.diag([3.0, 0.0, 0.0])), CUTOFF)


@pytest.mark.parametrize("pbc", [(True, True, True), (False, False, False)])
def test_atoms_that_lie_on_each_other_are_refused_by_their_numbers(pbc: tuple[bool, bool, bool]) -> None:
    item = structure(pbc)
    item.positions[3] = item.positions[1] + (CELL[0] - 2 * CELL[2]) * pbc[0]
    with pytest.raises(UsageError, match=r"atoms 1 and 3 \(counted from 0\) lie within"):
        neighbor_list(item, CUTOFF)


@pytest.mark.parametrize("pbc", [(True, True, True), (False, True, False), (False, False, False)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_atom_at_no_finite_place_is_refused_by_its_number(pbc: tuple[bool, bool, bool], value: float) -> None:
    item = structure(pbc)
    item.positions[3:, 1] = value
    with pytest.raises(UsageError, match=rf"atom 3 \(counted from 0\) lies at \[.*{value}.*\] Å: give finite"):
        neighbor_list(item, CUTOFF)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, True, False), (False, False, False)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_cell_that_is_not_finite_is_refused(pbc: tuple[bool, bool, bool], value: float) -> None:
    with pytest.raises(UsageError, match=rf"the cell .*{value}.* Å is not finite: give finite"):
        neighbor_list(structure(pbc, np.diag([3.0, value, 3.0])), CUTOFF)
