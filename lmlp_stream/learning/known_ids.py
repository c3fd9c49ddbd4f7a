"""The newest ids, so that a label that arrives twice is learned once."""

from array import array
from collections.abc import Iterable

import numpy as np

from lmlp_stream.learning.reservoir import lot

_SLOTS_PER_ID = 2


class KnownIds:
    """A ring of 64-bit hashes of the newest ids, with a table to find them in; neither grows with the stream.

    The table has open addressing with linear probing; a hash that leaves is closed over by those behind it (Knuth,
    The Art of Computer Programming 3, 6.4, algorithm R), so lookups stay short for ever.

    Two of n ids share a hash with probability n²/2⁶⁵: 10⁻⁹ for 200,000.

    Args:
        capacity: How many ids are known before the oldest is forgotten.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._mask = (1 << (_SLOTS_PER_ID * capacity - 1).bit_length()) - 1
        self._clear()

    def add(self, id_: str) -> bool:
        """Whether the id was new; it is known from now on."""
        return self._add(_hashed(id_))

    def __contains__(self, id_: str) -> bool:
        return bool(self._table[self._slot(_hashed(id_))])

    def to_array(self) -> np.ndarray:
        """The hashes from the oldest to the newest, uint64."""
        return np.roll(np.array(self._ring, dtype=np.uint64), -self._oldest)

    def load(self, hashes: Iterable[int]) -> None:
        """Know the hashes `to_array` gave and nothing else."""
        self._clear()
        for hashed in hashes:
            self._add(int(hashed))

    def _clear(self) -> None:
        self._ring = array("Q")
        self._oldest = 0
        self._table = array("Q", bytes(8 * (self._mask + 1)))

    def _add(self, hashed: int) -> bool:
        slot = self._slot(hashed)
        if self._table[slot]:
            return False
        if len(self._ring) < self._capacity:
            self._ring.append(hashed)
        else:
            self._remove(self._slot(self._ring[self._oldest]))
            self._ring[self._oldest] = hashed
            self._oldest = (self._oldest + 1) % self._capacity
            slot = self._slot(hashed)
        self._table[slot] = hashed
        return True

    def _slot(self, hashed: int) -> int:
        """Where the hash stands in the table, or the empty slot where it would."""
        slot = hashed & self._mask
        while self._table[slot] not in (0, hashed):
            slot = (slot + 1) & self._mask
        return slot

    def _remove(self, hole: int) -> None:
        """Empty a slot, and move hashes behind it that could not be found any more."""
        slot = hole
        while True:
            slot = (slot + 1) & self._mask
            hashed = self._table[slot]
            if not hashed:
                break
            home = hashed & self._mask
            if (slot - home) & self._mask >= (slot - hole) & self._mask:
                self._table[hole] = hashed
                hole = slot
        self._table[hole] = 0


def _hashed(id_: str) -> int:
    """A hash that is never 0, which is an empty slot."""
    return lot("known", id_) or 1
