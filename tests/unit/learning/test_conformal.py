"""Intervals that hold nine labels of ten, whatever the stream does."""

import numpy as np
import pytest

from lmlp_stream.learning.conformal import MIN_HELD_GROUPS, RATE, Conformal, held_out_intervals
from lmlp_stream.learning.evaluation import calibration, error_rows, joined
from lmlp_stream.learning.residuals import Residuals
from lmlp_stream.potential.uncertainty import Intervals, Level

NUMBERS = np.array([8, 1, 1, 6])


def residuals(random, n_structures, *, energy=1.0, forces=(1.0, 1.0, 1.0, 1.0), std=0.3) -> Residuals:
    """Structures of O, H, H and C whose members disagree by a share `std` of the errors they make."""
    scale = np.tile(forces, n_structures)[:, None] * random.lognormal(sigma=0.5, size=(n_structures, 1)).repeat(4, 0)
    spread = energy * random.lognormal(sigma=0.5, size=n_structures)
    return Residuals(
        energy=random.normal(size=n_structures) * spread,
        energy_std=std * spread,
        forces=random.standard_t(4, size=(4 * n_structures, 3)) * scale,
        forces_std=std * np.repeat(scale, 3, axis=1),
        atomic_numbers=np.tile(NUMBERS, n_structures),
        structure_index=np.repeat(np.arange(n_structures), 4),
    )


def coverage(parts: list[Residuals]) -> tuple[np.ndarray, np.ndarray]:
    """Which energies, and which share of each structure's forces, the online intervals held."""
    conformal = Conformal()
    rows = joined(error_rows(found, conformal.examine(found)) for found in parts)
    return rows["energy_inside"], rows["n_forces_inside"] / rows["n_forces"]


def worst(inside: np.ndarray, size: int) -> float:
    return max(abs(float(inside[first : first + size].mean()) - 0.9) for first in range(len(inside) - size + 1))


def test_nine_of_ten_are_held_in_every_window_while_errors_fall_and_after_a_switch():
    random = np.random.default_rng(0)
    falling = [residuals(random, 1, energy=3 / (1 + k / 50), forces=[1 / (1 + k / 50)] * 4) for k in range(2000)]
    switched = [residuals(random, 1, energy=20.0, forces=[9.0, 3.0, 3.0, 6.0], std=0.05) for _ in range(2000)]
    energy, forces = coverage(falling + switched)
    assert worst(energy, 1000) <= 0.02
    assert worst(forces, 1000) <= 0.02
    assert worst(forces[2200:], 200) <= 0.04


def test_raw_intervals_of_the_same_members_hold_far_fewer():
    random = np.random.default_rng(0)
    found = residuals(random, 500)
    assert calibration(error_rows(found, found.widths(Intervals()))).raw_force_coverage_90 < 0.5


def test_misses_average_to_a_tenth_up_to_the_drift_of_the_factor():
    random = np.random.default_rng(1)
    conformal = Conformal()
    parts = [residuals(random, 1, energy=float(random.lognormal(sigma=2.0))) for _ in range(300)]
    inside = joined(error_rows(found, conformal.examine(found)) for found in parts)["energy_inside"]
    drift = np.log(conformal.now.energy.factor)
    assert (1 - inside).mean() == pytest.approx(0.1 + drift / (RATE * 300), abs=1e-12)


def test_elements_have_intervals_of_their_own():
    random = np.random.default_rng(2)
    conformal = Conformal()
    conformal.examine(residuals(random, 600, forces=[9.0, 1.0, 1.0, 3.0], std=0.0))
    found = residuals(random, 600, forces=[9.0, 1.0, 1.0, 3.0], std=0.0)
    widths = conformal.examine(found)
    for z in (1, 6, 8):
        some = found.atomic_numbers == z
        assert (np.abs(found.forces[some]) <= widths.forces[some]).mean() == pytest.approx(0.9, abs=0.02)


def test_intervals_come_from_labels_before_and_missing_labels_change_nothing():
    random = np.random.default_rng(3)
    found = residuals(random, 20)
    whole, one_by_one, gaps = Conformal(), Conformal(), Conformal()
    widths = whole.examine(found)
    singles = []
    for index in range(20):
        atoms = slice(4 * index, 4 * index + 4)
        alone = Residuals(
            found.energy[index : index + 1],
            found.energy_std[index : index + 1],
            found.forces[atoms],
            found.forces_std[atoms],
            NUMBERS,
            np.zeros(4, dtype=np.int64),
        )
        singles.append(one_by_one.examine(alone).energy[0])
        gaps.examine(alone)
        unlabelled = Residuals(
            np.array([np.nan]), alone.energy_std, np.full((4, 3), np.nan), alone.forces_std, NUMBERS, np.zeros(4, int)
        )
        assert not np.isnan(gaps.examine(unlabelled).forces).any()
    np.testing.assert_array_equal(widths.energy, singles)
    for name, array in whole.state_dict().items():
        np.testing.assert_array_equal(array, gaps.state_dict()[name])


def test_it_goes_on_bit_for_bit():
    random = np.random.default_rng(4)
    first, second = residuals(random, 30), residuals(random, 30)
    straight, restored = Conformal(), Conformal()
    straight.examine(first)
    restored.load_state_dict(straight.state_dict())
    np.testing.assert_array_equal(straight.examine(second).forces, restored.examine(second).forces)
    assert straight.steady == restored.steady


