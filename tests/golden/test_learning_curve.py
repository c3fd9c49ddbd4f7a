"""The learning curve of a short stream in float64: a change that should change no result leaves it as it is.

Source: our own past. Where a change is meant to change results, run this file as a module and paste what it prints.
"""

import pytest

from lmlp_stream.config import parse_config
from lmlp_stream.learning.learner import Learner
from tests.unit.learning.structures import AMMONIA, METHANE, WATER, labelled

CURVE = (
    (0.07448828851892014, 4.124958167619498),
    (0.03419874594011037, 2.18607527051416),
    (0.020396709976554173, 1.025177922549485),
    (0.019283865417580787, 0.6373982384695978),
    (0.014499733782039914, 0.36982232302408713),
    (0.09647688946569102, 0.3091458164495184),
    (0.033184737247560325, 0.20945585975240452),
    (0.027145047446062148, 0.19407363002356323),
    (0.12424365707455352, 0.7690097426756713),
)


WITH_LINEAR_PART = (0.0527017839364922, 0.3777709370655286)
"""The last of the curve with a linear part; its equations are ill-conditioned, so to fewer digits."""


def curve(linear_features: int) -> list[tuple[float, float]]:
    """Energy and force loss of every fourth step, then energy and force RMSE of the window."""
    tree = {
        "seed": 7,
        "symmetry": {"preset": "shifted", "cutoff": 4.0},
        "potential": {
            "members": 2,
            "hidden": (8, 6),
            "device": "cpu",
            "dtype": "float64",
            "linear_features": linear_features,
            "linear_share": 0.5,
        },
        "core": {
            "learning_rate": 1e-3,
            "step_sizes": (1e-6, 1e-3),
            "etas": (0.7375, 1.2),
            "betas": (0.7375, 0.8125, 250.0, 0.99),
            "weight_decay": 0.1,
            "score_history": 10,
            "frozen": 0.05,
        },
        "learning": {
            "steps_per_record": 1.5,
            "batch_size": 6,
            "fresh_share": 0.25,
            "energy_weight": 10.0,
            "force_weight": 1.0,
            "averaged_steps": 100,
            "ridge": 1e-6,
        },
        "rehearsal": {"capacity": 15, "holdout_share": 0.2},
    }
    learner = Learner(parse_config(tree, place="golden"))
    losses = []
    for shape in (WATER, METHANE, AMMONIA):
        for first in (0, 6):
            report = learner.process_tick([labelled(index, shape) for index in range(first, first + 6)])
            losses += [(step.energy_loss, step.force_loss) for step in report.steps]
    errors = learner.assess().prequential
    return [*losses[::4], (errors.energy_rmse, errors.force_rmse)]


def test_the_learning_curve_is_the_committed_one():
    for found, expected in zip(curve(0), CURVE, strict=True):
        assert found == pytest.approx(expected, rel=1e-9)


def test_a_linear_part_changes_no_step_but_the_errors_to_the_committed_ones():
    *steps, errors = curve(40)
    assert steps == curve(0)[:-1]
    assert errors == pytest.approx(WITH_LINEAR_PART, rel=1e-4)


if __name__ == "__main__":
    print(*curve(0), *curve(40)[-1:], sep=",\n")
