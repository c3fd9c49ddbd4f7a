"""Which learner is ambushed where: every failpoint has its turn, one of each kind before the second of any."""

from collections import deque
from collections.abc import Sequence
from itertools import zip_longest
from random import Random

from tests.chaos.failpoints import KINDS
from tests.chaos.nursery import Ambush

AMBUSH_SHARE = 0.8
"""Of kills; the others come at any time."""
DEEPEST = 2
"""Passages of a point that one life is likely to make."""
TRIES = 3


class Ambushes:
    """Failpoints in their turn.

    Args:
        random: Shuffles the points of each kind.
        points: Those that this log has.
    """

    def __init__(self, random: Random, points: Sequence[str]) -> None:
        self._random = random
        kinds = [random.sample(fitting, len(fitting)) for fitting in _by_kind(points)]
        self._due = deque(point for turn in zip_longest(*kinds) for point in turn if point is not None)
        self._n_missed = 0

    def next(self) -> Ambush:
        """The next ambush; at the first passage of a point that was just missed."""
        return Ambush(self._due[0], 1 if self._n_missed else self._random.randint(1, DEEPEST))

    def happened(self, *, reached: bool) -> None:
        """A point that was not reached has its turn again, unless it was tried often."""
        self._n_missed = 0 if reached else (self._n_missed + 1) % TRIES
        if not self._n_missed:
            self._due.rotate(-1)


def _by_kind(points: Sequence[str]) -> list[list[str]]:
    return [[point for point in kind if point in points] for kind in KINDS.values()]
