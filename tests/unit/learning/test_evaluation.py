"""Errors, windows, calibration and the admission rule."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lmlp_stream.config import EvaluationConfig
from lmlp_stream.learning.admission import withheld
from lmlp_stream.learning.evaluation import (
    ERROR_ROW,
    Calibration,
    Errors,
    EvaluationReport,
    HeldError,
    Parts,
    Withheld,
    calibration,
    error_rows,
    summary,
)
from lmlp_stream.learning.residuals import Residuals
from lmlp_stream.potential.ensemble import Prediction
from lmlp_stream.potential.uncertainty import Intervals, Level
from tests.unit.learning.structures import METHANE, WATER, labelled
from tests.unit.learning.test_loss import batch_of

NO_INTERVALS = Intervals()


def prediction(batch, energy_errors, force_errors):
    """Members that are off by the given amounts."""
    energies = torch.stack([batch.energy + error for error in energy_errors])
    forces = torch.stack([batch.forces + error for error in force_errors])
    return Prediction(energies, forces, torch.full((len(energies), batch.n_structures, 3, 3), torch.nan))


def examined(predicted, batch, intervals=NO_INTERVALS):
    """Error rows of a prediction."""
    found = Residuals.of(predicted, batch)
    return error_rows(found, found.widths(intervals))


def rows(*force_squared: float) -> np.ndarray:
    result = np.zeros(len(force_squared), dtype=ERROR_ROW)
    result["force_squared"], result["n_forces"] = force_squared, 9
    return result


def test_errors_are_those_of_the_ensemble_mean():
    batch = batch_of(labelled(0, WATER), labelled(0, METHANE))
    found = examined(prediction(batch, [0.6, 0.0], [0.1, 0.3]), batch)
    np.testing.assert_allclose(found["energy_error"], [0.1, 0.06])
    np.testing.assert_allclose(found["force_squared"], [9 * 0.04, 15 * 0.04])
    np.testing.assert_allclose(found["n_forces"], [9, 15])
    errors = summary(found)
    assert errors.n_structures == 2
    assert errors.force_rmse == pytest.approx(0.2)
    assert errors.force_mae == pytest.approx(0.2)
    assert errors.energy_mae == pytest.approx(0.08)
    assert errors.energy_rmse == pytest.approx(np.sqrt((0.1**2 + 0.06**2) / 2))


def test_a_missing_label_takes_no_part_in_errors():
    forces = labelled(0, WATER).forces.copy()
    forces[1] = np.nan
    batch = batch_of(labelled(0, WATER, forces=forces), labelled(1, WATER, energy=float("nan")))
    errors = summary(examined(prediction(batch, [0.3, 0.3], [0.1, 0.1]), batch))
    assert errors.energy_rmse == pytest.approx(0.1)
    assert errors.force_rmse == pytest.approx(0.1)


def test_nothing_examined_is_nothing_known():
    assert summary(np.zeros(0, dtype=ERROR_ROW)).named() == {"n_structures": 0.0}
    assert calibration(np.zeros(0, dtype=ERROR_ROW)).named() == {}


def test_one_member_says_nothing_of_its_calibration():
    batch = batch_of(labelled(0, WATER))
    found = calibration(examined(prediction(batch, [0.3], [0.1]), batch)).named()
    assert "raw_coverage_90_energy" not in found
    assert "force_rmse_per_disagreement" not in found


def test_members_as_wrong_as_they_disagree_are_calibrated():
    random = np.random.default_rng(0)
    batch = batch_of(*(labelled(index, WATER) for index in range(400)))
    truth = torch.from_numpy(random.normal(size=400))
    truth_forces = torch.from_numpy(random.normal(size=(1200, 3)))
    members = [torch.from_numpy(random.normal(size=400)) - truth for _ in range(40)]
    member_forces = [torch.from_numpy(random.normal(size=(1200, 3))) - truth_forces for _ in range(40)]
    found = calibration(examined(prediction(batch, members, member_forces), batch))
    assert found.energy_ratio == pytest.approx(1.0, abs=0.08)
    assert found.force_ratio == pytest.approx(1.0, abs=0.05)
    assert found.raw_energy_coverage_90 == pytest.approx(0.9, abs=0.04)
    assert found.raw_force_coverage_90 == pytest.approx(0.9, abs=0.02)


def test_labels_are_inside_calibrated_intervals_by_quantity_and_element():
    batch = batch_of(labelled(0, WATER), labelled(0, METHANE))
    intervals = Intervals(Level(0.25, 0.3), Level(0.5, 1.0), {1: Level(0.1, 1.0)})
    found = examined(prediction(batch, [0.6, 0.0], [0.1, 0.3]), batch, intervals)
    np.testing.assert_array_equal(found["energy_inside"], [0.0, 1.0])
    np.testing.assert_array_equal(found["n_forces_inside"], [9.0, 15.0])
    narrow = replace(intervals, forces=Level(0.0, 0.1))
    np.testing.assert_array_equal(
        examined(prediction(batch, [0.6, 0.0], [0.1, 0.3]), batch, narrow)["n_forces_inside"], [6.0, 12.0]
    )


def test_without_intervals_no_coverage_is_claimed():
    batch = batch_of(labelled(0, WATER))
    found = calibration(examined(prediction(batch, [0.3, 0.1], [0.1, 0.2]), batch)).named()
    assert "coverage_90_energy" not in found
    assert "raw_coverage_90_energy" in found


def reasons(held, announced, *, labels=100, finite=True):
    config = EvaluationConfig(min_labels=10, max_regression=1.5)
    return withheld(config, labels_learned=labels, finite=finite, held=held, announced=announced)


def test_a_snapshot_waits_for_labels_and_finite_weights():
    assert reasons({}, {}, labels=9) == (Withheld.FEW_LABELS,)
    assert reasons({}, {}, finite=False) == (Withheld.NOT_FINITE,)
    assert reasons({"a": HeldError(float("nan"), 9)}, {"a": HeldError(1.0, 9)}) == (Withheld.NOT_FINITE,)
    assert reasons({}, {}) == ()


def test_a_worse_error_on_the_same_structures_withholds_a_snapshot():
    then = {"a": HeldError(1.0, 9), "b": HeldError(1.0, 9)}
    assert reasons({"a": HeldError(2.2, 9), "b": HeldError(2.2, 9)}, then) == ()
    assert reasons({"a": HeldError(2.3, 9), "b": HeldError(2.3, 9)}, then) == (Withheld.REGRESSION,)


def test_new_and_harder_chemistry_never_withholds_a_snapshot():
    assert reasons({"a": HeldError(1.0, 9), "new": HeldError(1e4, 9)}, {"a": HeldError(1.0, 9)}) == ()


@pytest.mark.parametrize(("n_held_out", "expected"), [(9, 0.1), (10, 0.2)])
def test_a_snapshot_reports_the_hold_out_once_it_is_large_enough(n_held_out, expected):
    report = EvaluationReport(
        labels_learned=1,
        n_steps=1,
        prequential=Errors(200, force_rmse=0.1),
        newest=Parts(),
        retention=Errors(n_held_out, force_rmse=0.2),
        kept=Parts(),
        calibration=Calibration(),
        intervals=Intervals(),
        held={},
        reasons=(),
    )
    assert report.errors.force_rmse == expected
