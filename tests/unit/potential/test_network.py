import math

import numpy as np
import pytest
import torch

from lmlp_stream.potential import device
from lmlp_stream.potential.network import (
    LAST_LAYER_SHARE,
    NARROWEST_SPREAD,
    STANH,
    fold,
    forth_and_back,
    gradient_of,
    init_network,
)

MEMBERS, D, HIDDEN = 3, 40, (30, 20)
PUBLISHED_FACTOR = 1.59223
"""Of tanh, as `sTanh` of SCINE Parrot 1.0.0, lmlp.py, has it."""


def values(n_atoms: int = 50) -> torch.Tensor:
    return torch.rand(n_atoms, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def network(data: torch.Tensor | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return init_network(D, HIDDEN, MEMBERS, generator, values() if data is None else data)


def trained() -> dict[str, torch.Tensor]:
    """Parameters that differ between members in every tensor."""
    generator = torch.Generator().manual_seed(7)
    return {
        name: array + 0.1 * torch.randn(array.shape, generator=generator, dtype=array.dtype)
        for name, array in network().items()
    }


def plain_forward(
    parameters: dict[str, torch.Tensor], g: torch.Tensor, member: int, heads: torch.Tensor | None = None
) -> torch.Tensor:
    x = parameters["scale"][member] * (g - parameters["shift"][member])
    n_layers = sum(name.startswith("weight_") for name in parameters)
    for layer in range(n_layers):
        x = x @ parameters[f"weight_{layer}"][member] + parameters[f"bias_{layer}"][member]
        if layer < n_layers - 1:
            x = PUBLISHED_FACTOR * torch.tanh(x)
    return x[:, 0] if heads is None else (x * heads).sum(dim=1)


def forth(parameters: dict[str, torch.Tensor], g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies [M n] and their derivatives by G [M n D]."""
    gradients = g.new_empty(len(g), len(parameters["shift"]), D)
    return forth_and_back(fold(parameters), g, gradients).energies, gradients.transpose(0, 1)


def test_stanh_keeps_unit_variance() -> None:
    x, weights = np.polynomial.hermite_e.hermegauss(100)
    variance = weights @ (STANH * np.tanh(x)) ** 2 / weights.sum()
    assert variance == pytest.approx(1, abs=4e-4)


def test_parameters_lead_with_the_member_axis() -> None:
    shapes = {name: tuple(array.shape) for name, array in network().items()}
    assert shapes == {
        "shift": (3, 40),
        "scale": (3, 40),
        "weight_0": (3, 40, 30),
        "bias_0": (3, 1, 30),
        "weight_1": (3, 30, 20),
        "bias_1": (3, 1, 20),
        "weight_2": (3, 20, 1),
        "bias_2": (3, 1, 1),
    }


def test_weights_begin_with_variance_one_over_inputs_and_biases_with_zero() -> None:
    fresh = network()
    assert fresh["weight_0"].std().item() == pytest.approx(1 / math.sqrt(D), rel=0.05)
    assert fresh["weight_2"].std().item() == pytest.approx(LAST_LAYER_SHARE / math.sqrt(HIDDEN[-1]), rel=0.3)
    assert all(array.abs().max() == 0 for name, array in fresh.items() if name.startswith("bias"))


def test_members_begin_apart_and_the_seed_decides_how() -> None:
    fresh = network()
    assert not torch.equal(fresh["weight_0"][0], fresh["weight_0"][1])
    assert torch.equal(fresh["weight_0"], network()["weight_0"])
    assert not torch.equal(fresh["weight_0"], network(seed=1)["weight_0"])


def test_the_standardisation_begins_at_mean_and_spread() -> None:
    fresh, data = network(), values()
    torch.testing.assert_close(fresh["shift"][1], data.mean(dim=0))
    torch.testing.assert_close(fresh["scale"][1], 1 / data.std(dim=0, correction=0))


def test_narrow_and_constant_functions_do_not_explode() -> None:
    data = values()
    data[:, 0] = 0.7
    data[:, 1] = 0.7 + 1e-3 * data[:, 1]
    fresh = network(data)
    assert fresh["scale"][0, 0] == 1
    assert fresh["scale"][0, 1] == 1 / NARROWEST_SPREAD


@pytest.mark.parametrize("n_atoms", [1, 2, 3])
def test_an_element_can_begin_with_very_few_atoms(n_atoms: int) -> None:
    fresh = network(values(n_atoms))
    assert all(array.isfinite().all() for array in fresh.values())
    assert forth(fresh, values())[0].isfinite().all()
    assert fresh["scale"].max() <= 1 / NARROWEST_SPREAD


def test_the_energy_is_that_of_layer_after_layer() -> None:
    parameters, g = trained(), values(11)
    energies, _ = forth(parameters, g)
    for member in range(MEMBERS):
        torch.testing.assert_close(energies[member], plain_forward(parameters, g, member), rtol=1e-12, atol=1e-13)


def test_the_gradient_is_that_of_automatic_differentiation() -> None:
    parameters, g = trained(), values(11).requires_grad_(True)
    _, gradient = forth(parameters, g.detach())
    for member in range(MEMBERS):
        (expected,) = torch.autograd.grad(plain_forward(parameters, g, member).sum(), g)
        torch.testing.assert_close(gradient[member], expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("by_compiled_code", [True, False])
@pytest.mark.parametrize("n_heads", [1, 3])
@pytest.mark.parametrize("hidden", [(), (30,), (30, 20)])
def test_the_written_out_derivative_by_the_parameters_is_that_of_automatic_differentiation(
    hidden: tuple[int, ...], n_heads: int, by_compiled_code: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "MOST_THREADS", torch.get_num_threads() if by_compiled_code else 0)
    random = torch.Generator().manual_seed(3)
    parameters = {
        name: (array + 0.1 * torch.randn(array.shape, generator=random, dtype=array.dtype)).requires_grad_(True)
        for name, array in init_network(D, hidden, MEMBERS, random, values(), n_heads=n_heads).items()
    }
    heads = torch.eye(n_heads, dtype=torch.float64)[[0, -1, 0, n_heads // 2]] if n_heads > 1 else None
    g = values(4).requires_grad_(True)
    by_energies = torch.randn(MEMBERS, 4, generator=random, dtype=g.dtype)
    by_gradients = torch.randn(4, MEMBERS, D, generator=random, dtype=g.dtype)
    total = g.new_zeros(())
    for member in range(MEMBERS):
        energy = plain_forward(parameters, g, member, heads)
        (gradient,) = torch.autograd.grad(energy.sum(), g, create_graph=True)
        total = total + (energy * by_energies[member]).sum() + (gradient * by_gradients[:, member]).sum()
    expected = torch.autograd.grad(total, list(parameters.values()))
    parameters = {name: array.detach() for name, array in parameters.items()}
    network = fold(parameters)
    done = forth_and_back(network, g.detach(), torch.empty_like(by_gradients), heads)
    found = gradient_of(parameters, network, done, by_energies, by_gradients)
    for name, array in zip(parameters, expected, strict=True):
        torch.testing.assert_close(found[name], array, rtol=1e-10, atol=1e-12)


def test_a_network_without_hidden_layers_is_linear() -> None:
    parameters = init_network(D, (), 2, torch.Generator().manual_seed(0), values())
    energies, gradient = forth(parameters, values(5))
    assert energies.shape == (2, 5)
    torch.testing.assert_close(gradient[0, 0], gradient[0, 4])
