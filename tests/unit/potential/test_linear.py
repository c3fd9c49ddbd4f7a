"""The linear part: how it is drawn, and what it does to what the networks say."""

from dataclasses import replace

import pytest
import torch

from lmlp_stream.potential.linear import N_DEVIATING, Features, LinearPart, excess, relevance_of
from tests.unit.potential.test_ensemble import ALL, CPU, ETHANOL, batch_of, ensemble, partly_familiar


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_mean_is_that_of_networks_and_linear_part_by_their_shares(share: float) -> None:
    model, batch = ensemble(), batch_of(ALL)
    linear = model.linear
    parts = {}
    for kind, part in {"networks": None, "linear": LinearPart(1.0, linear.features)}.items():
        model.linear = part
        parts[kind] = model.predict(batch)
    model.linear = LinearPart(share, linear.features)
    blended = model.predict(batch)
    for name in ("mean_energy", "mean_forces", "mean_stress"):
        expected = (1 - share) * getattr(parts["networks"], name) + share * getattr(parts["linear"], name)
        torch.testing.assert_close(getattr(blended, name), expected, equal_nan=True)


def test_members_differ_by_their_networks_and_by_the_share_of_their_linear_parts() -> None:
    model, batch = ensemble(), batch_of(ALL)
    linear = model.linear
    blended = model.predict(batch).energy
    model.linear = None
    expected = model.predict(batch).energy
    expected = expected - expected.mean(dim=0) + blended.mean(dim=0)
    for z, some in batch.atoms_of.items():
        of_element = linear.features[z]
        of_atoms = of_element.deviations.T @ of_element.evaluate(batch.values[some]).T
        expected.index_add_(1, batch.structure_index[some], of_atoms, alpha=linear.share)
    torch.testing.assert_close(blended, expected)


