"""The atomic network of one element, for all members at once: parameters with a leading member axis.

G -> standardisation scale · (G - shift) -> hidden layers with sTanh -> linear output. Source: Eckhoff & Reiher,
J. Chem. Theory Comput. 2023, 19, 3509 (doi 10.1021/acs.jctc.3c00279), as in SCINE Parrot 1.0.0. Axes: M members,
n atoms, D symmetry functions, h neurons.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

Parameters = Mapping[str, Tensor]
"""`shift` and `scale` [M D], then `weight_k` [M h_in h_out] and `bias_k` [M 1 h_out] of each layer k."""

STANH = 1.59223
"""Factor of sTanh, which keeps unit variance for inputs of unit variance (SCINE Parrot 1.0.0)."""

NARROWEST_SPREAD = 0.05
"""Smallest standard deviation a symmetry function is divided by; its values are of the order 0.1 to 2."""

LAST_LAYER_SHARE = 0.1
"""Initial output weights are this share of unit variance, so that members begin about 0.1 eV per atom apart."""


def stanh(x: Tensor) -> Tensor:
    """1.59223 tanh(x); source: SCINE Parrot 1.0.0."""
    return STANH * torch.tanh(x)


def init_network(
    n_functions: int,
    hidden: Sequence[int],
    members: int,
    generator: torch.Generator,
    values: Float[Tensor, "n D"],
) -> dict[str, Tensor]:
    """Fresh parameters, standardised to the symmetry functions of atoms of the element.

    Weights are drawn from a normal distribution of variance 1/n_in, biases are 0. A function that does not vary over
    the given atoms keeps its scale: nothing is known of its spread.
    """
    dtype, device = values.dtype, values.device
    spread = values.double().std(dim=0, correction=0)
    constant = spread < 1e-6
    scale = torch.where(constant, 1.0, 1 / spread.clamp(min=NARROWEST_SPREAD))
    parameters = {
        "shift": values.double().mean(dim=0).to(dtype).repeat(members, 1),
        "scale": scale.to(dtype).repeat(members, 1),
    }
    sizes = (n_functions, *hidden, 1)
    for layer, (n_in, n_out) in enumerate(pairwise(sizes)):
        share = LAST_LAYER_SHARE if layer == len(hidden) else 1.0
        weight = torch.randn(members, n_in, n_out, generator=generator, dtype=torch.float64)
        parameters[f"weight_{layer}"] = (weight * (share / math.sqrt(n_in))).to(dtype=dtype, device=device)
        parameters[f"bias_{layer}"] = torch.zeros(members, 1, n_out, dtype=dtype, device=device)
    return parameters


def parameter_names(n_hidden: int) -> tuple[str, ...]:
    """Names of the parameters of a network, in the order of `init_network`."""
    layers = [(f"weight_{layer}", f"bias_{layer}") for layer in range(n_hidden + 1)]
    return ("shift", "scale", *(name for layer in layers for name in layer))


def n_layers(parameters: Parameters) -> int:
    """Number of linear layers."""
    return sum(name.startswith("weight_") for name in parameters)


def forward(parameters: Parameters, values: Float[Tensor, "n D"]) -> Float[Tensor, "M n"]:
    """Atomic energies of all members in eV, without the baseline."""
    return forward_with_gradient(parameters, values)[0]


def forward_with_gradient(
    parameters: Parameters, values: Float[Tensor, "n D"]
) -> tuple[Float[Tensor, "M n"], Float[Tensor, "M n D"]]:
    """Atomic energies of all members in eV and their derivatives by the symmetry functions.

    The derivative is written out, so it costs one pass back and can itself be differentiated for the force loss. The
    standardisation is taken into the first layer, about the mean of the members' shifts: one matrix product of the
    shared G serves all members. The factor of sTanh is taken into the layer that follows.
    """
    shift, scale = parameters["shift"], parameters["scale"]
    center = shift.detach().mean(dim=0)
    weights = [STANH * parameters[f"weight_{layer}"] for layer in range(n_layers(parameters))]
    weights[0] = scale[:, :, None] * parameters["weight_0"]
    offset = parameters["bias_0"] - (shift - center)[:, None, :] @ weights[0]
    x = (values - center) @ weights[0] + offset
    slopes = []
    for layer, weight in enumerate(weights[1:], start=1):
        hyperbolic = torch.tanh(x)
        slopes.append(1 - hyperbolic**2)
        x = torch.baddbmm(parameters[f"bias_{layer}"], hyperbolic, weight)
    gradient = weights[-1].transpose(1, 2)
    for weight, slope in zip(reversed(weights[:-1]), reversed(slopes), strict=True):
        gradient = (gradient * slope) @ weight.transpose(1, 2)
    return x[:, :, 0], gradient.expand(-1, len(values), -1)