def of_groups(random, n_groups: int, size: int) -> tuple[list[Residuals], list[str]]:
    """Structures of groups whose errors differ in size, those of one group hardly, from where the members agree."""
    found = residuals(random, n_groups * size, std=0.0)
    scale = random.lognormal(sigma=1.0, size=n_groups).repeat(size)
    found.energy[:] = scale * random.uniform(0.9, 1.1, size=len(scale))
    found.forces[:] = scale.repeat(4)[:, None] * random.uniform(-1.1, 1.1, size=found.forces.shape)
    return [found], [f"trajectory {number}" for number in np.arange(n_groups).repeat(size)]


def test_a_hold_out_makes_intervals_for_structures_of_its_distribution():
    random = np.random.default_rng(5)
    forces = [9.0, 1.0, 1.0, 3.0]
    parts = [residuals(random, 200, forces=forces) for _ in range(3)]
    intervals = held_out_intervals(parts, [str(number) for number in range(600)], Intervals())
    test = residuals(random, 2000, forces=forces)
    found = calibration(error_rows(test, test.widths(intervals)))
    assert found.energy_coverage_90 == pytest.approx(0.9, abs=0.03)
    assert found.force_coverage_90 == pytest.approx(0.9, abs=0.02)
    assert intervals.by_element[8].floor > 5 * intervals.by_element[1].floor


def mean_coverage(n_groups: int, make) -> tuple[float, float]:
    """Coverage of energies and of forces in unseen groups, on average over hold-outs; ± 0.005."""
    random = np.random.default_rng(7)
    energy, forces = [], []
    for _ in range(400):
        intervals = held_out_intervals(*(make(random, n_groups, 7)), Intervals())
        (test,), _ = make(random, 20, 7)
        found = calibration(error_rows(test, test.widths(intervals)))
        energy.append(found.energy_coverage_90)
        forces.append(found.force_coverage_90)
    return float(np.mean(energy)), float(np.mean(forces))


@pytest.mark.parametrize("n_groups", [MIN_HELD_GROUPS, 12, 40])
def test_nine_of_ten_are_held_in_unseen_groups_too(n_groups):
    covered = mean_coverage(n_groups, of_groups)
    assert min(covered) > 0.89
    assert max(covered) < 0.93


@pytest.mark.parametrize("n_groups", [MIN_HELD_GROUPS, 12, 40])
def test_groups_whose_structures_have_nothing_in_common_make_intervals_no_wider(n_groups):
    def alike(random, n_groups, size):
        return [residuals(random, n_groups * size)], [str(number) for number in np.arange(n_groups).repeat(size)]

    assert mean_coverage(n_groups, alike) == pytest.approx((0.9, 0.9), abs=0.02)


def test_groups_of_all_sizes_count_by_what_they_tell():
    def uneven(random, n_groups, size):
        sizes = np.where(random.random(n_groups) < 0.3, 20 * size, 1)
        numbers = np.arange(n_groups).repeat(sizes)
        return [residuals(random, len(numbers))], [str(number) for number in numbers]

    covered = mean_coverage(10, uneven)
    assert min(covered) > 0.89
    assert max(covered) < 0.95


def test_a_group_counts_once_however_it_is_cut_into_parts():
    random = np.random.default_rng(8)
    (held,), groups = of_groups(random, 15, 4)
    halves = [
        Residuals(
            held.energy[some],
            held.energy_std[some],
            held.forces[atoms],
            held.forces_std[atoms],
            held.atomic_numbers[atoms],
            held.structure_index[atoms] - some.start,
        )
        for some, atoms in ((slice(0, 30), slice(0, 120)), (slice(30, 60), slice(120, 240)))
    ]
    whole = held_out_intervals([held], groups, Intervals())
    assert held_out_intervals(halves, groups, Intervals()) == whole
    alone = held_out_intervals([held], [str(number) for number in range(60)], Intervals())
    assert whole.energy.factor > alone.energy.factor


def test_few_groups_leave_the_factor_of_the_stream():
    random = np.random.default_rng(6)
    conformal = Conformal()
    conformal.examine(residuals(random, 50))
    (held,), groups = of_groups(random, MIN_HELD_GROUPS, 30)
    assert held_out_intervals([held], groups, conformal.steady).energy.factor > 0
    assert held_out_intervals([held], groups, conformal.steady) != conformal.steady
    few = [groups[0] if group == groups[-1] else group for group in groups]
    assert held_out_intervals([held], few, conformal.steady) == conformal.steady
    unlabelled = Residuals(
        np.where(np.array(groups) == groups[0], np.nan, held.energy),
        held.energy_std,
        held.forces,
        held.forces_std,
        held.atomic_numbers,
        held.structure_index,
    )
    intervals = held_out_intervals([unlabelled], groups, conformal.steady)
    assert intervals.energy == conformal.steady.energy
    assert intervals.forces != conformal.steady.forces


def test_nothing_is_known_before_the_first_label():
    assert held_out_intervals([], [], Conformal().steady) == Intervals()
    assert np.isnan(Intervals().energy.factor)


def test_a_manifest_tells_intervals_and_reads_them_back():
    intervals = Intervals(Level(0.002, 1.5), Level(0.1, 1.2), {1: Level(0.05, 1.1), 35: Level(0.3, 1.9)})
    named = intervals.named()
    assert named["interval_90_forces_factor_Br"] == 1.9
    assert Intervals.read({**named, "coverage_90_energy": 0.9}) == intervals
    assert Intervals().named() == {}
