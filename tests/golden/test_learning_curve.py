"""The learning curve of a short stream in float64: a change that should change no result leaves it as it is.

Source: our own past. Where a change is meant to change results, run this file as a module and paste what it prints.
"""

import pytest

from lmlp_stream.config import parse_config
from lmlp_stream.learning.learner import Learner
from tests.unit.learning.structures import AMMONIA, METHANE, WATER, labelled

CURVE = (
    (0.06172876873603238, 4.171582176381655),
    (0.03744059881241504, 2.2141973988967605),
    (0.02505378051661572, 1.053851534320422),
    (0.015840636026466945, 0.5328000333652751),
    (0.02837736063128528, 0.512739401211362),
    (0.09543302181950751, 0.2973963609891612),
    (0.04553133306344872, 0.21511168848626555),
    (0.02513647196057229, 0.12526764443896002),
    (0.12241255227530455, 0.7743446347908883),
)


def curve() -> list[tuple[float, float]]:
    """Energy and force loss of every fourth step, then energy and force RMSE of the window."""
    tree = {
        "seed": 7,
        "symmetry": {"preset": "shifted", "cutoff": 4.0},
        "potential": {"members": 2, "hidden": (8, 6), "device": "cpu", "dtype": "float64"},
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
    for found, expected in zip(curve(), CURVE, strict=True):
        assert found == pytest.approx(expected, rel=1e-9)


if __name__ == "__main__":
    print(*curve(), sep=",\n")
