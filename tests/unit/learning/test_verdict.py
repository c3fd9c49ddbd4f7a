"""Verdicts on trends whose course is known, and on a learner that really does so."""

from dataclasses import replace

import numpy as np
import pytest

from lmlp_stream.learning.learner import Learner
from lmlp_stream.learning.verdict import BLOCK, LONG_WINDOW, WINDOW, Held, Trend, Verdict
from tests.unit.learning.structures import METHANE, WATER, labelled
from tests.unit.learning.test_learner import config_of

SPREAD = 0.3
"""Standard deviation of the logarithms of errors."""


def errors(n_labels, start, end, seed=0):
    """Force RMSEs whose usual size goes from `start` to `end`."""
    noise = np.random.default_rng(seed).normal(scale=SPREAD, size=n_labels)
    return np.geomspace(start, end, n_labels) * np.exp(noise)


def held_out(factor, seed=0, absent=False, domain="old"):
    """Forty structures in twenty groups, as they are predicted now; `factor` is what they have in common."""
    noise = np.exp(np.random.default_rng(seed).normal(scale=0.05, size=40))
    return [
        Held(f"{domain}/{place}", f"{domain}/{place // 2}", absent, 0.1 * factor * float(noise[place]))
        for place in range(40)
    ]


def after(*segments, examinations=()):
    trend = Trend()
    for segment in segments:
        trend.follow(segment)
    for held in examinations:
        trend.examine(held)
    return trend


def test_a_few_labels_are_too_early_to_judge():
    trend = after(errors(2 * WINDOW - 1, 1.0, 0.1))
    assert trend.ruling.verdict == Verdict.EARLY
    trend.follow([0.1])
    assert trend.ruling.verdict == Verdict.IMPROVING


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0.4, 0.2, Verdict.IMPROVING),
        (0.2, 0.2, Verdict.CONVERGED),
        (0.2, 0.4, Verdict.DRIFTING),
    ],
)
def test_the_course_of_errors_on_new_labels_is_seen_through_noise(start, end, expected, seed):
    assert after(errors(2 * WINDOW, start, end, seed)).ruling.verdict == expected


def test_new_chemistry_that_is_harder_is_drift_until_it_is_usual():
    trend = after(errors(3 * WINDOW, 0.1, 0.1))
    assert trend.ruling.verdict == Verdict.CONVERGED
    trend.follow(errors(WINDOW, 0.3, 0.3, seed=1))
    assert trend.ruling.verdict == Verdict.DRIFTING
    trend.follow(errors(WINDOW, 0.3, 0.3, seed=2))
    assert trend.ruling.verdict == Verdict.CONVERGED