def test_deviations_are_those_of_coefficients_of_the_first_features() -> None:
    values = torch.rand(4, 3, dtype=torch.float64)
    drawn = Features.drawn(values, N_DEVIATING + 50, torch.Generator().manual_seed(1), members=2)
    assert drawn.deviations.shape == (N_DEVIATING, 2)
    deviations = torch.randn(N_DEVIATING, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    evaluated = drawn.evaluate(values)
    energies, slopes = torch.ones(4, 2, dtype=torch.float64), torch.ones(4, 2, 3, dtype=torch.float64)
    drawn.with_deviations(deviations).deviate(evaluated, 0.5, energies, slopes)
    for member in range(2):
        coefficients = torch.zeros(N_DEVIATING + 50, dtype=torch.float64)
        coefficients[:N_DEVIATING] = deviations[:, member]
        expected, by_function = drawn.with_coefficients(coefficients).energies(evaluated)
        torch.testing.assert_close(energies[:, member], 1 + 0.5 * expected)
        torch.testing.assert_close(slopes[:, member], 1 + 0.5 * by_function)


def test_features_are_those_of_the_formula() -> None:
    values = torch.rand(4, 3, dtype=torch.float64)
    features = Features.drawn(values, 5, torch.Generator().manual_seed(1))
    arguments = values @ features.directions + features.offsets
    torch.testing.assert_close(features.evaluate(values), torch.tanh(arguments))
    coefficients = torch.arange(5, dtype=torch.float64)
    energies, slopes = features.with_coefficients(coefficients).energies(features.evaluate(values))
    torch.testing.assert_close(energies, torch.tanh(arguments) @ coefficients)
    torch.testing.assert_close(slopes, (coefficients / torch.cosh(arguments) ** 2) @ features.directions.T)


def test_features_are_drawn_about_the_mean_of_the_first_atoms() -> None:
    values = torch.rand(4, 3, dtype=torch.float64)
    here = Features.drawn(values, 5, torch.Generator().manual_seed(1))
    elsewhere = Features.drawn(values + 7.0, 5, torch.Generator().manual_seed(1))
    torch.testing.assert_close(here.evaluate(values), elsewhere.evaluate(values + 7.0))
    assert here.coefficients.tolist() == [0.0] * 5


def test_directions_follow_the_relevance_of_symmetry_functions() -> None:
    relevance = torch.tensor([2.0, 0.5, 0.0], dtype=torch.float64)
    values = torch.rand(4, 3, dtype=torch.float64)
    features = Features.drawn(values, 4000, torch.Generator().manual_seed(1), relevance)
    torch.testing.assert_close(features.relevance, relevance, rtol=0.05, atol=0.0)
    torch.testing.assert_close(features.directions[2], torch.zeros(4000, dtype=torch.float64))


def test_relevance_is_as_steep_as_the_energy_and_never_nothing() -> None:
    spread = torch.tensor([0.1, 0.2, 0.1, 0.3], dtype=torch.float64)
    found = relevance_of(torch.tensor([4.0, 1.0, 0.0, 1.0], dtype=torch.float64), spread)
    assert found[0] / found[1] == pytest.approx(2.0)
    assert found[2] / found[1] == pytest.approx(0.03 * 1.5**0.5)
    even = relevance_of(torch.ones(4, dtype=torch.float64), spread)
    assert even.tolist() == pytest.approx([float(even[0])] * 4)
    assert float((found * spread).norm()) == pytest.approx(float((even * spread).norm()))


@pytest.mark.parametrize(("slopes", "spread"), [(0.0, 1.0), (1.0, 0.0), (float("inf"), 1.0), (float("nan"), 1.0)])
def test_without_slopes_or_spread_all_functions_are_equally_relevant(slopes: float, spread: float) -> None:
    even = relevance_of(torch.ones(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    found = relevance_of(torch.full((3,), slopes).double(), torch.full((3,), spread).double())
    torch.testing.assert_close(found, even)


def excess_of(features: Features, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return excess(values, features.lowest.expand_as(values), features.highest.expand_as(values))


def test_excess_is_measured_in_margins_beyond_the_range_of_what_was_learned() -> None:
    learned = torch.tensor([[0.0, 1.0], [2.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    even = torch.ones(2, dtype=torch.float64)
    features = Features.drawn(learned[:2], 5, torch.Generator().manual_seed(1), even).covering(learned[2:])
    assert excess_of(features, learned)[0].tolist() == [0.0] * 3
    margins = torch.tensor([1.0, 0.4], dtype=torch.float64)
    beyond = torch.tensor([2.0, 1.0], dtype=torch.float64) + torch.eye(2, dtype=torch.float64) * margins
    below = torch.tensor([0.0, 1.0], dtype=torch.float64) - torch.eye(2, dtype=torch.float64) * margins
    for outside in (beyond, below):
        torch.testing.assert_close(excess_of(features, outside)[0], torch.ones(2, dtype=torch.float64))
    assert excess_of(features.covering(beyond), beyond)[0].tolist() == [0.0, 0.0]
    without_relevance = Features.drawn(learned[:2], 5, torch.Generator().manual_seed(1)).covering(learned[2:])
    assert excess_of(without_relevance, beyond)[0].tolist() == [0.0, 0.0]


def test_no_curvature_jumps_where_a_function_leaves_the_range() -> None:
    learned = torch.tensor([[0.0, 1.0], [2.0, 1.5]], dtype=torch.float64)
    even = torch.ones(2, dtype=torch.float64)
    features = Features.drawn(learned, 5, torch.Generator().manual_seed(1), even)
    curvatures = []
    for step in (0.02, 0.01):
        just_beyond = torch.tensor([[2.0 + step, 1.2]], dtype=torch.float64)
        curvatures.append(float(excess_of(features, just_beyond)[1][0, 0]) / step)
    assert curvatures[0] / curvatures[1] == pytest.approx(4.0)
    assert curvatures[1] > 0


def test_structures_with_unfamiliar_atoms_have_the_energies_of_the_networks() -> None:
    model, batch = ensemble(), batch_of(ALL)
    familiar = model.predict(batch).mean_energy
    carbon = model.linear.features[6]
    model.linear.features[6] = replace(carbon, lowest=carbon.highest - 1, highest=carbon.highest)
    found = model.predict(batch).mean_energy
    model.linear = None
    networks = model.predict(batch).mean_energy
    with_carbon = batch.composition[:, 6] > 0
    torch.testing.assert_close(found[with_carbon], networks[with_carbon], rtol=0.0, atol=1e-6)
    torch.testing.assert_close(found[~with_carbon], familiar[~with_carbon])
    assert with_carbon.any()
    assert not with_carbon.all()


def test_a_structure_is_familiar_by_the_excess_of_its_atoms() -> None:
    model, batch = partly_familiar(ETHANOL), batch_of([ETHANOL])
    beyond = sum(
        float(excess_of(model.linear.features[z], batch.values[some])[0].sum()) for z, some in batch.atoms_of.items()
    )
    found = model.predict(batch).mean_energy
    model.linear = replace(model.linear, features=ensemble().linear.features)
    familiar = model.predict(batch).mean_energy
    model.linear = None
    networks = model.predict(batch).mean_energy
    assert 0.1 < beyond < 10
    torch.testing.assert_close(found, networks + (familiar - networks) / (1 + beyond))


def test_the_first_features_are_those_of_fewer_coefficients() -> None:
    values = torch.rand(4, 3, dtype=torch.float64)
    features = Features.drawn(values, 5, torch.Generator().manual_seed(1))
    torch.testing.assert_close(features.first(2).evaluate(values), features.evaluate(values)[:, :2])


def test_a_linear_part_survives_its_state_and_does_not_follow_it() -> None:
    linear = ensemble().linear
    state = linear.state_dict()
    again = LinearPart.from_state(state, torch.float64, CPU)
    state["6.coefficients"] += 1
    assert again.share == linear.share
    assert list(again.features) == list(linear.features)
    assert torch.equal(again.features[6].coefficients, linear.features[6].coefficients)
    assert again.n_features == 20
    assert LinearPart(0.5).n_features == 0
