"""Forces by compiled code and by the tensors that another device takes, and their transposed map."""

from dataclasses import replace

import pytest
import torch
from ase import Atoms

from lmlp_stream.atoms.padding import Capacity, PaddedBatch
from lmlp_stream.atoms.structure import from_ase
from lmlp_stream.atoms.symmetry import Descriptors, SymmetryFunctions, SymmetrySpec
from lmlp_stream.potential import device, forces
from lmlp_stream.potential.forces import _forces, _through_forces, forces_by_tensors, through_forces_by_tensors
from lmlp_stream.potential.networks import forth_and_back_of_all
from tests.unit.potential.test_ensemble import ALONE, CPU, ETHANOL, METHANOL, SLAB, SPEC, THIN_CELL, batch_of, ensemble

PAIR = Atoms("HCl", positions=[[0, 0, 0], [0, 0, 1.3]])
KINDS = pytest.mark.parametrize(
    "atoms", [ETHANOL, THIN_CELL, SLAB, PAIR, ALONE], ids=["ethanol", "thin cell", "slab", "pair", "alone"]
)
NUMBERS = pytest.mark.parametrize("members", [1, 2, 3])
EXACT = {"rtol": 1e-11, "atol": 1e-11}


SPECS = pytest.mark.parametrize(
    "spec", [SPEC, replace(SPEC, angular=()), replace(SPEC, radial=())], ids=["both", "radial", "angular"]
)


def descriptors_of(atoms: Atoms, spec: SymmetrySpec = SPEC) -> Descriptors:
    return SymmetryFunctions(spec, torch.float64, CPU).evaluate(from_ase(atoms))


def numbers(descriptors: Descriptors, members: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """dE/dG of more atoms than the structure has, its rows among them, and a derivative by its forces."""
    generator = torch.Generator().manual_seed(2)
    n_atoms, n_functions = descriptors.values.shape
    gradients = torch.randn(n_atoms + 2, members, n_functions, generator=generator, dtype=torch.float64)
    rows = torch.randperm(n_atoms + 2, generator=generator)[:n_atoms]
    return gradients, rows, torch.randn(n_atoms, 3, members, generator=generator, dtype=torch.float64)


@KINDS
@SPECS
@NUMBERS
def test_compiled_code_and_tensors_agree(atoms: Atoms, spec: SymmetrySpec, members: int) -> None:
    descriptors = descriptors_of(atoms, spec)
    gradients, rows, by_forces = numbers(descriptors, members)
    compiled, by_tensors = torch.zeros(2, members, 3, 3, dtype=torch.float64)
    forces = _forces(gradients, rows, descriptors, compiled)
    torch.testing.assert_close(forces, forces_by_tensors(gradients, rows, descriptors, by_tensors), **EXACT)
    torch.testing.assert_close(compiled, by_tensors, **EXACT)
    found, expected = gradients.clone(), gradients.clone()
    _through_forces(by_forces, rows, descriptors, found)
    through_forces_by_tensors(by_forces, rows, descriptors, expected)
    torch.testing.assert_close(found, expected, **EXACT)
    others = torch.ones(len(gradients), dtype=torch.bool).index_fill(0, rows, value=False)
    assert torch.equal(found[others], gradients[others])


@KINDS
@SPECS
@NUMBERS
def test_both_maps_are_each_others_transpose(atoms: Atoms, spec: SymmetrySpec, members: int) -> None:
    descriptors = descriptors_of(atoms, spec)
    gradients, rows, by_forces = numbers(descriptors, members)
    forth = (_forces(gradients, rows, descriptors, gradients.new_empty(0, 3, 3)) * by_forces).sum()
    by_gradients = torch.empty_like(gradients)
    _through_forces(by_forces, rows, descriptors, by_gradients)
    back = (by_gradients[rows] * gradients[rows]).sum()
    torch.testing.assert_close(forth, back, rtol=1e-11, atol=1e-10)


def before_no_numbers(array: torch.Tensor) -> torch.Tensor:
    """The same array where what lies beyond it in memory is NaN."""
    size = array.numel()
    room = torch.full((size + 64,), torch.nan, dtype=array.dtype)
    room[:size] = array.view(-1)
    return room[:size].view(array.shape)


@pytest.mark.parametrize("atoms", [ETHANOL, PAIR], ids=["ethanol", "pair"])
def test_what_lies_beyond_the_last_row_is_not_read(atoms: Atoms) -> None:
    descriptors = descriptors_of(atoms)
    gradients, rows, by_forces = numbers(descriptors, 3)
    expected = _forces(gradients, rows, descriptors, gradients.new_empty(0, 3, 3))
    arrays = {name: before_no_numbers(getattr(descriptors, name)) for name in ("radial", "angular", "units")}
    within = replace(descriptors, **arrays)
    assert torch.equal(_forces(gradients, rows, within, gradients.new_empty(0, 3, 3)), expected)
    _through_forces(by_forces, rows, within, gradients)
    assert gradients.isfinite().all()


@pytest.mark.parametrize("by_tensors", [False, True])
def test_a_padded_batch_has_the_forces_of_its_structures(by_tensors: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = ensemble(), batch_of([THIN_CELL, ETHANOL, ALONE, SLAB, METHANOL])
    padded = PaddedBatch(Capacity().grown(batch, model.elements), SPEC, torch.float64, CPU)
    padded.put(batch)
    networks = model.folded().networks
    expected, _ = forces.forces_and_stress(forth_and_back_of_all(networks, batch)[1], batch)
    if by_tensors:
        monkeypatch.setattr(device, "MOST_THREADS", 0)
    found, _ = forces.forces_and_stress(forth_and_back_of_all(networks, padded.batch)[1], padded.batch)
    n_atoms = len(batch.values)
    torch.testing.assert_close(found[:, :n_atoms], expected, rtol=1e-11, atol=1e-12)
    assert (found[:, n_atoms:] == 0).all()
