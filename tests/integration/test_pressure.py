"""A short run of `python -m tests.pressure`: a burst waits in the log, and the learner's memory is flat."""

from pathlib import Path

import pytest

from tests.pressure.run import press

N_LABELS = 10_000


@pytest.mark.slow
def test_memory_is_flat_while_a_backlog_is_worked_off(tmp_path: Path) -> None:
    outcome = press(N_LABELS, tmp_path, remembered_ids=2000, warm=0.2)
    assert outcome.n_read == N_LABELS
    assert 0.95 < outcome.lowest <= outcome.highest < 1.05
