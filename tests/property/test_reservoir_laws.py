"""Laws of the reservoir: order and repetition do not matter, and reservoirs merge."""

from hypothesis import given
from hypothesis import strategies as st

from lmlp_stream.learning.reservoir import Reservoir
from tests.unit.learning.structures import labelled

POOL = [labelled(index) for index in range(40)]
indices = st.lists(st.integers(0, len(POOL) - 1), max_size=80)
capacities = st.integers(1, 30)


def filled(capacity: int, offered: list[int]) -> Reservoir:
    reservoir = Reservoir(capacity, "salt")
    for index in offered:
        reservoir.offer(POOL[index])
    return reservoir


def ids(reservoir: Reservoir) -> list[str]:
    return [structure.id for structure in reservoir]


@given(offered=indices, capacity=capacities, data=st.data())
def test_the_order_of_offers_does_not_matter(offered, capacity, data):
    shuffled = data.draw(st.permutations(offered))
    assert ids(filled(capacity, offered)) == ids(filled(capacity, shuffled))


@given(offered=indices, capacity=capacities)
def test_duplicates_do_not_matter(offered, capacity):
    assert ids(filled(capacity, offered + offered)) == ids(filled(capacity, list(dict.fromkeys(offered))))


@given(first=indices, second=indices, capacity=capacities)
def test_merging_equals_having_seen_both_streams(first, second, capacity):
    merged = filled(capacity, first).merged(filled(capacity, second))
    assert ids(merged) == ids(filled(capacity, first + second))
    assert ids(merged) == ids(filled(capacity, second).merged(filled(capacity, first)))


@given(offered=indices, capacity=capacities)
def test_no_more_than_the_capacity_is_kept_and_all_of_it_is_used(offered, capacity):
    assert len(filled(capacity, offered)) == min(capacity, len(set(offered)))
