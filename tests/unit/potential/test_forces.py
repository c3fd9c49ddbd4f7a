"""The compiled map between pairs and atoms, and the one by tensors that another device takes."""

import pytest
import torch
from ase import Atoms

from lmlp_stream.atoms.structure import from_ase
from lmlp_stream.atoms.symmetry import Descriptors, SymmetryFunctions
from lmlp_stream.potential.forces import _differences, _sums, differences_by_tensors, sums_by_tensors
from tests.unit.potential.test_ensemble import ALONE, CPU, ETHANOL, SLAB, SPEC, THIN_CELL

MEMBERS = 3


def descriptors_of(atoms: Atoms) -> Descriptors:
    return SymmetryFunctions(SPEC, torch.float64, CPU).evaluate(from_ase(atoms))


def pairs_and_atoms(descriptors: Descriptors) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of the vectors of each pair, 0 in the padding as derivatives are, and of each atom."""
    generator = torch.Generator().manual_seed(2)
    n_atoms, n_neighbors = descriptors.neighbor_index.shape
    by_vector = torch.randn(n_atoms, MEMBERS, 3, n_neighbors, generator=generator, dtype=torch.float64)
    by_vector *= (descriptors.vectors.abs().sum(dim=2) > 0)[:, None, None]
    return by_vector.flatten(2), torch.randn(n_atoms, 3, MEMBERS, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("atoms", [ETHANOL, THIN_CELL, SLAB, ALONE], ids=["ethanol", "thin cell", "slab", "alone"])
def test_compiled_code_and_tensors_agree(atoms: Atoms) -> None:
    descriptors = descriptors_of(atoms)
    by_vector, by_atom = pairs_and_atoms(descriptors)
    exact = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(_sums(by_vector, descriptors), sums_by_tensors(by_vector, descriptors), **exact)
    torch.testing.assert_close(
        _differences(by_atom, descriptors), differences_by_tensors(by_atom, descriptors), **exact
    )


@pytest.mark.parametrize("atoms", [ETHANOL, THIN_CELL, SLAB], ids=["ethanol", "thin cell", "slab"])
def test_both_maps_are_each_others_transpose(atoms: Atoms) -> None:
    descriptors = descriptors_of(atoms)
    by_vector, by_atom = pairs_and_atoms(descriptors)
    forth = (_sums(by_vector, descriptors) * by_atom).sum()
    back = (_differences(by_atom, descriptors).transpose(1, 2) * by_vector).sum()
    torch.testing.assert_close(forth, back, rtol=1e-11, atol=1e-11)
