import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from lmlp_stream.atoms.batch import Batch, Example, collate
from lmlp_stream.atoms.padding import Capacity, PaddedBatch
from lmlp_stream.atoms.symmetry import SymmetryFunctions, spec_of
from lmlp_stream.config import SymmetryConfig
from tests.unit.atoms.test_batch import labelled

SPEC = spec_of(SymmetryConfig(cutoff=4.0))
FUNCTIONS = SymmetryFunctions(SPEC, torch.float64, torch.device("cpu"))


def batch_of(*atoms: Atoms) -> Batch:
    structures = [labelled(one) for one in atoms]
    return collate([Example(structure, FUNCTIONS.evaluate(structure)) for structure in structures])


WATER, ETHANOL, CELL, ALONE = molecule("H2O"), molecule("CH3CH2OH"), bulk("Cu").repeat((2, 1, 1)), Atoms("Cu")
ELEMENTS = (1, 6, 8, 29)
MANY = batch_of(CELL, WATER, ALONE, ETHANOL)


def padded(batch: Batch, capacity: Capacity | None = None) -> Batch:
    capacity = capacity or Capacity().grown(batch, ELEMENTS)
    made = PaddedBatch(capacity, SPEC, torch.float64, torch.device("cpu"))
    made.put(batch)
    return made.batch


def test_capacities_leave_room_and_grow_only_where_they_must() -> None:
    first = Capacity().grown(MANY, ELEMENTS)
    assert first == Capacity(n_structures=4, atoms={1: 32, 6: 32, 8: 32, 29: 32}, n_neighbors=first.n_neighbors)
    assert first.n_neighbors % 8 == 0
    assert first.n_neighbors >= max(descriptors.neighbor_index.shape[1] for descriptors in MANY.descriptors)
    assert first.grown(batch_of(WATER), ELEMENTS) == first
    more = first.grown(batch_of(*[WATER] * 20), (*ELEMENTS, 35))
    assert more == Capacity(20, {1: 64, 6: 32, 8: 32, 29: 32, 35: 32}, first.n_neighbors)


def test_structures_come_first_and_what_is_left_says_nothing() -> None:
    batch, n_atoms, n_structures = padded(MANY, Capacity(6, dict.fromkeys(ELEMENTS, 32), 32)), len(MANY.values), 4
    assert batch.n_structures == 7
    assert len(batch.values) == 4 * 32
    for name in ("values", "forces", "atomic_numbers", "structure_index"):
        assert torch.equal(getattr(batch, name)[:n_atoms], getattr(MANY, name)), name
    for name in ("energy", "weight", "n_atoms", "composition"):
        assert torch.equal(getattr(batch, name)[:n_structures], getattr(MANY, name)), name
    assert (batch.structure_index[n_atoms:] == 6).all()
    assert (batch.values[n_atoms:] == 0).all()
    assert batch.forces[n_atoms:].isnan().all()
    assert batch.energy[n_structures:].isnan().all()
    assert (batch.weight[n_structures:] == 0).all()
    assert (batch.n_atoms[n_structures:] == 1).all()


def test_each_element_has_as_many_atoms_as_its_capacity() -> None:
    batch = padded(MANY)
    assert {z: len(atoms) for z, atoms in batch.atoms_of.items()} == dict.fromkeys(ELEMENTS, 32)
    assert all((batch.atomic_numbers[atoms] == z).all() for z, atoms in batch.atoms_of.items())
    assert torch.equal(batch.order[batch.rows], torch.arange(len(batch.values)))
    for z, atoms in MANY.atoms_of.items():
        assert torch.equal(batch.atoms_of[z][: len(atoms)], atoms)


def test_neighbors_are_those_of_each_structure() -> None:
    (together,), first = padded(MANY).descriptors, 0
    n_neighbors = together.neighbor_index.shape[1]
    for alone in MANY.descriptors:
        n_atoms, width = alone.neighbor_index.shape
        rows = slice(first, first + n_atoms)
        here = together.angular[rows].view(n_atoms, len(SPEC.angular), 3, n_neighbors)
        assert torch.equal(here[..., :width].flatten(2), alone.angular)
        assert (here[..., width:] == 0).all()
        assert torch.equal(together.radial[rows, :width], alone.radial)
        assert (together.radial[rows, width:] == 0).all()
        assert torch.equal(together.units[rows, :, :width], alone.units)
        assert (together.units[rows, :, width:] == 0).all()
        assert torch.equal(together.neighbor_index[rows, :width], alone.neighbor_index + first)
        first += n_atoms
    own = torch.arange(len(together.values))[:, None]
    for array in (together.radial, together.angular, together.units):
        assert (array[first:] == 0).all()
    assert (together.neighbor_index[first:] == own[first:]).all()


def test_the_reverse_of_a_pair_begins_where_it_ends_and_its_reverse_is_the_pair() -> None:
    (together,) = padded(MANY).descriptors
    n_atoms, n_neighbors = together.neighbor_index.shape
    reverse = together.reverse.flatten()
    assert torch.equal(reverse[reverse], torch.arange(len(reverse)))
    ends = together.neighbor_index[:, None].expand(n_atoms, 3, n_neighbors).flatten()
    assert torch.equal(reverse // (3 * n_neighbors), ends)
    component = torch.arange(len(reverse)) // n_neighbors % 3
    assert torch.equal(reverse // n_neighbors % 3, component)


def test_nothing_is_left_of_what_was_there_before() -> None:
    capacity, other = Capacity().grown(MANY, ELEMENTS), batch_of(ETHANOL, WATER)
    used = PaddedBatch(capacity, SPEC, torch.float64, torch.device("cpu"))
    used.put(MANY)
    names = ("radial", "angular", "units", "neighbor_index", "reverse")

    def addresses() -> list[int]:
        arrays = [getattr(used.batch.descriptors[0], name) for name in names]
        return [array.data_ptr() for array in (used.batch.order, *arrays)]

    before = addresses()
    used.put(other)
    fresh = padded(other, capacity)
    for name in ("structure_index", "atomic_numbers", "order", "rows", "values", "energy", "forces", "weight"):
        np.testing.assert_array_equal(getattr(used.batch, name), getattr(fresh, name), err_msg=name)
    for name in names:
        assert torch.equal(getattr(used.batch.descriptors[0], name), getattr(fresh.descriptors[0], name)), name
    assert addresses() == before


@pytest.mark.parametrize("capacity", [Capacity(4, dict.fromkeys(ELEMENTS, 5), 32), Capacity(4, {1: 32, 8: 32}, 32)])
def test_what_does_not_fit_is_not_cut(capacity: Capacity) -> None:
    with pytest.raises(RuntimeError):
        padded(batch_of(ETHANOL), capacity)
