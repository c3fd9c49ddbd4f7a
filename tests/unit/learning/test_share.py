"""The share of the linear part against the minimum found by trying."""

import numpy as np
import pytest

from lmlp_stream.learning.learner import Learner
from lmlp_stream.learning.share import FittedShare
from tests.unit.learning.structures import AMMONIA, METHANE, WATER, labelled
from tests.unit.learning.test_learner import assert_equal_states, config_of


def errors(n: int, *sizes: float, seed: int = 0) -> list[np.ndarray]:
    """Errors of these standard deviations; those of networks and linear part are independent."""
    random = np.random.default_rng(seed)
    return [random.normal(scale=size, size=(n, 3)) for size in sizes]


def test_without_anything_held_out_the_share_is_the_configured_one() -> None:
    assert FittedShare(0.7).value == 0.7


@pytest.mark.parametrize(("networks", "linear"), [(1.0, 1.0), (1.0, 3.0), (2.0, 0.5)])
def test_the_share_is_the_best_one(networks: float, linear: float) -> None:
    share, some = FittedShare(0.5), errors(20_000, networks, linear)
    for portion in range(200):
        share.add(*(part[100 * portion : 100 * (portion + 1)] for part in some), n_structures=10)
    tried = np.linspace(0, 1, 101)
    best = tried[np.argmin([np.square((1 - s) * some[0] + s * some[1]).sum() for s in tried])]
    assert share.value == pytest.approx(best, abs=0.05)


@pytest.mark.parametrize(("networks", "linear", "expected"), [(0.1, 1.0, 0.0), (1.0, 0.1, 1.0)])
def test_the_share_stays_between_none_and_all(networks: float, linear: float, expected: float) -> None:
    share, (common,) = FittedShare(expected), errors(1000, 1.0)
    share.add(networks * common, linear * common, n_structures=1000)
    assert share.value == expected


def test_few_structures_say_little_and_old_ones_are_forgotten() -> None:
    share = FittedShare(0.7)
    share.add(*errors(10, 0.1, 1.0), n_structures=1)
    assert 0.6 < share.value < 0.7
    share.add(*errors(5000, 0.1, 1.0), n_structures=500)
    assert share.value < 0.05
    share.add(*errors(10_000, 1.0, 0.1), n_structures=1000)
    assert share.value > 0.9


def test_missing_labels_say_nothing() -> None:
    share, other = FittedShare(0.7), FittedShare(0.7)
    networks, linear = errors(50, 1.0, 2.0)
    missing = np.full((10, 3), np.nan)
    share.add(networks, linear, n_structures=5)
    other.add(np.concatenate([networks, missing]), np.concatenate([linear, missing]), n_structures=5)
    assert other.value == share.value
    nothing = FittedShare(0.7)
    nothing.add(missing, missing, n_structures=1)
    assert nothing.value == 0.7


def test_a_learner_weighs_its_parts_by_what_it_holds_out_and_goes_on_alike_from_a_checkpoint() -> None:
    config = config_of(
        potential={"dtype": "float64", "linear_features": 40, "linear_share": 0.5},
        rehearsal={"holdout_share": 0.3},
        learning={"steps_per_record": 1.0},
        quarantine={"enabled": False},
    )
    learner = Learner(config)
    ticks = [
        [labelled(index, shape) for index in range(first, first + 8) for shape in (WATER, METHANE, AMMONIA)]
        for first in (0, 8, 16)
    ]
    for tick in ticks[:2]:
        learner.process_tick(tick)
    restored = Learner.restore(config, learner.state_dict())
    for one in (learner, restored):
        one.process_tick(ticks[2])
    assert_equal_states(learner, restored)
    linear, held_out = learner.ensemble.linear, list(learner._memory.hold_out)
    found = []
    for share in (linear.share, 0.5):
        linear.share = share
        found.append(sum(np.square(part.forces).sum() for part in learner._residuals(held_out)))
    assert found[0] < 0.95 * found[1]
