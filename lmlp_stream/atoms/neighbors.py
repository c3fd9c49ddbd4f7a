"""Which atoms see each other: the neighbor list, under any periodic boundary conditions."""

from dataclasses import dataclass
from math import inf

import numpy as np
import vesin
from jaxtyping import Float, Int

from lmlp_stream.atoms.structure import Structure
from lmlp_stream.errors import UsageError

SMALLEST_VOLUME = 1e-3
"""Volume in Å³ (area in Å², length in Å) of a cell below which the search for neighbors would not end."""

SMALLEST_DISTANCE = 1e-12
"""Distance in Å below which two atoms lie on each other: rounding in a periodic cell leaves about as much."""


@dataclass(frozen=True, slots=True, eq=False)
class NeighborList:
    """Directed pairs i -> j within the cutoff, sorted by center, then element and index of the neighbor, then image.

    Attributes:
        center_index: Index i of each pair.
        neighbor_index: Index j of each pair; j may be i where a cell is thinner than the cutoff.
        vectors: r_j - r_i + shift · cell in Å, float64.
        distances: Their lengths in Å, float64.
        reverse_index: Position of the pair j -> i with the opposite shift.
        counts: Number of neighbors of each atom.
    """

    center_index: Int[np.ndarray, "P"]
    neighbor_index: Int[np.ndarray, "P"]
    vectors: Float[np.ndarray, "P 3"]
    distances: Float[np.ndarray, "P"]
    reverse_index: Int[np.ndarray, "P"]
    counts: Int[np.ndarray, "A"]

    @property
    def n_neighbors(self) -> int:
        """Largest number of neighbors of an atom."""
        return int(self.counts.max(initial=0))

    @property
    def starts(self) -> Int[np.ndarray, "A+1"]:
        """First pair of each center, and the number of pairs at the end."""
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(self.counts)])

    @property
    def slots(self) -> Int[np.ndarray, "P"]:
        """Place of each pair among those of its center."""
        first = np.repeat(self.starts[:-1], self.counts)
        places: np.ndarray = np.arange(len(first), dtype=np.int64) - first
        return places


def neighbor_list(structure: Structure, cutoff: float) -> NeighborList:
    """All directed pairs closer than the cutoff (Å), in an order that depends on nothing but the structure.

    Raises:
        UsageError: The lattice vectors that repeat are zero or lie in one plane or on one line; or two atoms lie on
            each other.
    """
    search = vesin.NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    center, neighbor, shifts = search.compute(
        structure.positions, _full_cell(structure), structure.pbc, quantities="ijS", copy=False
    )
    center, neighbor = center.astype(np.int64), neighbor.astype(np.int64)
    n_atoms, place = structure.n_atoms, np.argsort(np.argsort(structure.atomic_numbers, kind="stable"))
    order = _order(n_atoms * center + place[neighbor], shifts)
    reverse_order = _order(n_atoms * neighbor + place[center], -shifts)
    rank = np.empty(len(order), dtype=np.int64)
    rank[reverse_order] = np.arange(len(order))
    i, j = center[order], neighbor[order]
    vectors = structure.positions.take(j, axis=0) - structure.positions.take(i, axis=0)
    if shifts.any():
        vectors += shifts[order] @ structure.cell
    distances = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    _check_apart(i, j, distances)
    return NeighborList(
        center_index=i,
        neighbor_index=j,
        vectors=vectors,
        distances=distances,
        reverse_index=rank[order],
        counts=np.bincount(i, minlength=n_atoms),
    )


def _order(pairs: Int[np.ndarray, "P"], shifts: Int[np.ndarray, "P 3"]) -> Int[np.ndarray, "P"]:
    """By the number of each pair, then by image."""
    return np.lexsort((*shifts.T[::-1], pairs)) if shifts.any() else np.argsort(pairs)


def _check_apart(i: Int[np.ndarray, "P"], j: Int[np.ndarray, "P"], distances: Float[np.ndarray, "P"]) -> None:
    if distances.min(initial=inf) < SMALLEST_DISTANCE:
        pair = int(distances.argmin())
        raise UsageError(
            f"atoms {i[pair]} and {j[pair]} (counted from 0) lie within {SMALLEST_DISTANCE:g} Å of each other: "
            "move one or leave it out"
        )


def _full_cell(structure: Structure) -> Float[np.ndarray, "3 3"]:
    """Cell whose rows that do not repeat are replaced by unit vectors at right angles to those that do."""
    if not structure.pbc.any():
        return structure.cell
    cell = structure.cell.copy()
    if not structure.pbc.all():
        repeating = cell[structure.pbc]
        _, _, rows = np.linalg.svd(repeating)
        cell[~structure.pbc] = rows[len(repeating) :]
    if abs(np.linalg.det(cell)) < SMALLEST_VOLUME:
        raise UsageError(
            f"the cell {structure.cell.tolist()} Å spans no volume along the directions that repeat "
            f"(pbc {structure.pbc.tolist()}): give a cell or turn pbc off"
        )
    return cell
