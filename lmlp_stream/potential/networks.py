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
    """Atomic energies of all members in eV and their derivatives by G, both in `batch.order`."""
    n_atoms, n_functions = batch.values.shape
    n_members = len(next(iter(folded.values())).biases[0])
    values = batch.values.index_select(0, batch.order)
    energies, gradients = values.new_empty(n_members, n_atoms), values.new_empty(n_atoms, n_members, n_functions)
    sizes = [len(atoms) for atoms in batch.atoms_of.values()]
    parts = (torch.split(values, sizes), torch.split(energies, sizes, dim=1), torch.split(gradients, sizes))
    for z, of_values, of_energies, of_gradients in zip(batch.atoms_of, *parts, strict=True):
        if are_few(of_values) and len(folded[z].weights) > 1:
            forth_and_back_of_few(folded[z], of_values, of_energies, of_gradients)
        else:
            of_energies.copy_(forth_and_back(folded[z], of_values, of_gradients).energies)
    return energies, gradients


def forth_and_back_of_all(
    folded: Mapping[int, Folded], batch: Batch
) -> tuple[Float[Tensor, "M A"], Float[Tensor, "A M D"], Passes]:
    """Atomic energies of all members in eV and their derivatives by G, both in `batch.order`, and the passes."""
    n_atoms, n_functions = batch.values.shape
    n_members = len(next(iter(folded.values())).biases[0])
    gradients = batch.values.new_empty(n_atoms, n_members, n_functions)
    sizes = [len(atoms) for atoms in batch.atoms_of.values()]
    parts = (torch.split(array, sizes) for array in (batch.values.index_select(0, batch.order), gradients))
    passes = {z: forth_and_back(folded[z], *of_element) for z, *of_element in zip(batch.atoms_of, *parts, strict=True)}
    return torch.cat([done.energies for done in passes.values()], dim=1), gradients, passes


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
