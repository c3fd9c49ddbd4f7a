"""The networks of all elements of a batch as one differentiable function.

Axes: M members, A atoms, n atoms of one element, D symmetry functions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lmlp_stream.atoms.batch import Batch
from lmlp_stream.potential.network import Folded, Parameters, Pass, fold, forth_and_back, gradient_of


def networks(parameters: Mapping[int, Parameters], batch: Batch) -> tuple[Float[Tensor, "M A"], Float[Tensor, "A M D"]]:
    """Atomic energies of all members in eV and their derivatives by G, both in `batch.order`.

    The graph leads to the parameters; the derivative by them is written out in `network`.
    """
    flat = [array for z in batch.atoms_of for array in parameters[z].values()]
    names = tuple(tuple(parameters[z]) for z in batch.atoms_of)
    energies, gradients = _Networks.apply(batch, names, *flat)
    return energies, gradients


def folded_networks(folded: Mapping[int, Folded], batch: Batch) -> tuple[Float[Tensor, "M A"], Float[Tensor, "A M D"]]:
    """The same of networks that are folded already, without a graph."""
    passes, gradients = _passes([folded[z] for z in batch.atoms_of], batch)
    return torch.cat([done.energies for done in passes], dim=1), gradients


def _passes(folded: Sequence[Folded], batch: Batch) -> tuple[list[Pass], Float[Tensor, "A M D"]]:
    """Each element of `batch.atoms_of` fills its rows of the gradients."""
    n_atoms, n_functions = batch.values.shape
    gradients = batch.values.new_empty(n_atoms, len(folded[0].biases[0]), n_functions)
    sizes = [len(some) for some in batch.atoms_of.values()]
    parts = (torch.split(array, sizes) for array in (batch.values.index_select(0, batch.order), gradients))
    passes = [forth_and_back(*of_element) for of_element in zip(folded, *parts, strict=True)]
    return passes, gradients


class _Networks(torch.autograd.Function):
    """Energies and gradients of each element, one after the other in `batch.atoms_of`."""

    @staticmethod
    def forward(ctx: Any, batch: Batch, names: tuple[tuple[str, ...], ...], *flat: Tensor) -> tuple[Tensor, Tensor]:
        """Each element fills its rows."""
        arrays = iter(flat)
        ctx.parameters = [{name: next(arrays) for name in of_element} for of_element in names]
        ctx.folded = [fold(parameters) for parameters in ctx.parameters]
        ctx.passes, gradients = _passes(ctx.folded, batch)
        return torch.cat([done.energies for done in ctx.passes], dim=1), gradients

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Each element's parameters in their order."""
        by_energies, by_gradients = upstream
        found: list[Tensor] = []
        first = 0
        for parameters, network, done in zip(ctx.parameters, ctx.folded, ctx.passes, strict=True):
            some = slice(first, first + done.energies.shape[1])
            by_name = gradient_of(parameters, network, done, by_energies[:, some], by_gradients[some])
            found += [by_name[name] for name in parameters]
            first = some.stop
        return None, None, *found
