"""The networks of all elements of a batch.

Axes: M members, A atoms, n atoms of one element, D symmetry functions.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from lmlp_stream.atoms.batch import Batch
from lmlp_stream.potential.network import (
    Folded,
    Parameters,
    Pass,
    are_few,
    forth_and_back,
    forth_and_back_of_few,
    gradient_of,
)

Passes = dict[int, Pass]
"""By atomic number, in the order of `Batch.atoms_of`."""


def energies_and_gradients(
    folded: Mapping[int, Folded], batch: Batch
) -> tuple[Float[Tensor, "M A"], Float[Tensor, "A M D"]]:
    """Atomic energies of all members in eV and their derivatives by G, both in `batch.order`; for predictions."""
    parts, gradients = _by_element(folded, batch)
    energies = gradients.new_empty(gradients.shape[:2])
    of_elements = torch.split(energies, [len(values) for _, values, _ in parts])
    for (network, values, of_gradients), of_energies in zip(parts, of_elements, strict=True):
        if are_few(values) and len(network.weights) > 1:
            forth_and_back_of_few(network, values, of_energies, of_gradients)
        else:
            of_energies.copy_(forth_and_back(network, values, of_gradients).energies.T)
    return energies.T, gradients


def forth_and_back_of_all(
    folded: Mapping[int, Folded], batch: Batch
) -> tuple[Float[Tensor, "M A"], Float[Tensor, "A M D"], Passes]:
    """The same for learning: with the passes that `gradients_of_all` needs."""
    parts, gradients = _by_element(folded, batch)
    heads = _heads(folded, batch)
    passes = {z: forth_and_back(*part, heads.get(z)) for z, part in zip(batch.atoms_of, parts, strict=True)}
    return torch.cat([done.energies for done in passes.values()], dim=1), gradients, passes


def _by_element(
    folded: Mapping[int, Folded], batch: Batch
) -> tuple[list[tuple[Folded, Float[Tensor, "n D"], Float[Tensor, "n M D"]]], Float[Tensor, "A M D"]]:
    """Network, symmetry functions and room for derivatives of each element of a batch, and all of this room."""
    n_members = len(next(iter(folded.values())).biases[0])
    n_atoms, n_functions = batch.values.shape
    gradients = batch.values.new_empty(n_atoms, n_members, n_functions)
    sizes = [len(atoms) for atoms in batch.atoms_of.values()]
    arrays = (torch.split(array, sizes) for array in (batch.values.index_select(0, batch.order), gradients))
    return list(zip((folded[z] for z in batch.atoms_of), *arrays, strict=True)), gradients


def _heads(folded: Mapping[int, Folded], batch: Batch) -> dict[int, Float[Tensor, "n H"]]:
    """One for the head of each atom, by atomic number; nothing where networks have a single one."""
    n_heads = next(iter(folded.values())).biases[-1].shape[2]
    if n_heads == 1:
        return {}
    of_atoms = batch.head[batch.structure_index[batch.order]]
    chosen = (of_atoms[:, None] == torch.arange(n_heads, device=of_atoms.device)).to(batch.values.dtype)
    sizes = [len(atoms) for atoms in batch.atoms_of.values()]
    return dict(zip(batch.atoms_of, torch.split(chosen, sizes), strict=True))


def gradients_of_all(
    parameters: Mapping[int, Parameters],
    folded: Mapping[int, Folded],
    passes: Passes,
    by_energies: Float[Tensor, "M A"],
    by_gradients: Float[Tensor, "A M D"],
) -> dict[int, list[Tensor]]:
    """Derivative of a loss by the parameters of each element, in their order.

    Args:
        parameters: By atomic number.
        folded: Their folded form.
        passes: What `forth_and_back_of_all` returned third.
        by_energies: Derivative of the loss by what it returned first.
        by_gradients: By what it returned second.
    """
    found: dict[int, list[Tensor]] = {}
    first = 0
    for z, done in passes.items():
        some = slice(first, first + done.energies.shape[1])
        by_name = gradient_of(parameters[z], folded[z], done, by_energies[:, some], by_gradients[some])
        found[z] = [by_name[name] for name in parameters[z]]
        first = some.stop
    return found
