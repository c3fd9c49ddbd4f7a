"""The atomic network of one element, for all members at once: parameters with a leading member axis.

G -> standardisation scale · (G - shift) -> hidden layers with sTanh -> linear output. Source: Eckhoff & Reiher,
J. Chem. Theory Comput. 2023, 19, 3509 (doi 10.1021/acs.jctc.3c00279), as in SCINE Parrot 1.0.0. An extension: where
labels of several levels of theory are learned, each has an output of its own, a head, on the same hidden layers. Axes:
M members, n atoms, D symmetry functions, h neurons, H heads.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lmlp_stream.potential import few_atoms_kernel, pass_kernel
from lmlp_stream.potential.device import is_for_compiled_code
from lmlp_stream.potential.linear_algebra import product

Parameters = Mapping[str, Tensor]
"""`shift` and `scale` [M D], then `weight_k` [M h_in h_out] and `bias_k` [M 1 h_out] of each layer k."""

STANH = 1.59223
"""Factor of sTanh, which keeps unit variance for normal inputs of unit variance to 0.04 % (SCINE Parrot 1.0.0)."""

NARROWEST_SPREAD = 0.2
"""Smallest standard deviation a symmetry function is divided by; its values are of the order 0.1 to 2."""

CONSTANT_SPREAD = 1e-6
"""A symmetry function with a smaller standard deviation does not vary."""

LAST_LAYER_SHARE = 0.1
"""Initial output weights are this share of unit variance, so that members begin about 0.1 eV per atom apart."""

MOST_OF_FEW = 16
"""Atoms of an element up to which compiled code for few atoms is faster than products of tensors."""


def init_network(
    n_functions: int,
    hidden: Sequence[int],
    members: int,
    generator: torch.Generator,
    values: Float[Tensor, "n D"],
    energy: float = 0.0,
    n_heads: int = 1,
) -> dict[str, Tensor]:
    """Fresh parameters, standardised to the symmetry functions of atoms of the element.

    Weights are drawn from a normal distribution of variance 1/n_in, biases are 0 but for the last one: atomic energies
    of all heads begin around `energy` (eV). A function that does not vary over the given atoms keeps its scale: nothing
    is known of its spread yet.
    """
    dtype, device = values.dtype, values.device
    spread = values.double().std(dim=0, correction=0)
    parameters = {
        "shift": values.double().mean(dim=0).to(dtype).repeat(members, 1),
        "scale": scale_of(spread).to(dtype).repeat(members, 1),
    }
    sizes = (n_functions, *hidden, n_heads)
    for layer, (n_in, n_out) in enumerate(pairwise(sizes)):
        share = LAST_LAYER_SHARE if layer == len(hidden) else 1.0
        weight = torch.randn(members, n_in, n_out, generator=generator, dtype=torch.float64)
        parameters[f"weight_{layer}"] = (weight * (share / math.sqrt(n_in))).to(dtype=dtype, device=device)
        bias = energy if layer == len(hidden) else 0.0
        parameters[f"bias_{layer}"] = torch.full((members, 1, n_out), bias, dtype=dtype, device=device)
    return parameters


def scale_of(spread: Float[Tensor, "D"]) -> Float[Tensor, "D"]:
    """What symmetry functions of these standard deviations are multiplied by; 1 for one that does not vary."""
    return torch.where(spread < CONSTANT_SPREAD, 1.0, 1 / spread.clamp(min=NARROWEST_SPREAD))


def standardised_to(
    parameters: Parameters, mean: Float[Tensor, "D"], spread: Float[Tensor, "D"]
) -> tuple[dict[str, Tensor], Float[Tensor, "M D 1"]]:
    """Parameters of the same function with another standardisation, and the factor by which first weights grew.

    The first layer takes the change back: W' = W s / s' row by row, b' = b + ((m' - m) s) W for means m and scales s.
    """
    shift, scale, weight = parameters["shift"], parameters["scale"], parameters["weight_0"]
    new_shift, new_scale = mean.to(shift).expand_as(shift), scale_of(spread).to(scale).expand_as(scale)
    factor = (scale / new_scale)[:, :, None]
    moved = ((new_shift - shift) * scale)[:, None, :] @ weight
    changed = {
        "shift": new_shift,
        "scale": new_scale,
        "weight_0": factor * weight,
        "bias_0": parameters["bias_0"] + moved,
    }
    return changed, factor


def parameter_names(n_hidden: int) -> tuple[str, ...]:
    """Names of the parameters of a network, in the order of `init_network`."""
    layers = [(f"weight_{layer}", f"bias_{layer}") for layer in range(n_hidden + 1)]
    return ("shift", "scale", *(name for layer in layers for name in layer))


def output_names(n_hidden: int) -> tuple[str, str]:
    """Names of the parameters that have a last axis of heads: weight and bias of the output."""
    return f"weight_{n_hidden}", f"bias_{n_hidden}"


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """A network with the standardisation taken into the first layer, and the factor of sTanh into the next.

    The standardisation is taken about the mean of the members' shifts, so that one array of G - center serves them all.

    Attributes:
        center: Mean shift of the members.
        weights: Of each layer.
        biases: Of each layer.
    """

    center: Float[Tensor, "D"]
    weights: tuple[Float[Tensor, "M i o"], ...]
    biases: tuple[Float[Tensor, "M 1 o"], ...]

    @property
    def arrays(self) -> tuple[np.ndarray, tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """All of it in the same memory, of a network on a CPU."""
        weights, biases = (tuple(part.numpy() for part in parts) for parts in (self.weights, self.biases))
        return self.center.numpy(), weights, biases


def fold(parameters: Parameters) -> Folded:
    """The folded form of parameters, without a graph."""
    shift, scale = parameters["shift"], parameters["scale"]
    center = shift.mean(dim=0)
    count = sum(name.startswith("weight_") for name in parameters)
    weight, bias, offset = parameters["weight_0"], parameters["bias_0"], shift - center
    if is_for_compiled_code(weight):
        first, begin = weight.new_empty(weight.shape), bias.clone(memory_format=torch.contiguous_format)
        pass_kernel.fold(*(array.numpy() for array in (offset, scale, weight, first, begin)))
    else:
        first = scale[:, :, None] * weight
        begin = bias - offset[:, None, :] @ first
    return Folded(
        center=center,
        weights=(first, *(STANH * parameters[f"weight_{layer}"] for layer in range(1, count))),
        biases=(begin, *(parameters[f"bias_{layer}"].contiguous() for layer in range(1, count))),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What one pass forth and back through a network leaves behind.

    Attributes:
        energies: Atomic energies in eV.
        hidden: G - center, then tanh of each hidden layer.
        by_input: dE/d of what enters the tanh of each hidden layer, and at last of what the heads say: one for the head
            of the atom.
    """

    energies: Float[Tensor, "M n"]
    hidden: list[Float[Tensor, "M n h"]]
    by_input: list[Float[Tensor, "M n h"]]