def test_one_wild_label_is_no_drift():
    quiet = errors(2 * WINDOW, 0.1, 0.1)
    quiet[-5] = 1e4
    assert after(quiet).ruling.verdict == Verdict.CONVERGED


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_fall_in_much_noise_is_improvement_not_convergence(seed):
    assert after(errors(2 * LONG_WINDOW, 0.2, 0.16, seed)).ruling.verdict == Verdict.IMPROVING


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_rise_in_much_noise_is_drift_not_convergence(seed):
    assert after(errors(2 * LONG_WINDOW, 0.2, 0.3, seed)).ruling.verdict == Verdict.DRIFTING


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_of_one_size_whose_size_changes_all_the_time_tell_nothing(seed):
    sizes = np.exp(np.random.default_rng(seed).normal(scale=0.6, size=2 * WINDOW // BLOCK))
    ruling = after(np.repeat(0.1 * sizes, BLOCK)).ruling
    assert ruling.verdict not in (Verdict.CONVERGED, Verdict.DRIFTING)
    longer = np.exp(np.random.default_rng(seed).normal(scale=0.2, size=2 * LONG_WINDOW // BLOCK))
    assert after(np.repeat(0.1 * longer, BLOCK)).ruling.verdict == Verdict.CONVERGED


def course_of(factors, **changes):
    """Examinations of absent structures by the factor that their errors have in common."""
    return [held_out(factor, seed, absent=True, **changes) for seed, factor in enumerate(factors)]


def verdicts_of(examinations):
    """The verdict after each examination, where errors on new labels stay what they are."""
    trend, verdicts = after(errors(2 * WINDOW, 0.1, 0.1)), []
    for held in examinations:
        trend.examine(held)
        verdicts.append(trend.ruling.verdict)
    return verdicts


def test_errors_that_rise_where_no_label_arrives_are_forgetting():
    ruling = after(errors(2 * WINDOW, 0.1, 0.1), examinations=course_of((1.0, 1.0, 1.0, 1.4))).ruling
    assert ruling.verdict == Verdict.FORGETTING
    assert "absent domains" in ruling.evidence


def test_a_lasting_loss_is_forgetting_until_it_is_made_good():
    lost, made_good = [1.0] * 3 + [1.4] * 40, [1.02] * 10
    verdicts = verdicts_of(course_of(lost + made_good))
    assert verdicts == [Verdict.CONVERGED] * 3 + [Verdict.FORGETTING] * 40 + [Verdict.CONVERGED] * 10


def test_small_losses_add_up_to_forgetting():
    verdicts = verdicts_of(course_of(np.geomspace(1.0, 1.8, 60)))
    assert verdicts[:4] == [Verdict.CONVERGED] * 4
    assert set(verdicts[40:]) == {Verdict.FORGETTING}


@pytest.mark.parametrize("seed", range(5))
def test_errors_on_absent_domains_that_come_and_go_are_not_forgetting(seed):
    common = np.exp(np.random.default_rng(seed).normal(scale=0.03, size=100))
    assert Verdict.FORGETTING not in verdicts_of(course_of(common))


def test_a_loss_is_not_hidden_by_domains_that_came_later():
    lost = course_of([1.0] * 3 + [1.4] * 20)
    later = [[]] * 4 + [held_out(1.0, 50 + seed, absent=True, domain=f"later{seed % 9}") for seed in range(19)]
    assert set(verdicts_of([old + new for old, new in zip(lost, later, strict=True)])[3:]) == {Verdict.FORGETTING}


def test_a_loss_counts_where_single_labels_of_the_lost_domain_arrive():
    course = [held_out(1.0, seed, absent=True) for seed in range(3)] + [held_out(1.4, 3, absent=True)]
    course += [held_out(1.4, 10 + seed, absent=seed % 2 == 0) for seed in range(10)]
    assert set(verdicts_of(course)[3:]) == {Verdict.FORGETTING}


def test_what_left_the_hold_out_is_no_loss():
    assert verdicts_of([*course_of([1.0] * 3 + [1.4] * 3), held_out(1.0, domain="new")])[-1] == Verdict.CONVERGED


def test_errors_that_rise_where_labels_arrive_are_not_forgetting():
    course = [held_out(factor, seed) for seed, factor in enumerate((1.0, 1.0, 1.4))]
    assert after(errors(2 * WINDOW, 0.1, 0.1), examinations=course).ruling.verdict == Verdict.CONVERGED


def test_one_group_that_rises_is_not_forgetting():
    last = [replace(held, force_rmse=9.0) if held.group == "old/0" else held for held in held_out(1.0, 1, absent=True)]
    course = [held_out(1.0, absent=True), last]
    assert after(errors(2 * WINDOW, 0.1, 0.1), examinations=course).ruling.verdict == Verdict.CONVERGED


def test_a_hold_out_that_gets_better_is_improvement():
    course = [held_out(factor, seed) for seed, factor in enumerate((1.0, 0.9, 0.8))]
    assert after(errors(2 * WINDOW, 0.1, 0.1), examinations=course).ruling.verdict == Verdict.IMPROVING


def test_structures_that_are_new_in_the_hold_out_are_measured_from_the_next_time_on():
    first, harder = held_out(1.0, absent=True), held_out(50.0, absent=True, domain="new")
    trend = after(errors(2 * WINDOW, 0.1, 0.1), examinations=[first, first + harder])
    assert trend.ruling.verdict == Verdict.CONVERGED


def test_a_trend_is_of_bounded_size():
    trend = after(errors(3 * LONG_WINDOW, 0.1, 0.1), examinations=[held_out(1.0), held_out(1.0, domain="other")])
    state = trend.state_dict()
    assert len(state["blocks"]) == 2 * LONG_WINDOW // BLOCK
    assert len(state["past.logs"]) == 40


def test_a_restored_trend_goes_on_bit_for_bit():
    trend, restored = after(errors(WINDOW + 7, 0.2, 0.1), examinations=course_of((1.0, 1.0, 1.4))), Trend()
    restored.load_state_dict(trend.state_dict())
    for each in (trend, restored):
        each.follow(errors(WINDOW + 5, 0.1, 0.1))
        each.examine(held_out(1.2, 1))
    assert trend.ruling == restored.ruling
    for name, array in trend.state_dict().items():
        assert array.tobytes() == restored.state_dict()[name].tobytes(), name


def test_a_learner_improves_on_a_stream_and_forgets_it_where_it_may_not_rehearse():
    config = config_of(
        symmetry={"preset": "shifted"},
        potential={"members": 2},
        learning={"steps_per_record": 1.0, "max_steps_per_tick": 64, "fresh_share": 1.0},
        rehearsal={"holdout_share": 0.1, "holdout_capacity": 48, "capacity": 8},
    )
    learner = Learner(config)
    verdicts = []
    for shape, n_labels in ((WATER, 2 * WINDOW + 48), (METHANE, 64)):
        for first in range(0, n_labels, 32):
            learner.process_tick([labelled(index, shape) for index in range(first, first + 32)])
            learner.note_assessed(learner.assess())
        verdicts.append(learner.ruling.verdict)
    assert verdicts == [Verdict.IMPROVING, Verdict.FORGETTING]
    restored = Learner.restore(config, learner.state_dict())
    assert restored.ruling == learner.ruling
    assert restored.assess() == learner.assess()
