import pytest

from tests.bench.divergence import measure


@pytest.mark.parametrize("n_guilty", [1, 16])
def test_exactly_the_guilty_are_found_and_the_time_is_told(n_guilty: int):
    figures = measure(n_guilty, repeats=1, members=1)
    assert figures["guilty"] == n_guilty
    assert 0.0 < figures["found_s"] == figures["longest_s"]
