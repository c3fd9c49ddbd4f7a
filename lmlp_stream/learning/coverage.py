"""Rehearsal memory by coverage: of the structures that are most alike, one is forgotten.

A structure is described by a sketch: the symmetry functions of its atoms, added up for each element, projected on a
few random directions (Johnson & Lindenstrauss 1984; the distance of two sketches estimates that of the sums), over the
root of the number of atoms, so that thermal motion moves small and large structures alike. Where the memory is full,
one of the two closest structures goes: the one that has the nearer other neighbor. So what is rare stays, and what
comes again and again takes no more room (our own rule, in the spirit of farthest-point sampling).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

import numpy as np
from jaxtyping import Float

from lmlp_stream.atoms.batch import Example
from lmlp_stream.atoms.elements import N_ATOMIC_NUMBERS
from lmlp_stream.atoms.structure import LabelledStructure

SKETCH = 64
"""Directions of a sketch: distances are estimated within an eighth."""

Sketch = Float[np.ndarray, "64"]


def sketch(example: Example) -> Sketch:
    """Σ_a R(Z_a) G_a / √A over the A atoms of a structure, with a fixed random matrix R for each element; float32.

    Each head has matrices of its own: labels of one level of theory do not stand for those of another.
    """
    values = example.descriptors.values.double().cpu().numpy()
    numbers = example.structure.atomic_numbers
    total = np.zeros(SKETCH)
    for z in np.unique(numbers):
        total += values[numbers == z].sum(axis=0) @ _directions(int(z), example.head, values.shape[1])
    described: Sketch = (total / np.sqrt(len(numbers))).astype(np.float32)
    return described


@cache
def _directions(z: int, head: int, n_functions: int) -> Float[np.ndarray, "D 64"]:
    random = np.random.Generator(np.random.Philox(key=z + N_ATOMIC_NUMBERS * head))
    directions: np.ndarray = random.standard_normal((n_functions, SKETCH)) / np.sqrt(SKETCH)
    return directions


class Coverage:
    """The structures that cover what was offered best.

    Args:
        capacity: Most structures that are kept.
        prepare: Gives a structure its symmetry functions.
    """

    def __init__(self, capacity: int, prepare: Callable[[LabelledStructure], Example]) -> None:
        self._capacity = capacity
        self._prepare = prepare
        self._kept: list[LabelledStructure] = []
        self._places: dict[str, int] = {}
        self._sketches = np.zeros((0, SKETCH), dtype=np.float32)
        self._nearest = np.zeros(0, dtype=np.int64)
        self._distance = np.zeros(0)

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[LabelledStructure]:
        """Structures in the order of their places."""
        return iter(self._kept)

    def __getitem__(self, index: int) -> LabelledStructure:
        return self._kept[index]

    def index(self, id_: str) -> int | None:
        """Place of the structure, or None where it is not kept."""
        return self._places.get(id_)

    def offer(self, structure: LabelledStructure) -> LabelledStructure | None:
        """The structure that is not kept because of this offer: one that was kept, the offered one itself, or None.

        An id that is kept already changes nothing.
        """
        if structure.id in self._places:
            return None
        if not self._capacity:
            return structure
        self._append(structure, sketch(self._prepare(structure)))
        return self._remove(self._redundant()) if len(self) > self._capacity else None

    def discard(self, id_: str) -> LabelledStructure | None:
        """Forget a structure; the one that was kept under this id, if any."""
        place = self._places.get(id_)
        return None if place is None else self._remove(place)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything that `load` needs besides the structures."""
        n = len(self)
        return {
            "sketches": self._sketches[:n].copy(),
            "nearest": self._nearest[:n].copy(),
            "distance": self._distance[:n].copy(),
        }

    def load(self, structures: Sequence[LabelledStructure], state: Mapping[str, np.ndarray]) -> None:
        """Take over what another one kept, in its order; this one must be empty."""
        self._kept = list(structures)
        self._places = {structure.id: place for place, structure in enumerate(structures)}
        self._sketches = state["sketches"].copy()
        self._nearest = state["nearest"].copy()
        self._distance = state["distance"].copy()

    def _append(self, structure: LabelledStructure, its_sketch: Sketch) -> None:
        place = len(self)
        if place == len(self._sketches):
            self._grow(max(64, 2 * place))
        self._kept.append(structure)
        self._places[structure.id] = place
        self._sketches[place] = its_sketch
        distances = self._distances(place)
        closer = distances < self._distance[: place + 1]
        closer[place] = False
        self._nearest[: place + 1][closer] = place
        self._distance[: place + 1][closer] = distances[closer]
        self._set_nearest(place, distances)

    def _redundant(self) -> int:
        """Place of the structure to forget."""
        one = int(self._distance[: len(self)].argmin())
        other = int(self._nearest[one])
        return one if self._to_others(one, other) <= self._to_others(other, one) else other

    def _to_others(self, place: int, but: int) -> float:
        distances = self._distances(place)
        distances[but] = np.inf
        return float(distances.min())

    def _remove(self, place: int) -> LabelledStructure:
        """Take a structure out; the last one moves to its place."""
        removed, last = self._kept[place], len(self) - 1
        orphans = self._nearest[: last + 1] == place
        moved = self._kept.pop()
        del self._places[removed.id]
        if place != last:
            self._kept[place] = moved
            self._places[moved.id] = place
            for array in (self._sketches, self._nearest, self._distance, orphans):
                array[place] = array[last]
        self._nearest[:last][self._nearest[:last] == last] = place
        for orphan in np.flatnonzero(orphans[:last]):
            self._set_nearest(int(orphan), self._distances(int(orphan)))
        return removed

    def _set_nearest(self, place: int, distances: Float[np.ndarray, "n"]) -> None:
        nearest = int(distances.argmin())
        self._nearest[place], self._distance[place] = nearest, distances[nearest]

    def _distances(self, place: int) -> Float[np.ndarray, "n"]:
        """Squared distances of a structure to all, infinite to itself."""
        difference = self._sketches[: len(self)] - self._sketches[place]
        distances: np.ndarray = np.einsum("ij,ij->i", difference, difference).astype(np.float64)
        distances[place] = np.inf
        return distances

    def _grow(self, size: int) -> None:
        n = len(self._sketches)
        self._sketches = np.concatenate([self._sketches, np.zeros((size - n, SKETCH), dtype=np.float32)])
        self._nearest = np.concatenate([self._nearest, np.zeros(size - n, dtype=np.int64)])
        self._distance = np.concatenate([self._distance, np.full(size - n, np.inf)])
