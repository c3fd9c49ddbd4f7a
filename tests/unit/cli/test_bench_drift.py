from math import isnan, sqrt

import numpy as np
import pytest

from lmlp_stream.cli.bench.drift import Drift

TIMESTEP, N_STEPS, N_ATOMS = 0.5, 4000, 10
NANOSECONDS = 1e-6 * TIMESTEP * np.arange(N_STEPS)


def correlated(seed: int) -> np.ndarray:
    """A stationary energy in eV that remembers itself for ten steps; its standard deviation is about 2.3."""
    noise = np.random.default_rng(seed).standard_normal(N_STEPS)
    energies = np.zeros(N_STEPS)
    for step in range(1, N_STEPS):
        energies[step] = 0.9 * energies[step - 1] + noise[step]
    return energies


def test_a_line_drifts_by_its_slope_for_sure() -> None:
    drift = Drift.of(5.0 + 0.3 * N_ATOMS * NANOSECONDS, TIMESTEP, N_ATOMS)
    assert drift.slope == pytest.approx(0.3)
    assert drift.standard_error < 1e-9


def test_an_energy_far_from_zero_loses_no_digits() -> None:
    drift = Drift.of(-15_000.0 + 1e-4 * N_ATOMS * NANOSECONDS, TIMESTEP, N_ATOMS)
    assert drift.slope == pytest.approx(1e-4, abs=1e-5)


def test_the_standard_error_says_how_far_a_fit_to_correlated_energies_strays() -> None:
    drifts = [Drift.of(correlated(seed), TIMESTEP, N_ATOMS) for seed in range(60)]
    strayed = sqrt(np.mean([drift.slope**2 for drift in drifts]))
    claimed = sqrt(np.mean([drift.standard_error**2 for drift in drifts]))
    assert strayed == pytest.approx(claimed, rel=0.35)


def test_the_mean_of_runs_is_as_sure_as_the_runs_agree() -> None:
    mean = Drift.mean([Drift(1.0, 0.1), Drift(3.0, 0.1)])
    assert (mean.slope, mean.standard_error) == pytest.approx((2.0, 1.0))
    assert Drift.mean([Drift(1.0, 0.1)]) == Drift(1.0, 0.1)


def test_nothing_is_known_without_runs_or_of_a_run_of_two_steps() -> None:
    assert isnan(Drift.mean([]).slope)
    assert isnan(Drift.of(np.zeros(2), TIMESTEP, N_ATOMS).standard_error)
