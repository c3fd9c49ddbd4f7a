"""Rehearsal memory by lot: a uniform sample of the stream without random state.

The lot of a structure is a keyed hash of its id, and the `capacity` lowest lots are kept (bottom-k sampling: Cohen &
Kaplan, PODC 2007, doi 10.1145/1281100.1281133). So the content depends on the set of ids that were offered, never on
their order or on repetitions, and two reservoirs merge into that of both streams.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b

import numpy as np

from lmlp_stream.atoms.structure import LabelledStructure

N_LOTS = 2**64
"""Lots are integers below this."""


def lot(salt: str, text: str) -> int:
    """A number below 2⁶⁴ drawn from `text` by BLAKE2b keyed with `salt` (at most 64 bytes)."""
    return int.from_bytes(blake2b(text.encode(), key=salt.encode(), digest_size=8).digest(), "little")


def hold_out_salt(seed: int) -> str:
    """Key of the lots by which a learner holds groups out."""
    return f"{seed}/hold-out"


def is_held_out(structure: LabelledStructure, share: float, salt: str) -> bool:
    """Whether the lot of the structure's group falls among the held-out `share` (0..1) of all groups."""
    return lot(f"{salt}/group", structure.group_or_id) < share * N_LOTS


class Reservoir:
    """The structures of the `capacity` lowest lots among all that were offered.

    Args:
        capacity: Most structures that are kept.
        salt: Key of the lots; reservoirs that shall merge have the same.
    """

    def __init__(self, capacity: int, salt: str) -> None:
        self._capacity = capacity
        self._salt = salt
        self._order: list[tuple[int, str]] = []
        self._kept: dict[str, LabelledStructure] = {}

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[LabelledStructure]:
        """Structures from the lowest lot to the highest: an order that does not depend on that of the offers."""
        return (self._kept[id_] for _, id_ in self._order)

    def __getitem__(self, index: int) -> LabelledStructure:
        return self._kept[self._order[index][1]]

    def index(self, id_: str) -> int | None:
        """Place of the structure in the order of lots, or None where it is not kept."""
        if id_ not in self._kept:
            return None
        return bisect_left(self._order, (lot(self._salt, id_), id_))

    def offer(self, structure: LabelledStructure) -> LabelledStructure | None:
        """The structure that is not kept because of this offer: the one pushed out, the offered one itself, or None.

        An id that is kept already changes nothing.
        """
        if structure.id in self._kept:
            return None
        insort(self._order, (lot(self._salt, structure.id), structure.id))
        self._kept[structure.id] = structure
        if len(self._order) <= self._capacity:
            return None
        _, pushed_out = self._order.pop()
        return self._kept.pop(pushed_out)

    def discard(self, id_: str) -> LabelledStructure | None:
        """Forget a structure; the one that was kept under this id, if any."""
        place = self.index(id_)
        if place is None:
            return None
        del self._order[place]
        return self._kept.pop(id_)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Nothing: what is kept, and its order, follow from the structures."""
        return {}

    def load(self, structures: Iterable[LabelledStructure], _state: Mapping[str, np.ndarray]) -> None:
        """Take over what another one kept; this one must be empty."""
        for structure in structures:
            self.offer(structure)

    def merged(self, others: Iterable[LabelledStructure]) -> "Reservoir":
        """The reservoir of both streams; `others` is a reservoir of the same capacity and salt."""
        result = Reservoir(self._capacity, self._salt)
        for structure in (*self, *others):
            result.offer(structure)
        return result
