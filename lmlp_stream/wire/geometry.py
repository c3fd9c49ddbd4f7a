"""The arrangement of atoms inside a record: its fields, and the gates it must pass before anyone computes with it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lmlp_stream.atoms.structure import Structure
from lmlp_stream.wire.arrays import ATOMS, FLOATS, INTEGERS, Array, packed
from lmlp_stream.wire.fields import Field, Integer, Number
from lmlp_stream.wire.limits import (
    MAX_ATOMIC_NUMBER,
    MAX_CHARGE,
    MAX_COORDINATE,
    MAX_NEIGHBORHOOD,
    NEIGHBORHOOD,
    Limits,
)
from lmlp_stream.wire.rejection import Reason, RefusalError

GEOMETRY_FIELDS: Mapping[str, Field] = {
    "atomic_numbers": Array(
        "Atomic number Z of each atom; above 54 (Xe) only where wire.elements is extended.", (ATOMS,), INTEGERS
    ),
    "positions": Array("Cartesian positions, Å.", (ATOMS, 3), FLOATS),
    "cell": Array("Lattice vectors as rows, Å; leave out without a cell.", (3, 3), FLOATS, required=False),
    "pbc": Array("1 where a lattice vector repeats, else 0; leave out without a cell.", (3,), INTEGERS, required=False),
    "charge": Number("Total charge, e.", -MAX_CHARGE, MAX_CHARGE, required=False),
    "multiplicity": Integer("Spin multiplicity 2S + 1; 0 where unknown.", maximum=1000, required=False),
}

_PAIRS_AT_ONCE = 65536
_SMALLEST_LENGTH = 1e-3


def geometry_values(structure: Structure) -> dict[str, Any]:
    """The fields of a structure as they travel; cell and pbc only where there is a cell."""
    values = {
        "atomic_numbers": packed(structure.atomic_numbers, "<i4"),
        "positions": packed(structure.positions, "<f8"),
        "charge": float(structure.charge),
        "multiplicity": int(structure.multiplicity),
    }
    if structure.cell.any() or structure.pbc.any():
        values["cell"] = packed(structure.cell, "<f8")
        values["pbc"] = packed(structure.pbc, "|u1")
    return values


def read_geometry(fields: Mapping[str, Any], limits: Limits) -> dict[str, Any]:
    """The keyword arguments of a `Structure` that can be computed with.

    Raises:
        RefusalError: Unknown elements, coordinates that are not finite or far off, a cell that does not span
            its periodic directions, overlapping or crowded atoms.
    """
    atomic_numbers, positions = fields["atomic_numbers"], fields["positions"]
    cell = fields["cell"] if "cell" in fields else np.zeros((3, 3))
    pbc = fields["pbc"] if "pbc" in fields else np.zeros(3, np.int64)
    _check_elements(atomic_numbers, limits.last_element)
    check_magnitude(positions, MAX_COORDINATE, "positions", "Å")
    if "cell" in fields:
        check_magnitude(cell, MAX_COORDINATE, "cell", "Å")
    if ((pbc != 0) & (pbc != 1)).any():
        raise RefusalError(Reason.OUT_OF_RANGE, f"pbc is {pbc.tolist()}; send 0 or 1 for each lattice vector")
    periodic = pbc.astype(bool)
    _check_distances(positions, cell[periodic], limits.min_distance)
    return {
        "atomic_numbers": atomic_numbers,
        "positions": positions,
        "cell": cell,
        "pbc": periodic,
        "charge": fields.get("charge", 0.0),
        "multiplicity": fields.get("multiplicity", 0),
    }


def check_magnitude(array: Float[np.ndarray, "..."], largest: float, place: str, unit: str) -> None:
    """Refuse components that are not finite (`not_finite`) or larger than `largest` (`out_of_range`)."""
    magnitude = np.abs(array).max()
    if magnitude <= largest:
        return
    if not np.isfinite(magnitude):
        row = np.argwhere(~np.isfinite(array))[0].tolist()
        raise RefusalError(
            Reason.NOT_FINITE, f"{place}{row} is {array[tuple(row)]}; leave the field out where there is no value"
        )
    raise RefusalError(
        Reason.OUT_OF_RANGE,
        f"{place} has a component of {magnitude:g} {unit}; send at most {largest:g} {unit} (check the unit)",
    )


def _check_elements(atomic_numbers: Int[np.ndarray, "A"], last: int) -> None:
    low, high = atomic_numbers.min(), atomic_numbers.max()
    if low >= 1 and high <= last:
        return
    wrong = low if low < 1 else high
    remedy = f"send 1 to {last}"
    if last < wrong <= MAX_ATOMIC_NUMBER:
        remedy += ", or let the learner take elements beyond Xe with wire.elements = 'extended'"
    raise RefusalError(Reason.UNKNOWN_ELEMENT, f"atomic_numbers holds {wrong}; {remedy}")


def _check_distances(
    positions: Float[np.ndarray, "A 3"], lattice: Float[np.ndarray, "K 3"], min_distance: float
) -> None:
    """Refuse overlapping atoms, and so many within `NEIGHBORHOOD` that neighbor lists would explode.

    Fractional differences are rounded to the nearest image. That finds every pair closer than `min_distance`
    because periodic cells thinner than twice that are refused. Memory is bounded: pairs are taken in blocks.
    """
    n_atoms = len(positions)
    inverse, images = _inverse_and_images(lattice, min_distance) if len(lattice) else (None, 1)
    count = n_atoms * images > MAX_NEIGHBORHOOD
    block = max(1, _PAIRS_AT_ONCE // n_atoms)
    for first in range(0, n_atoms, block):
        vectors = positions[first : first + block, None] - positions
        if inverse is not None:
            vectors -= np.rint(vectors @ inverse) @ lattice
        squares = np.einsum("ijk,ijk->ij", vectors, vectors)
        squares.ravel()[first :: n_atoms + 1] = np.inf
        if squares.min() < min_distance**2:
            raise _overlap(squares, first, min_distance)
        if count:
            crowd = (int((squares < NEIGHBORHOOD**2).sum(axis=1).max()) + 1) * images
            if crowd > MAX_NEIGHBORHOOD:
                raise RefusalError(
                    Reason.TOO_DENSE,
                    f"up to {crowd} atoms lie within {NEIGHBORHOOD:g} Å of an atom; send at most {MAX_NEIGHBORHOOD} "
                    "(check the units of positions and cell)",
                )


def _overlap(squares: Float[np.ndarray, "B A"], first: int, min_distance: float) -> RefusalError:
    i, j = (int(index) for index in np.unravel_index(np.argmin(squares), squares.shape))
    return RefusalError(
        Reason.OVERLAPPING_ATOMS,
        f"atoms {first + i} and {j} are {np.sqrt(squares[i, j]):.3g} Å apart; send at least {min_distance:g} Å "
        "(wire.min_distance; check the unit of positions)",
    )


def _inverse_and_images(lattice: Float[np.ndarray, "K 3"], min_distance: float) -> tuple[Float[np.ndarray, "3 K"], int]:
    """Pseudo-inverse of the periodic lattice vectors, and how many images of an atom a `NEIGHBORHOOD` can hold."""
    left, lengths, right = np.linalg.svd(lattice, full_matrices=False)
    if lengths[-1] < _SMALLEST_LENGTH:
        raise RefusalError(
            Reason.BAD_CELL,
            "the periodic lattice vectors of cell are zero or linearly dependent; send others or no pbc",
        )
    inverse: Float[np.ndarray, "3 K"] = (right.T / lengths) @ left.T
    heights = 1.0 / np.sqrt((inverse**2).sum(axis=0))
    if heights.min() < 2.0 * min_distance:
        raise RefusalError(
            Reason.BAD_CELL,
            f"cell is {heights.min():.3g} Å thin along a periodic direction; send at least {2.0 * min_distance:g} Å "
            "(twice wire.min_distance; check the unit)",
        )
    return inverse, int(np.prod(np.floor(2.0 * NEIGHBORHOOD / heights) + 1.0))
