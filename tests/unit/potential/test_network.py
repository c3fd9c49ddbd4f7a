import math

import pytest
import torch

from lmlp_stream.potential.network import (
    LAST_LAYER_SHARE,
    NARROWEST_SPREAD,
    STANH,
    forward,
    forward_with_gradient,
    init_network,
    stanh,
)

MEMBERS, D, HIDDEN = 3, 40, (30, 20)


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


def plain_forward(parameters: dict[str, torch.Tensor], g: torch.Tensor, member: int) -> torch.Tensor:
    x = parameters["scale"][member] * (g - parameters["shift"][member])
    for layer in range(len(HIDDEN) + 1):
        x = x @ parameters[f"weight_{layer}"][member] + parameters[f"bias_{layer}"][member]
        if layer < len(HIDDEN):
            x = STANH * torch.tanh(x)
    return x[:, 0]


def test_stanh_keeps_unit_variance() -> None:
    z = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert stanh(z).var().item() == pytest.approx(1, abs=0.01)


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
    assert forward(fresh, values()).isfinite().all()
    assert fresh["scale"].max() <= 1 / NARROWEST_SPREAD


def test_the_energy_is_that_of_layer_after_layer() -> None:
    parameters, g = trained(), values(11)
    energies = forward(parameters, g)
    for member in range(MEMBERS):
        torch.testing.assert_close(energies[member], plain_forward(parameters, g, member), rtol=1e-12, atol=1e-13)


def test_the_gradient_is_that_of_automatic_differentiation() -> None:
    parameters, g = trained(), values(11).requires_grad_(True)
    _, gradient = forward_with_gradient(parameters, g)
    for member in range(MEMBERS):
        (expected,) = torch.autograd.grad(plain_forward(parameters, g, member).sum(), g)
        torch.testing.assert_close(gradient[member], expected, rtol=1e-11, atol=1e-13)


def test_energy_and_gradient_can_be_differentiated_by_every_parameter() -> None:
    parameters = {name: array.requires_grad_(True) for name, array in trained().items()}
    names, g = list(parameters), values(4)[:, :D]

    def both(*arrays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        energies, gradient = forward_with_gradient(dict(zip(names, arrays, strict=True)), g)
        return energies.sum(dim=1), (gradient**2).sum(dim=(1, 2))

    assert torch.autograd.gradcheck(both, tuple(parameters.values()), fast_mode=True)


def test_a_network_without_hidden_layers_is_linear() -> None:
    parameters = init_network(D, (), 2, torch.Generator().manual_seed(0), values())
    energies, gradient = forward_with_gradient(parameters, values(5))
    assert energies.shape == (2, 5)
    torch.testing.assert_close(gradient[0, 0], gradient[0, 4])
