"""From dE/dG to forces and virial, and back from a derivative by forces to one by dE/dG.

One part of a batch after the other, deterministic: a structure, or all of a padded batch. Axes: M members, A atoms, n
atoms of one part, S structures, D symmetry functions, R radial ones, V members whose virial is wanted: all or none.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmlp_stream.atoms.batch import Batch
from lmlp_stream.atoms.symmetry import Descriptors
from lmlp_stream.potential import forces_kernel
from lmlp_stream.potential.device import is_for_compiled_code

ByForces = Callable[[Float[Tensor, "n 3 M"]], Float[Tensor, "n 3 M"]]
"""Derivative of a loss by the forces of a part of a batch, which it is told; parts come one after the other."""


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
    virial = gradients.new_zeros(batch.n_structures, n_members, 3, 3)
    wanted = virial if batch.any_volume else virial[:, :0]
    for index, (descriptors, some) in enumerate(_parts(batch)):
        forces[:, some] = _forces(gradients, batch.rows[some], descriptors, wanted[index]).permute(2, 0, 1)
    return forces, (virial / batch.volume[:, None, None, None]).transpose(0, 1)


def through_forces(gradients: Float[Tensor, "A M D"], batch: Batch, by_forces: ByForces) -> None:
    """Put the derivative of a loss by dE_i/dG_i in the place of dE_i/dG_i.

    The transposed map of `forces_and_stress`. Each part goes forth and back before the next one begins, so that its
    derivatives of symmetry functions, by far the largest arrays, come from memory once.

    Args:
        gradients: dE_i/dG_i of every member, in `batch.order`; changed in place.
        batch: The structures.
        by_forces: What the loss says of the forces of each part.
    """
    no_virial = gradients.new_empty(0, 3, 3)
    for descriptors, some in _parts(batch):
        rows = batch.rows[some]
        forces = _forces(gradients, rows, descriptors, no_virial)
        _through_forces(by_forces(forces), rows, descriptors, gradients)


def _parts(batch: Batch) -> list[tuple[Descriptors, slice]]:
    parts, first = [], 0
    for descriptors in batch.descriptors:
        parts.append((descriptors, slice(first, first + len(descriptors.values))))
        first = parts[-1][1].stop
    return parts


def _forces(
    gradients: Float[Tensor, "A M D"],
    rows: Int[Tensor, "n"],
    descriptors: Descriptors,
    virial: Float[Tensor, "V 3 3"],
) -> Float[Tensor, "n 3 M"]:
    """Forces of a part of a batch; its virial, zero at first, is added where there is room for it."""
    if not is_for_compiled_code(gradients):
        return forces_by_tensors(gradients, rows, descriptors, virial)
    forces = gradients.new_empty(len(rows), 3, gradients.shape[1])
    forces_kernel.forces_and_virial(
        *(gradients.numpy(), rows.numpy(), descriptors.radial.numpy(), descriptors.angular.numpy()),
        *(descriptors.neighbor_index.numpy(), descriptors.units.numpy(), descriptors.distances.numpy()),
        *(forces.numpy(), virial.numpy()),
    )
    return forces


def _through_forces(
    by_forces: Float[Tensor, "n 3 M"],
    rows: Int[Tensor, "n"],
    descriptors: Descriptors,
    by_gradients: Float[Tensor, "A M D"],
) -> None:
    """Write the derivative by dE_i/dG_i of a part of a batch from the one by its forces: `_forces` transposed."""
    if not is_for_compiled_code(by_gradients):
        through_forces_by_tensors(by_forces, rows, descriptors, by_gradients)
        return
    forces_kernel.through_forces(
        *(by_forces.numpy(), rows.numpy(), descriptors.radial.numpy(), descriptors.angular.numpy()),
        *(descriptors.neighbor_index.numpy(), descriptors.units.numpy(), by_gradients.numpy()),
    )


def forces_by_tensors(
    gradients: Float[Tensor, "A M D"],
    rows: Int[Tensor, "n"],
    descriptors: Descriptors,
    virial: Float[Tensor, "V 3 3"],
) -> Float[Tensor, "n 3 M"]:
    """`_forces` for another device or many threads; each pair is read from both sides: sums have a fixed order."""
    n_radial, units = descriptors.radial.shape[2], descriptors.units
    of_part = gradients.index_select(0, rows)
    by_distance = of_part[..., :n_radial] @ descriptors.radial.transpose(1, 2)
    product = of_part[..., n_radial:] @ descriptors.angular
    product = product.view(*product.shape[:2], 3, -1).addcmul_(units[:, None], by_distance[:, :, None])
    by_vector = product.permute(0, 2, 3, 1)
    reverse = by_vector.flatten(0, 2).index_select(0, descriptors.reverse.flatten())
    if len(virial):
        virial += torch.einsum("icjm,idj->mcd", by_vector, units * descriptors.distances[:, None])
    return (by_vector - reverse.view(by_vector.shape)).sum(dim=2)


def through_forces_by_tensors(
    by_forces: Float[Tensor, "n 3 M"],
    rows: Int[Tensor, "n"],
    descriptors: Descriptors,
    by_gradients: Float[Tensor, "A M D"],
) -> None:
    """`_through_forces` for another device or many threads."""
    n_radial = descriptors.radial.shape[2]
    differences = by_forces[:, :, None] - by_forces[descriptors.neighbor_index].transpose(1, 2)
    by_vector = differences.flatten(1, 2).transpose(1, 2)
    by_distance = (differences * descriptors.units[..., None]).sum(dim=1).transpose(1, 2)
    by_gradients[..., :n_radial].index_copy_(0, rows, by_distance @ descriptors.radial)
    by_gradients[..., n_radial:].index_copy_(0, rows, by_vector @ descriptors.angular.transpose(1, 2))
