"""Which atoms see each other: the neighbor list, under any periodic boundary conditions."""

from dataclasses import dataclass
from math import inf

import numpy as np
import vesin
from jaxtyping import Float, Int

from lmlp_stream.atoms.neighbors_kernel import linked, pad
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
        starts: First pair of each center, and the number of pairs at the end.
        center_index: Index i of each pair.
        neighbor_index: Index j of each pair; j may be i where a cell is thinner than the cutoff.
        vectors: r_j - r_i + shift · cell in Å, float64.
        distances: Their lengths in Å, float64.
        reverse_index: Position of the pair j -> i with the opposite shift.
    """

    starts: Int[np.ndarray, "A+1"]
    center_index: Int[np.ndarray, "P"]
    neighbor_index: Int[np.ndarray, "P"]
    vectors: Float[np.ndarray, "P 3"]
    distances: Float[np.ndarray, "P"]
    reverse_index: Int[np.ndarray, "P"]

    @property
    def n_neighbors(self) -> int:
        """Largest number of neighbors of an atom."""
        return int(np.diff(self.starts).max(initial=0))

    @property
    def slots(self) -> Int[np.ndarray, "P"]:
        """Place of each pair among those of its center."""
        places: np.ndarray = np.arange(len(self.center_index), dtype=np.int64) - self.starts[self.center_index]
        return places

    def padded(
        self,
    ) -> tuple[Int[np.ndarray, "A N"], Int[np.ndarray, "A 3 N"], Float[np.ndarray, "A 3 N"], Float[np.ndarray, "A N"]]:
        """`neighbor_index`, `reverse`, `units` and `distances` (Å) of `symmetry.Descriptors`."""
        n_atoms, n_neighbors = len(self.starts) - 1, self.n_neighbors
        index = np.empty((n_atoms, n_neighbors), np.int64)
        reverse = np.empty((n_atoms, 3, n_neighbors), np.int64)
        units, distances = np.empty((n_atoms, 3, n_neighbors)), np.empty((n_atoms, n_neighbors))
        pad(
            *(self.starts, self.neighbor_index, self.reverse_index, self.vectors, self.distances),
            *(index, reverse, units, distances),
        )
        return index, reverse, units, distances


def neighbor_list(structure: Structure, cutoff: float) -> NeighborList:
    """All directed pairs closer than the cutoff (Å), in an order that depends on nothing but the structure.

    Raises:
        UsageError: A position or the cell is not finite; the lattice vectors that repeat are zero or lie in one plane
            or on one line; or two atoms lie on each other.
    """
    _check_finite(structure)
    search = vesin.NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    found, shifts = search.compute(
        structure.positions, _full_cell(structure), structure.pbc, quantities="PS", copy=False
    )
    pairs, shifts = found.astype(np.int64), shifts.astype(np.int64)
    places = np.argsort(np.argsort(structure.atomic_numbers, kind="stable"))
    numbers = structure.n_atoms * pairs[:, 0] + places[pairs[:, 1]]
    starts, centers, neighbors, vectors, distances, reverse = linked(
        np.lexsort((*shifts.T[::-1], numbers)) if shifts.any() else np.argsort(numbers),
        pairs,
        shifts,
        places,
        np.array(structure.positions, np.float64, order="C"),
        np.where(structure.pbc[:, None], structure.cell, 0.0),
    )
    _check_apart(centers, neighbors, distances)
    return NeighborList(
        starts=starts,
        center_index=centers,
        neighbor_index=neighbors,
        vectors=vectors,
        distances=distances,
        reverse_index=reverse,
    )


def _check_finite(structure: Structure) -> None:
    finite = np.isfinite(structure.positions).all(axis=1)
    if not finite.all():
        atom = int(finite.argmin())
        raise UsageError(
            f"atom {atom} (counted from 0) lies at {structure.positions[atom].tolist()} Å: give finite numbers or "
            "leave the structure out"
        )
    if not np.isfinite(structure.cell).all():
        raise UsageError(
            f"the cell {structure.cell.tolist()} Å is not finite: give finite numbers or leave the structure out"
        )


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