def forth_and_back(
    network: Folded,
    values: Float[Tensor, "n D"],
    gradients: Float[Tensor, "n M D"],
    heads: Float[Tensor, "n H"] | None = None,
) -> Pass:
    """Atomic energies; their derivatives by the symmetry functions are written into `gradients`.

    Args:
        network: The networks.
        values: Symmetry functions.
        gradients: Where derivatives are written.
        heads: One for the head of each atom, else zero; None where networks have a single one.
    """
    n_members, count = len(network.biases[0]), len(network.weights)
    hidden = [(values - network.center).expand(n_members, -1, -1)]
    for layer in range(count - 1):
        doubled = product(hidden[-1], network.weights[layer], factor=2).add_(network.biases[layer], alpha=2)
        hidden.append(tanh_of_half_(doubled))
    said = product(hidden[-1], network.weights[-1]).add_(network.biases[-1])
    by_input: list[Tensor] = [torch.ones_like(said) if heads is None else heads.expand_as(said)]
    for layer in range(count - 1, 0, -1):
        by_hidden = product(by_input[0], network.weights[layer].transpose(1, 2))
        by_input.insert(0, through_tanh_(by_hidden, hidden[layer]))
    product(by_input[0], network.weights[0].transpose(1, 2), out=gradients.transpose(0, 1))
    energies = said[:, :, 0] if heads is None else (said * heads).sum(dim=2)
    return Pass(energies=energies, hidden=hidden, by_input=by_input)


def are_few(values: Float[Tensor, "n D"]) -> bool:
    """Whether `forth_and_back_of_few` is to take atoms with these symmetry functions."""
    return values.is_cpu and len(values) <= MOST_OF_FEW


def forth_and_back_of_few(
    network: Folded,
    values: Float[Tensor, "n D"],
    energies: Float[Tensor, "n M"],
    gradients: Float[Tensor, "n M D"],
) -> None:
    """Write atomic energies and their derivatives by the symmetry functions: `forth_and_back` of few atoms on a CPU."""
    few_atoms_kernel.networks(values.numpy(), *network.arrays, energies.numpy(), gradients.numpy())


