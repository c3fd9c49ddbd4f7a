"""Pairs of atoms put in order, linked with their reverse and padded; compiled for the CPU.

Axes: A atoms, P directed pairs, N largest number of neighbors of an atom.
"""

import numpy as np
from jaxtyping import Float, Int

from lmlp_stream.atoms.compiled import compiled


@compiled
def linked(
    pairs: Int[np.ndarray, "P 2"],
    shifts: Int[np.ndarray, "P 3"],
    places: Int[np.ndarray, "A"],
    positions: Float[np.ndarray, "A 3"],
    cell: Float[np.ndarray, "3 3"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The fields of a `NeighborList`, from pairs in any order.

    Args:
        pairs: Each i, j.
        shifts: Of each j, in cells.
        places: Of the atoms, by which neighbors are sorted.
        positions: In Å.
        cell: In Å.
    """
    n_pairs, n_atoms = len(pairs), len(places)
    starts = np.zeros(n_atoms + 1, np.int64)
    reach = 0
    for p in range(n_pairs):
        starts[pairs[p, 0] + 1] += 1
        for component in range(3):
            reach = max(reach, abs(shifts[p, component]))
    for i in range(n_atoms):
        starts[i + 1] += starts[i]
    order, keys = _sorted(pairs, shifts, places, starts, reach)
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
        opposite = _key(places[i], shift, -1, reach)
        reverse[at] = starts[j] + np.searchsorted(keys[starts[j] : starts[j + 1]], opposite)
    return starts, centers, neighbors, vectors, distances, reverse


@compiled
def _sorted(
    pairs: Int[np.ndarray, "P 2"],
    shifts: Int[np.ndarray, "P 3"],
    places: Int[np.ndarray, "A"],
    starts: Int[np.ndarray, "A+1"],
    reach: int,
) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
    """The order of the pairs, and what those of one center are ordered by; by insertion, for atoms have few."""
    order, keys = np.empty(len(pairs), np.int64), np.empty(len(pairs), np.int64)
    ends = starts[:-1].copy()
    for p in range(len(pairs)):
        i, key = pairs[p, 0], _key(places[pairs[p, 1]], shifts[p], 1, reach)
        at = ends[i]
        ends[i] += 1
        while at > starts[i] and keys[at - 1] > key:
            keys[at], order[at] = keys[at - 1], order[at - 1]
            at -= 1
        keys[at], order[at] = key, p
    return order, keys


@compiled
def _key(place: int, shift: Int[np.ndarray, "3"], sign: int, reach: int) -> int:
    """A number that orders by place, then by the shift times the sign, whose components do not exceed `reach`."""
    key = place
    for component in range(3):
        key = key * (2 * reach + 1) + sign * shift[component] + reach
    return key


@compiled
def pad(
    starts: Int[np.ndarray, "A+1"],
    neighbor_index: Int[np.ndarray, "P"],
    reverse_index: Int[np.ndarray, "P"],
    pair_vectors: Float[np.ndarray, "P 3"],
    index: Int[np.ndarray, "A N"],
    reverse: Int[np.ndarray, "A 3 N"],
    vectors: Float[np.ndarray, "A N 3"],
) -> None:
    """Write `neighbor_index`, `reverse` and `vectors` of `Descriptors`."""
    n_atoms, n_neighbors = index.shape
    for i in range(n_atoms):
        first = starts[i]
        count = starts[i + 1] - first
        for slot in range(n_neighbors):
            j, reverse_slot = i, slot
            if slot < count:
                j = neighbor_index[first + slot]
                reverse_slot = reverse_index[first + slot] - starts[j]
            index[i, slot] = j
            for component in range(3):
                reverse[i, component, slot] = (3 * j + component) * n_neighbors + reverse_slot
                vectors[i, slot, component] = pair_vectors[first + slot, component] if slot < count else 0.0
