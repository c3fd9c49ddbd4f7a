"""Which structures an optimizer step learns from: some of the newest arrivals, the rest rehearsed.

Random numbers are a pure function of seed and step by the counter-based generator Philox (Salmon et al., SC'11,
doi 10.1145/2063384.2063405), so there is no state of a generator to save.
"""

from dataclasses import dataclass

import numpy as np


def step_generator(seed: int, step: int) -> np.random.Generator:
    """The random numbers of one step; equal arguments give equal numbers, others independent ones.

    The generator counts in the lowest of the counter's four words; the step is the second.
    """
    return np.random.Generator(np.random.Philox(key=seed % 2**64, counter=np.array([0, step, 0, 0], dtype=np.uint64)))


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Indices of the structures of one step, without repetition.

    Attributes:
        fresh: Places among the newest arrivals.
        rehearsed: Places in the reservoir, none of a structure that is also in `fresh`.
    """

    fresh: tuple[int, ...]
    rehearsed: tuple[int, ...]


def draw(
    random: np.random.Generator, places: list[int | None], n_remembered: int, *, batch_size: int, fresh_share: float
) -> MicroBatch:
    """A micro-batch drawn uniformly without replacement from newest arrivals and reservoir.

    Args:
        random: Source of the draw.
        places: Place of each newest arrival in the reservoir, None where it was not kept.
        n_remembered: Structures in the reservoir.
        batch_size: Structures wanted; fewer come where fewer exist.
        fresh_share: Share of the batch taken from the newest arrivals; more where the reservoir has too few others.
    """
    n_others = n_remembered - sum(place is not None for place in places)
    n_fresh = min(len(places), max(round(fresh_share * batch_size), batch_size - n_others))
    fresh = random.choice(len(places), n_fresh, replace=False) if n_fresh else np.empty(0, dtype=np.int64)
    taken = {places[index] for index in fresh}
    free = n_remembered - len(taken - {None})
    n_rehearsed = min(batch_size - n_fresh, free)
    candidates = random.choice(n_remembered, n_rehearsed + n_remembered - free, replace=False) if n_rehearsed else ()
    rehearsed = [int(index) for index in candidates if index not in taken][:n_rehearsed]
    return MicroBatch(tuple(int(index) for index in fresh), tuple(rehearsed))
