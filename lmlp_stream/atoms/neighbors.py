"""Which atoms see each other: the neighbor list, under any periodic boundary conditions."""

from dataclasses import dataclass

import numpy as np
import vesin
from jaxtyping import Float, Int

from lmlp_stream.atoms.structure import Structure
from lmlp_stream.errors import UsageError

SMALLEST_VOLUME = 1e-3
"""Volume in Å³ (area in Å², length in Å) of a cell below which the search for neighbors would not end."""


@dataclass(frozen=True, slots=True, eq=False)
class NeighborList:
    """Directed pairs i -> j within the cutoff, sorted by center, then neighbor, then periodic image.

    Attributes:
        center_index: Index i of each pair.
        neighbor_index: Index j of each pair; j may be i where a cell is thinner than the cutoff.
        vectors: r_j - r_i + shift · cell in Å, float64.
        reverse_index: Position of the pair j -> i with the opposite shift.
    """

    center_index: Int[np.ndarray, "P"]
    neighbor_index: Int[np.ndarray, "P"]
    vectors: Float[np.ndarray, "P 3"]
    reverse_index: Int[np.ndarray, "P"]


def neighbor_list(structure: Structure, cutoff: float) -> NeighborList:
    """All directed pairs closer than the cutoff (Å), in an order that depends on nothing but the structure.

    Raises:
        UsageError: The lattice vectors that repeat are zero or lie in one plane or on one line.
    """
    search = vesin.NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    center, neighbor, shifts = search.compute(
        structure.positions, _full_cell(structure), structure.pbc, quantities="ijS", copy=False
    )
    center, neighbor = center.astype(np.int64), neighbor.astype(np.int64)
    order = np.lexsort((shifts[:, 2], shifts[:, 1], shifts[:, 0], neighbor, center))
    reverse_order = np.lexsort((-shifts[:, 2], -shifts[:, 1], -shifts[:, 0], center, neighbor))
    rank = np.empty(len(order), dtype=np.int64)
    rank[reverse_order] = np.arange(len(order))
    i, j = center[order], neighbor[order]
    vectors = structure.positions[j] - structure.positions[i] + shifts[order] @ structure.cell
    return NeighborList(center_index=i, neighbor_index=j, vectors=vectors, reverse_index=rank[order])


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
