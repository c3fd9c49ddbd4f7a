"""From dE/dG to forces and virial: one structure after the other, deterministic, with a written-out gradient.

Axes: M members, A atoms, S structures, D symmetry functions, N neighbors of a structure.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lmlp_stream.atoms.batch import Batch
from lmlp_stream.atoms.symmetry import Descriptors
from lmlp_stream.potential.products import product


def forces_and_stress(
    gradients: Float[Tensor, "A M D"], batch: Batch
) -> tuple[Float[Tensor, "M A 3"], Float[Tensor, "M S 3 3"]]:
    """Forces in eV/Å and stress in eV/Å³ (tension positive; NaN without a volume).

    Args:
        gradients: dE_i/dG_i of every member, in `batch.order`.
        batch: The structures.
    """
    evaluate = _ForcesAndVirial.apply if gradients.requires_grad else _forces_and_virial
    forces, virial = evaluate(gradients, batch)
    forces = forces.permute(2, 0, 1)
    if not batch.any_volume:
        return forces, gradients.new_full((gradients.shape[1], batch.n_structures, 3, 3), torch.nan)
    volume = batch.volume[:, None, None, None]
    known = volume.isfinite()
    return forces, torch.where(known, virial / torch.where(known, volume, 1), torch.nan).permute(3, 0, 1, 2)


class _ForcesAndVirial(torch.autograd.Function):
    """Forces [A 3 M] and virial [S 3 3 M].

    F_i = sum_j dE_i/dr_ij - dE_j/dr_ji: every vector that begins at i, less every vector that ends there. The virial
    dE/d(strain) is sum_ij dE_i/dr_ij ⊗ r_ij. Each structure's arrays are small enough to stay in the cache.
    """

    @staticmethod
    def forward(ctx: Any, gradients: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """One structure after the other."""
        ctx.batch = batch
        return _forces_and_virial(gradients, batch)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        """The transposed map of each structure."""
        by_forces, by_virial = upstream
        batch: Batch = ctx.batch
        gradients = by_forces.new_empty(len(batch.rows), by_forces.shape[2], batch.values.shape[1])
        for index, (descriptors, some) in enumerate(_parts(batch)):
            n_neighbors = descriptors.neighbor_index.shape[1]
            begins = by_forces[some, :, None].expand(-1, -1, n_neighbors, -1).contiguous()
            by_vector = _less_reverse(begins, descriptors)
            if batch.any_volume:
                by_vector += descriptors.vectors[:, None] @ by_virial[index]
            by_vector = by_vector.flatten(1, 2).transpose(1, 2)
            gradients.index_copy_(0, batch.rows[some], product(by_vector, descriptors.derivatives.transpose(1, 2)))
        return gradients, None


def _forces_and_virial(gradients: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """One structure after the other."""
    n_atoms, n_members, _ = gradients.shape
    forces = gradients.new_empty(n_atoms, 3, n_members)
    virial = gradients.new_zeros(batch.n_structures, 3, 3, n_members)
    for index, (descriptors, some) in enumerate(_parts(batch)):
        by_vector = product(gradients.index_select(0, batch.rows[some]), descriptors.derivatives)
        by_vector = by_vector.view(len(by_vector), n_members, 3, -1).permute(0, 2, 3, 1).contiguous()
        torch.sum(_less_reverse(by_vector, descriptors), dim=2, out=forces[some])
        if batch.any_volume:
            torch.sum(descriptors.vectors.transpose(1, 2)[:, None] @ by_vector, dim=0, out=virial[index])
    return forces, virial


def _parts(batch: Batch) -> list[tuple[Descriptors, slice]]:
    parts, first = [], 0
    for descriptors in batch.descriptors:
        parts.append((descriptors, slice(first, first + len(descriptors.values))))
        first = parts[-1][1].stop
    return parts


def _less_reverse(by_vector: Float[Tensor, "A 3 N M"], descriptors: Descriptors) -> Float[Tensor, "A 3 N M"]:
    """Of each pair i, j what it says less what j, i says; a map that is its own transpose."""
    reverse = by_vector.flatten(0, 2).index_select(0, descriptors.reverse.flatten())
    return by_vector - reverse.view(by_vector.shape)
