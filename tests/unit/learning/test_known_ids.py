"""Known ids: what arrives twice among the newest is recognised, and nothing grows."""

from random import Random

import numpy as np
import pytest

from lmlp_stream.learning.known_ids import KnownIds


@pytest.mark.parametrize("capacity", [1, 2, 3, 7, 16, 100])
def test_the_newest_ids_are_known_and_no_others(capacity: int) -> None:
    random = Random(capacity)
    known, newest = KnownIds(capacity), []
    for _ in range(40 * capacity + 100):
        id_ = f"id {random.randrange(3 * capacity)}"
        assert known.add(id_) == (id_ not in newest)
        if id_ not in newest:
            newest = [*newest, id_][-capacity:]
    assert len(known.to_array()) == len(newest)


def test_what_was_saved_is_known_and_goes_on_alike() -> None:
    known = KnownIds(50)
    for number in range(130):
        known.add(f"id {number}")
    restored = KnownIds(50)
    restored.load(known.to_array())
    np.testing.assert_array_equal(restored.to_array(), known.to_array())
    assert restored.to_array().dtype == np.uint64
    for number in range(100, 200):
        assert restored.add(f"id {number}") == known.add(f"id {number}")
    np.testing.assert_array_equal(restored.to_array(), known.to_array())


def test_a_smaller_memory_keeps_the_newest_of_what_was_saved() -> None:
    known = KnownIds(50)
    for number in range(50):
        known.add(f"id {number}")
    smaller = KnownIds(10)
    smaller.load(known.to_array())
    np.testing.assert_array_equal(smaller.to_array(), known.to_array()[-10:])