def gradient_of(
    parameters: Parameters,
    network: Folded,
    done: Pass,
    by_energies: Float[Tensor, "M n"],
    by_gradients: Float[Tensor, "n M D"],
) -> dict[str, Tensor]:
    """Derivative of a loss by the parameters, from those by the energies and by the gradients of a pass.

    Reverse differentiation of `forth_and_back`, written out: first of its way back, then of its way forth. The pass is
    used up.
    """
    count = len(network.weights)
    by_weight: list[Tensor] = []
    upstream = by_gradients.transpose(0, 1)
    for layer, weight in enumerate(network.weights):
        factor = STANH if layer else 1.0
        by_weight.append(product(upstream.transpose(1, 2), done.by_input[layer], factor=factor))
        if layer < count - 1:
            upstream = product(upstream, weight)
            _through_slopes_(done.by_input[layer], upstream, done.hidden[layer + 1])
    by_bias: list[Tensor] = []
    upstream = by_energies[:, :, None] * done.by_input[-1]
    for layer in range(count - 1, -1, -1):
        factor = STANH if layer else 1.0
        product(done.hidden[layer].transpose(1, 2), upstream, out=by_weight[layer], keep=1, factor=factor)
        by_bias.insert(0, upstream.sum(dim=1, keepdim=True))
        if layer:
            upstream = product(upstream, network.weights[layer].transpose(1, 2))
            _through_values_(upstream, done.hidden[layer], done.by_input[layer - 1])
    gradients = _through_fold(parameters, network.center, by_weight[0], by_bias[0])
    for layer in range(1, count):
        gradients[f"weight_{layer}"] = by_weight[layer]
        gradients[f"bias_{layer}"] = by_bias[layer]
    return gradients


def _through_slopes_(
    by_input: Float[Tensor, "M n h"], upstream: Float[Tensor, "M n h"], hidden: Float[Tensor, "M n h"]
) -> None:
    """`pass_kernel.through_slopes`, in place, on any device."""
    if is_for_compiled_code(upstream):
        pass_kernel.through_slopes(*(array.view(-1).numpy() for array in (by_input, upstream, hidden)))
    else:
        by_input.mul_(upstream).mul_(hidden)
        through_tanh_(upstream, hidden)


def _through_values_(
    upstream: Float[Tensor, "M n h"], hidden: Float[Tensor, "M n h"], by_slope: Float[Tensor, "M n h"]
) -> None:
    """`pass_kernel.through_values`, in place, on any device."""
    if is_for_compiled_code(upstream):
        pass_kernel.through_values(*(array.view(-1).numpy() for array in (upstream, hidden, by_slope)))
    else:
        through_tanh_(upstream, hidden).sub_(by_slope, alpha=2)


def _through_fold(
    parameters: Parameters,
    center: Float[Tensor, "D"],
    by_weight: Float[Tensor, "M D o"],
    by_bias: Float[Tensor, "M 1 o"],
) -> dict[str, Tensor]:
    """Derivatives by standardisation and first layer, from those by the folded one, which are used up."""
    shift, scale, weight = parameters["shift"], parameters["scale"], parameters["weight_0"]
    offset = shift - center
    if is_for_compiled_code(weight):
        by_shift, by_scale = torch.empty_like(shift), torch.empty_like(scale)
        arrays = (offset, scale, weight, by_bias, by_weight, by_shift, by_scale)
        pass_kernel.through_fold(*(array.numpy() for array in arrays))
    else:
        by_weight.baddbmm_(offset[:, :, None], by_bias, alpha=-1)
        by_shift = -scale * (weight @ by_bias.transpose(1, 2))[:, :, 0]
        by_scale = (by_weight * weight).sum(dim=2)
        by_weight.mul_(scale[:, :, None])
    return {"shift": by_shift, "scale": by_scale, "weight_0": by_weight, "bias_0": by_bias}


MINUS_ONE = torch.tensor(-1.0)
"""A tensor, so that -1 + 2 y is one operation."""


def tanh_of_half_(doubled: Tensor) -> Tensor:
    """tanh(x) of 2 x, in place, as 2 / (1 + exp(-2 x)) - 1, to the rounding of 1; without a graph.

    On a CPU torch takes a third of the time of its tanh.
    """
    return torch.add(MINUS_ONE, doubled.sigmoid_(), alpha=2, out=doubled)


def through_tanh(upstream: Tensor, hyperbolic: Tensor) -> Tensor:
    """The derivative by the argument of a tanh, from that by its value, in one pass."""
    through: Tensor = torch.ops.aten.tanh_backward(upstream, hyperbolic)
    return through


def through_tanh_(upstream: Tensor, hyperbolic: Tensor) -> Tensor:
    """The same in place of the derivative by its value."""
    through: Tensor = torch.ops.aten.tanh_backward.grad_input(upstream, hyperbolic, grad_input=upstream)
    return through
