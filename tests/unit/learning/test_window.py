"""The window of the newest structures and its errors by domain, source and element."""

import numpy as np
import pytest

from lmlp_stream.learning.evaluation import ERROR_ROW, error_rows, joined
from lmlp_stream.learning.residuals import Residuals
from lmlp_stream.learning.window import Window, element_rows
from tests.unit.learning.structures import METHANE, WATER, labelled
from tests.unit.learning.test_evaluation import prediction
from tests.unit.learning.test_loss import batch_of


def off(structures, error):
    """Residuals of predictions that are off by the same amount everywhere."""
    batch = batch_of(*structures)
    return Residuals.of(prediction(batch, [error], [error]), batch)


def enter(window, batches, but=()):
    """Batches (structures, error) enter the window, but some structures."""
    structures = [structure for some, _ in batches for structure in some]
    found = [off(some, error) for some, error in batches]
    chosen = np.array([structure not in but for structure in structures], dtype=bool)
    rows = joined(error_rows(some) for some in found)
    window.append(rows[chosen], element_rows(found, chosen), [s for s in structures if s not in but])


def test_the_newest_stay_with_their_names_and_elements():
    window = Window(3)
    enter(window, [([labelled(0, METHANE), labelled(0, WATER, source="a")], 0.4)])
    enter(window, [([labelled(1, WATER, source="b"), labelled(2, WATER, source="a")], 0.2)])
    parts = window.parts()
    assert len(window.rows) == 3
    assert {name: errors.n_structures for name, errors in parts.domains.items()} == {str(WATER): 3}
    assert {name: errors.n_structures for name, errors in parts.sources.items()} == {"a": 2, "b": 1}
    assert {z: errors.n_structures for z, errors in parts.elements.items()} == {1: 3, 8: 3}
    assert parts.sources["b"].force_rmse == pytest.approx(0.2)
    assert parts.elements[8].force_rmse == pytest.approx(np.sqrt((0.4**2 + 2 * 0.2**2) / 3))
    assert parts.elements[8].force_mae == pytest.approx((0.4 + 2 * 0.2) / 3)


def test_what_does_not_enter_leaves_no_trace_in_any_part():
    water, methane, other = labelled(0, WATER), labelled(0, METHANE), labelled(1, WATER)
    window, alone = Window(9), Window(9)
    enter(window, [([methane, water], 0.4), ([other], 0.2)], but=(methane,))
    enter(alone, [([water], 0.4), ([other], 0.2)])
    assert window.parts() == alone.parts()


def test_atoms_without_a_force_label_take_no_part():
    forces = labelled(0, WATER).forces.copy()
    forces[0] = np.nan
    window = Window(3)
    enter(window, [([labelled(0, WATER, forces=forces)], 0.3)])
    assert np.isnan(window.parts().elements[8].force_rmse)
    assert window.parts().elements[1].force_rmse == pytest.approx(0.3)


def test_a_restored_window_goes_on_bit_for_bit():
    window, restored = Window(3), Window(3)
    enter(window, [([labelled(0, METHANE), labelled(0, WATER, source="a")], 0.4)])
    restored.load_state_dict(window.state_dict())
    for each in (window, restored):
        enter(each, [([labelled(1, METHANE), labelled(1, WATER)], 0.1)])
    for name, array in window.state_dict().items():
        assert array.tobytes() == restored.state_dict()[name].tobytes(), name


def test_an_empty_window_is_restored_empty():
    restored = Window(3)
    restored.load_state_dict(Window(3).state_dict())
    assert restored.rows.dtype == ERROR_ROW
    assert restored.parts() == Window(3).parts()
