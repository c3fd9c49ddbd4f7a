"""Micro-batches of fresh and rehearsed structures."""

import numpy as np

from lmlp_stream.learning.selection import draw, step_generator


def batch(counter: int, places: list[int | None], n_remembered: int, batch_size: int = 8, fresh_share: float = 0.25):
    random = step_generator(3, counter)
    return draw(random, places, n_remembered, batch_size=batch_size, fresh_share=fresh_share)


def test_equal_seed_and_step_draw_the_same_batch():
    assert batch(5, [0, 4, None], 50) == batch(5, [0, 4, None], 50)
    assert batch(5, [0, 4, None], 50) != batch(6, [0, 4, None], 50)


def test_numbers_of_one_step_do_not_reappear_in_the_next():
    seen: set[float] = set()
    for counter in range(50):
        numbers = set(step_generator(0, counter).random(16).tolist())
        assert not numbers & seen
        seen |= numbers


def test_the_share_of_fresh_structures_is_kept():
    drawn = batch(1, [None] * 10, 100)
    assert len(drawn.fresh) == 2
    assert len(drawn.rehearsed) == 6


def test_no_structure_is_drawn_twice_even_where_it_is_fresh_and_remembered():
    for counter in range(200):
        drawn = batch(counter, [0, 1, 2, 3, None], 9)
        places = [index for index in drawn.fresh if index < 4] + list(drawn.rehearsed)
        assert len(places) == len(set(places))
        assert len(set(drawn.fresh)) == len(drawn.fresh)
        assert len(drawn.fresh) + len(drawn.rehearsed) == 8


def test_a_short_memory_is_filled_up_with_fresh_structures():
    drawn = batch(1, [0, 1, 2, 3, 4, 5], 6)
    assert len(drawn.fresh) == 6
    assert drawn.rehearsed == ()


def test_without_arrivals_everything_is_rehearsed():
    drawn = batch(1, [], 20)
    assert drawn.fresh == ()
    assert len(drawn.rehearsed) == 8


def test_every_remembered_structure_is_rehearsed_equally_often():
    counts = np.zeros(20)
    for counter in range(2000):
        counts[list(batch(counter, [None] * 4, 20, batch_size=6, fresh_share=0.5).rehearsed)] += 1
    assert np.abs(counts / 2000 - 3 / 20).max() < 0.03
