"""Pairs of atoms linked with their reverse, and padded; compiled for the CPU.

Axes: A atoms, P directed pairs, N largest number of neighbors of an atom.
"""

import numpy as np
from jaxtyping import Float, Int

from lmlp_stream.atoms.compiled import compiled


@compiled
def linked(
    order: Int[np.ndarray, "P"],
    pairs: Int[np.ndarray, "P 2"],
    shifts: Int[np.ndarray, "P 3"],
    places: Int[np.ndarray, "A"],
    positions: Float[np.ndarray, "A 3"],
    cell: Float[np.ndarray, "3 3"],
) -> tuple[
    Int[np.ndarray, "A+1"],
    Int[np.ndarray, "P"],
    Int[np.ndarray, "P"],
    Float[np.ndarray, "P 3"],
    Float[np.ndarray, "P"],
    Int[np.ndarray, "P"],
]:
    """The fields of a `NeighborList`, in their order.

    Args:
        order: Of the pairs: by center, place of the neighbor, then shift.
        pairs: Each i, j.
        shifts: Of each j, in cells.
        places: Place of each atom among all, by element and index.
        positions: In Å.
        cell: In Å; zeros where it does not repeat.
    """
    n_pairs, n_atoms = len(pairs), len(places)
    starts = np.zeros(n_atoms + 1, np.int64)
    for p in range(n_pairs):
        starts[pairs[p, 0] + 1] += 1
    for i in range(n_atoms):
        starts[i + 1] += starts[i]
    centers, neighbors, reverse = np.empty((3, n_pairs), np.int64)
    vectors, distances = np.empty((n_pairs, 3)), np.empty(n_pairs)
    for at in range(n_pairs):
        p = order[at]
        i, j, shift = pairs[p, 0], pairs[p, 1], shifts[p]
        centers[at], neighbors[at] = i, j
        square = 0.0
        for component in range(3):
            offset = positions[j, component] - positions[i, component]
            for direction in range(3):
                offset += shift[direction] * cell[direction, component]
            vectors[at, component] = offset
            square += offset * offset
        distances[at] = np.sqrt(square)
        first, last = starts[j], starts[j + 1]
        while first < last:
            middle = (first + last) // 2
            other = order[middle]
            if _before(places[pairs[other, 1]], shifts[other], places[i], shift):
                first = middle + 1
            else:
                last = middle
        reverse[at] = first
    return starts, centers, neighbors, vectors, distances, reverse


@compiled
def _before(place: int, shift: Int[np.ndarray, "3"], other: int, opposite: Int[np.ndarray, "3"]) -> bool:
    """Whether a neighbor comes before another, whose shift is the opposite of the last argument."""
    if place != other:
        return place < other
    for component in range(3):
        if shift[component] != -opposite[component]:
            return bool(shift[component] < -opposite[component])
    return False


@compiled
def pad(
    starts: Int[np.ndarray, "A+1"],
    neighbor_index: Int[np.ndarray, "P"],
    reverse_index: Int[np.ndarray, "P"],
    pair_vectors: Float[np.ndarray, "P 3"],
    pair_distances: Float[np.ndarray, "P"],
    index: Int[np.ndarray, "A N"],
    reverse: Int[np.ndarray, "A 3 N"],
    units: Float[np.ndarray, "A 3 N"],
    distances: Float[np.ndarray, "A N"],
) -> None:
    """Write `neighbor_index`, `reverse`, `units` and `distances` of `Descriptors`."""
    units[:], distances[:] = 0, 0
    n_atoms, n_neighbors = index.shape
    for i in range(n_atoms):
        first = starts[i]
        count = starts[i + 1] - first
        for slot in range(n_neighbors):
            j, reverse_slot = i, slot
            if slot < count:
                j = neighbor_index[first + slot]
                reverse_slot = reverse_index[first + slot] - starts[j]
                distances[i, slot] = pair_distances[first + slot]
                for component in range(3):
                    units[i, component, slot] = pair_vectors[first + slot, component] / distances[i, slot]
            index[i, slot] = j
            for component in range(3):
                reverse[i, component, slot] = (3 * j + component) * n_neighbors + reverse_slot
