import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmlp_stream.atoms.batch import composition_of
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.potential.baseline import Baseline


def structure(numbers: list[int], energy: float) -> LabelledStructure:
    return LabelledStructure(
        atomic_numbers=np.array(numbers),
        positions=np.zeros((len(numbers), 3)),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        id="",
        group="",
        domain="",
        energy=energy,
        forces=np.zeros((len(numbers), 3)),
    )


def energy_of(baseline: Baseline, numbers: list[int]) -> float:
    return baseline.energy(torch.tensor(composition_of(np.array(numbers)))[None]).item()


WATER, HYDROGEN, METHANE = [8, 1, 1], [1, 1], [6, 1, 1, 1, 1]


def test_given_energies_stay_as_they_are() -> None:
    baseline = Baseline({1: -13.6, 8: -2040.0})
    baseline.fit([structure(WATER, -9999.0)])
    assert baseline.covers(composition_of(np.array(WATER)))
    assert energy_of(baseline, WATER) == pytest.approx(-2067.2)


def test_an_element_that_was_not_given_is_fitted_beside_those_that_were() -> None:
    baseline = Baseline({1: -13.6})
    assert not baseline.covers(composition_of(np.array(WATER)))
    baseline.fit([structure(WATER, -2000.0)])
    assert energy_of(baseline, [8]) == pytest.approx(-2000 + 27.2)
    assert energy_of(baseline, [1]) == -13.6


def test_a_new_composition_gets_its_median_energy_whatever_unit_one_label_has() -> None:
    baseline = Baseline({})
    baseline.fit([structure(WATER, -2000.0), structure(WATER, -2002.0), structure(WATER, -2001.0 / 27.2)])
    assert energy_of(baseline, WATER) == pytest.approx(-2000)


def test_a_composition_is_learned_once() -> None:
    baseline = Baseline({})
    baseline.fit([structure(WATER, -10.0)])
    baseline.fit([structure(WATER, -99.0), structure(WATER * 3, -500.0)])
    assert energy_of(baseline, WATER) == pytest.approx(-10)
    assert energy_of(baseline, WATER * 3) == pytest.approx(-30)


def test_a_composition_between_known_ones_is_covered() -> None:
    baseline = Baseline({})
    baseline.fit([structure(WATER, -10.0), structure(HYDROGEN, -2.0)])
    peroxide = [8, 8, 1, 1]
    assert baseline.covers(composition_of(np.array(peroxide)))
    assert energy_of(baseline, peroxide) == pytest.approx(-18)
    assert not baseline.covers(composition_of(np.array(METHANE)))


def test_a_structure_without_energy_teaches_nothing() -> None:
    baseline = Baseline({})
    baseline.fit([structure(WATER, math.nan)])
    assert not baseline.covers(composition_of(np.array(WATER)))


COMPOSITIONS = st.lists(
    st.tuples(st.lists(st.sampled_from([1, 6, 7, 8, 26]), min_size=1, max_size=30), st.floats(-1e4, 0)),
    min_size=1,
    max_size=12,
)


@given(COMPOSITIONS)
def test_sums_for_compositions_that_were_learned_never_move(arrivals: list[tuple[list[int], float]]) -> None:
    baseline, fixed = Baseline({7: -1480.0}), {}
    for numbers, energy in arrivals:
        baseline.fit([structure(numbers, energy)])
        fixed.setdefault(tuple(sorted(numbers)), energy_of(baseline, numbers))
    for numbers, energy in fixed.items():
        scale = np.abs(baseline.state_dict()["energies"].numpy()).max() * len(numbers)
        assert energy_of(baseline, list(numbers)) == pytest.approx(energy, rel=1e-9, abs=1e-10 * scale)


@given(COMPOSITIONS)
def test_what_was_fitted_together_is_covered(arrivals: list[tuple[list[int], float]]) -> None:
    baseline = Baseline({})
    baseline.fit([structure(numbers, energy) for numbers, energy in arrivals])
    assert all(baseline.covers(composition_of(np.array(numbers))) for numbers, _ in arrivals)


def test_a_baseline_survives_its_state() -> None:
    baseline = Baseline({1: -13.6})
    baseline.fit([structure(WATER, -2000.0)])
    again = Baseline.from_state(baseline.state_dict())
    assert energy_of(again, WATER) == energy_of(baseline, WATER)
    again.fit([structure(WATER, 0.0), structure([1], 0.0)])
    assert energy_of(again, WATER) == energy_of(baseline, WATER)
