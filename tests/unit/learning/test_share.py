"""The share of the linear part against the minimum found by trying."""

import numpy as np
import pytest

from lmlp_stream.learning.learner import Learner
from lmlp_stream.learning.share import FittedShare
from tests.unit.learning.structures import AMMONIA, METHANE, WATER, labelled
from tests.unit.learning.test_learner import assert_equal_states, config_of

N_ATOMS = 20


def add(share: FittedShare, ids: range, *sizes: float, seed: int = 0) -> list[np.ndarray]:
    """Errors of these standard deviations; those of networks and linear part are independent."""
    random = np.random.default_rng(seed)
    errors = [random.normal(scale=size, size=(len(ids), N_ATOMS, 3)) for size in sizes]
    for id_, networks, linear in zip(ids, *errors, strict=True):
        share.add(str(id_), networks, linear)
    return errors


def test_without_anything_held_out_the_share_is_the_configured_one() -> None:
    assert FittedShare(0.7).value == 0.7


@pytest.mark.parametrize(("networks", "linear"), [(1.0, 1.0), (1.0, 3.0), (2.0, 0.5)])
def test_the_share_is_the_best_one(networks: float, linear: float) -> None:
    share = FittedShare(0.5)
    some = add(share, range(1000), networks, linear)
    tried = np.linspace(0, 1, 101)
    best = tried[np.argmin([np.square((1 - s) * some[0] + s * some[1]).sum() for s in tried])]
    assert share.value == pytest.approx(best, abs=0.02)


@pytest.mark.parametrize(("networks", "linear", "expected"), [(0.1, 1.0, 0.0), (1.0, 0.1, 1.0)])
def test_the_share_stays_between_none_and_all(networks: float, linear: float, expected: float) -> None:
    share = FittedShare(expected)
    common = np.random.default_rng(0).normal(size=(N_ATOMS, 3))
    share.add("0", networks * common, linear * common)
    assert share.value == expected


def test_few_structures_say_little_however_often_they_are_looked_at() -> None:
    share = FittedShare(0.7)
    for _ in range(100):
        add(share, range(1), 0.1, 1.0)
    assert 0.6 < share.value < 0.7
    add(share, range(500), 0.1, 1.0)
    assert share.value < 0.05


def test_new_errors_take_the_place_of_old_ones_and_what_is_held_out_no_longer_counts_no_longer() -> None:
    share, other = FittedShare(0.7), FittedShare(0.7)
    add(share, range(50), 9.0, 1.0)
    add(share, range(50), 0.1, 0.2, seed=1)
    add(other, range(50), 0.1, 0.2, seed=1)
    assert share.value == other.value
    add(share, range(50, 90), 0.1, 9.0)
    assert share.value != other.value
    share.keep({str(id_) for id_ in range(50)})
    assert share.value == other.value


def test_a_wrong_label_moves_it_next_to_nothing() -> None:
    share = FittedShare(0.5)
    errors = add(share, range(100), 0.1, 0.1)
    before = share.value
    for sign in (-100.0, 100.0):
        share.add("0", errors[0][0] + sign, errors[1][0] + sign)
        assert share.value == pytest.approx(before, abs=0.02)


def test_missing_labels_say_nothing() -> None:
    share, other = FittedShare(0.7), FittedShare(0.7)
    networks, linear = add(other, range(1), 1.0, 2.0)
    missing = np.full((3, 3), np.nan)
    for id_ in range(1, 300):
        share.add(str(id_), missing, missing)
    assert share.value == 0.7
    share.add("0", np.concatenate([networks[0], missing]), np.concatenate([linear[0], missing]))
    assert share.value == other.value


def learner_of(**settings: object) -> Learner:
    return Learner(
        config_of(
            potential={"dtype": "float64", "linear_features": 40, "linear_share": 0.5},
            rehearsal={"holdout_share": 0.3},
            learning={"steps_per_record": 1.0},
            **settings,
        )
    )


def test_a_learner_weighs_its_parts_by_what_it_holds_out_and_goes_on_alike_from_a_checkpoint() -> None:
    learner = learner_of(quarantine={"enabled": False})
    ticks = [
        [labelled(index, shape) for index in range(first, first + 8) for shape in (WATER, METHANE, AMMONIA)]
        for first in (0, 8, 16)
    ]
    for tick in ticks[:2]:
        learner.process_tick(tick)
    restored = Learner.restore(learner._config, learner.state_dict())
    for one in (learner, restored):
        one.process_tick(ticks[2])
    assert_equal_states(learner, restored)
    linear, held_out = learner.ensemble.linear, list(learner._memory.hold_out)
    found = []
    for share in (linear.share, 0.5):
        linear.share = share
        found.append(sum(np.square(part.forces).sum() for part in learner._residuals(held_out)))
    assert found[0] < 0.95 * found[1]


def test_nothing_is_weighed_before_anything_was_fitted() -> None:
    learner = learner_of()
    learner.process_tick([labelled(index) for index in range(40) if learner._memory.is_held_out(labelled(index))][:2])
    assert learner.ensemble.linear.share == 0.0
