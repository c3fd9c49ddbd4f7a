"""From dE/dG to forces and virial, and back from a derivative by forces to one by dE/dG.

One structure after the other, deterministic. Axes: M members, A atoms, n atoms of one structure, S structures, D
symmetry functions, N neighbors of a structure.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from lmlp_stream.atoms.batch import Batch
from lmlp_stream.atoms.symmetry import Descriptors
from lmlp_stream.potential import pairs_kernel
from lmlp_stream.potential.linear_algebra import product

ByForces = Callable[[Float[Tensor, "n 3 M"]], Float[Tensor, "n 3 M"]]
"""Derivative of a loss by the forces of a structure, which it is told; structures come one after the other."""


def forces_and_stress(
    gradients: Float[Tensor, "A M D"], batch: Batch
) -> tuple[Float[Tensor, "M A 3"], Float[Tensor, "M S 3 3"]]:
    """Forces in eV/Å and stress in eV/Å³ (tension positive; NaN without a volume).

    F_i = sum_j dE_i/dr_ij - dE_j/dr_ji: every vector that begins at i, less every vector that ends there. The virial
    dE/d(strain) is sum_ij dE_i/dr_ij ⊗ r_ij.

    Args:
        gradients: dE_i/dG_i of every member, in `batch.order`.
        batch: The structures.
    """
    n_atoms, n_members, _ = gradients.shape
    forces = gradients.new_empty(n_members, n_atoms, 3)
    virial = gradients.new_zeros(n_members, batch.n_structures, 3, 3)
    for index, (descriptors, some) in enumerate(_parts(batch)):
        by_vector = product(gradients.index_select(0, batch.rows[some]), descriptors.derivatives)
        forces[:, some] = _sums(by_vector, descriptors).permute(2, 0, 1)
        if batch.any_volume:
            by_component = by_vector.view(*by_vector.shape[:2], 3, -1)
            torch.sum(by_component @ descriptors.vectors[:, None], dim=0, out=virial[:, index])
    return forces, virial / batch.volume[:, None, None]


def through_forces(gradients: Float[Tensor, "A M D"], batch: Batch, by_forces: ByForces) -> None:
    """Put the derivative of a loss by dE_i/dG_i in the place of dE_i/dG_i.

    The transposed map of `forces_and_stress`. Each structure goes forth and back before the next one begins, so that
    its derivatives of symmetry functions, by far the largest arrays, come from memory once.

    Args:
        gradients: dE_i/dG_i of every member, in `batch.order`; changed in place.
        batch: The structures.
        by_forces: What the loss says of the forces of each structure.
    """
    for descriptors, some in _parts(batch):
        rows = batch.rows[some]
        of_structure = gradients.index_select(0, rows)
        forces = _sums(product(of_structure, descriptors.derivatives), descriptors)
        by_vector = _differences(by_forces(forces), descriptors)
        product(by_vector.transpose(1, 2), descriptors.derivatives.transpose(1, 2), out=of_structure)
        gradients.index_copy_(0, rows, of_structure)


def _parts(batch: Batch) -> list[tuple[Descriptors, slice]]:
    parts, first = [], 0
    for descriptors in batch.descriptors:
        parts.append((descriptors, slice(first, first + len(descriptors.values))))
        first = parts[-1][1].stop
    return parts


def _sums(by_vector: Float[Tensor, "n M 3*N"], descriptors: Descriptors) -> Float[Tensor, "n 3 M"]:
    """Of each atom what vectors say that begin there, less what those say that end there."""
    if not by_vector.is_cpu:
        return sums_by_tensors(by_vector, descriptors)
    sums = by_vector.new_zeros(len(by_vector), 3, by_vector.shape[1])
    pairs_kernel.sums(by_vector.numpy(), descriptors.neighbor_index.numpy(), sums.numpy())
    return sums


def _differences(by_atom: Float[Tensor, "n 3 M"], descriptors: Descriptors) -> Float[Tensor, "n 3*N M"]:
    """Of each vector what the atom says where it begins, less what the one says where it ends: `_sums` transposed."""
    if not by_atom.is_cpu:
        return differences_by_tensors(by_atom, descriptors)
    n_atoms, n_neighbors = descriptors.neighbor_index.shape
    differences = by_atom.new_empty(n_atoms, 3, n_neighbors, by_atom.shape[2])
    pairs_kernel.differences(by_atom.numpy(), descriptors.neighbor_index.numpy(), differences.numpy())
    return differences.flatten(1, 2)


def sums_by_tensors(by_vector: Float[Tensor, "n M 3*N"], descriptors: Descriptors) -> Float[Tensor, "n 3 M"]:
    """`pairs_kernel.sums` for another device; each pair is read from both sides, so the order of sums is fixed."""
    by_vector = by_vector.view(*by_vector.shape[:2], 3, -1).permute(0, 2, 3, 1)
    reverse = by_vector.flatten(0, 2).index_select(0, descriptors.reverse.flatten())
    return (by_vector - reverse.view(by_vector.shape)).sum(dim=2)


def differences_by_tensors(by_atom: Float[Tensor, "n 3 M"], descriptors: Descriptors) -> Float[Tensor, "n 3*N M"]:
    """`pairs_kernel.differences` for another device."""
    return (by_atom[:, :, None] - by_atom[descriptors.neighbor_index].transpose(1, 2)).flatten(1, 2)
