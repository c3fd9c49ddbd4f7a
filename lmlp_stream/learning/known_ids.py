"""The newest ids, so that a label that arrives twice is learned once."""

from collections import deque
from collections.abc import Iterable

import numpy as np

from lmlp_stream.learning.reservoir import lot


class KnownIds:
    """A ring of 64-bit hashes of the newest ids.

    Two of n ids share a hash with probability n²/2⁶⁵: 10⁻⁹ for 200,000.

    Args:
        capacity: How many ids are known before the oldest is forgotten.
    """

    def __init__(self, capacity: int) -> None:
        self._ring: deque[int] = deque()
        self._members: set[int] = set()
        self._capacity = capacity

    def add(self, id_: str) -> bool:
        """Whether the id was new; it is known from now on."""
        hashed = lot("known", id_)
        if hashed in self._members:
            return False
        if len(self._ring) == self._capacity:
            self._members.discard(self._ring.popleft())
        self._ring.append(hashed)
        self._members.add(hashed)
        return True

    def to_array(self) -> np.ndarray:
        """The hashes from the oldest to the newest, uint64."""
        return np.fromiter(self._ring, dtype=np.uint64, count=len(self._ring))

    def load(self, hashes: Iterable[int]) -> None:
        """Know the hashes `to_array` gave and nothing else."""
        self._ring = deque(int(hashed) for hashed in hashes)
        self._members = set(self._ring)
