"""Moments of an element's symmetry functions, and standardising anew without changing a prediction."""

import pytest
import torch

from lmlp_stream.learning.standardisation import Atoms
from lmlp_stream.potential.network import fold, forth_and_back, init_network, standardised_to


def values(n: int, seed: int) -> torch.Tensor:
    return 3.0 + torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_moments_of_parts_join_to_those_of_the_whole():
    parts = [values(n, n) for n in (1, 7, 30)]
    joined = Atoms.of(parts[0]).joined(Atoms.of(parts[1])).joined(Atoms.of(parts[2]))
    whole = torch.cat(parts)
    assert (joined.n, joined.n_standardised) == (38, 1)
    assert joined.mean.numpy() == pytest.approx(whole.mean(dim=0).numpy())
    assert joined.spread.numpy() == pytest.approx(whole.std(dim=0, correction=0).numpy())


def test_another_standardisation_changes_neither_energies_nor_their_derivatives():
    some, all_of_them = values(1, 0), values(50, 1)
    parameters = init_network(5, (4, 3), 2, torch.Generator().manual_seed(0), some)
    atoms = Atoms.of(all_of_them)
    changed, factor = standardised_to(parameters, atoms.mean, atoms.spread)
    passes = []
    for one in (parameters, parameters | changed):
        gradients = torch.empty(50, 2, 5, dtype=torch.float64)
        passes.append((forth_and_back(fold(one), all_of_them, gradients).energies, gradients))
    (energies, gradients), (same_energies, same_gradients) = passes
    assert same_energies.numpy() == pytest.approx(energies.numpy())
    assert same_gradients.numpy() == pytest.approx(gradients.numpy())
    assert (changed["weight_0"] / parameters["weight_0"]).numpy() == pytest.approx(factor.expand(2, 5, 4).numpy())
    assert changed["scale"].numpy() == pytest.approx((1 / atoms.spread).expand(2, 5).numpy())
