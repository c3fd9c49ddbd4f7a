"""From dE/dG to forces and stress: linear algebra that is deterministic and has a written-out gradient.

Axes: M members, A atoms, S structures, D symmetry functions, N neighbors (padded over a batch).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lmlp_stream.atoms.batch import Batch


class Reorder(torch.autograd.Function):
    """Rows of one axis in another order; the gradient is gathered by the inverse order, so it is deterministic."""

    @staticmethod
    def forward(ctx: Any, array: Tensor, axis: int, order: Tensor, inverse: Tensor) -> Tensor:
        """The array with `order` along `axis`."""
        ctx.axis = axis
        ctx.save_for_backward(inverse)
        return array.index_select(axis, order)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient in the order it came in."""
        (inverse,) = ctx.saved_tensors
        return gradients[0].index_select(ctx.axis, inverse), None, None, None


class ByVector(torch.autograd.Function):
    """dE_i/d(r_j - r_i) of every member, [A 3 N M], from dE_i/dG_i [M A D] and the derivatives of each structure.

    The derivatives are by far the largest arrays of a batch and are read where they lie.
    """

    @staticmethod
    def forward(ctx: Any, gradients: Tensor, n_neighbors: int, *derivatives: Tensor) -> Tensor:
        """One product for each structure, padded to a common number of neighbors."""
        ctx.derivatives = derivatives
        n_members, n_atoms, _ = gradients.shape
        by_vector = gradients.new_zeros(n_atoms, 3, n_neighbors, n_members)
        first = 0
        for block in derivatives:
            rows = slice(first, first + len(block))
            product = gradients[:, rows].transpose(0, 1) @ block
            n_present = block.shape[2] // 3
            by_vector[rows, :, :n_present] = product.view(len(block), n_members, 3, n_present).permute(0, 2, 3, 1)
            first = rows.stop
        return by_vector

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The transposed product for each structure."""
        n_atoms, _, _, n_members = upstream[0].shape
        gradients = upstream[0].new_empty(n_members, n_atoms, ctx.derivatives[0].shape[1])
        first = 0
        for block in ctx.derivatives:
            rows = slice(first, first + len(block))
            present = upstream[0][rows, :, : block.shape[2] // 3].flatten(1, 2).transpose(1, 2)
            gradients[:, rows] = (present @ block.transpose(1, 2)).transpose(0, 1)
            first = rows.stop
        return gradients, None, *(None for _ in ctx.derivatives)


def by_vector_of(gradients: Float[Tensor, "M A D"], batch: Batch) -> Float[Tensor, "A 3 N M"]:
    """dE_i/d(r_j - r_i) of every member in eV/Å; zero in the padding."""
    by_vector: Tensor = ByVector.apply(gradients, batch.neighbor_index.shape[1], *batch.derivatives)
    return by_vector


def forces_of(by_vector: Float[Tensor, "A 3 N M"], batch: Batch) -> Float[Tensor, "M A 3"]:
    """F_i = sum_j dE_i/dr_ij - dE_j/dr_ji in eV/Å: every vector that begins at i, less every vector that ends there."""
    n_atoms, _, n_neighbors, n_members = by_vector.shape
    components = torch.arange(3, device=by_vector.device)[:, None]
    reverse = (batch.neighbor_index[:, None] * 3 + components) * n_neighbors + batch.reverse_slot[:, None]
    begins = by_vector.flatten(0, 2)
    ends = Reorder.apply(begins, 0, reverse.flatten(), reverse.flatten())
    forces: Tensor = (begins - ends).view(n_atoms, 3, n_neighbors, n_members).sum(dim=2)
    return forces.permute(2, 0, 1)


def stress_of(by_vector: Float[Tensor, "A 3 N M"], batch: Batch) -> Float[Tensor, "M S 3 3"]:
    """(1/V) dE/d(strain) = (1/V) sum_ij dE_i/dr_ij ⊗ r_ij in eV/Å³, tension positive; NaN without a volume."""
    n_members = by_vector.shape[3]
    if not batch.any_volume:
        return by_vector.new_full((n_members, batch.n_structures, 3, 3), torch.nan)
    of_atoms = batch.vectors.transpose(1, 2)[:, None] @ by_vector
    virial = by_vector.new_zeros(batch.n_structures, 3, 3, n_members).index_add(0, batch.structure_index, of_atoms)
    volume = batch.volume[:, None, None, None]
    known = volume.isfinite()
    return torch.where(known, virial / torch.where(known, volume, 1), torch.nan).permute(3, 0, 1, 2)
