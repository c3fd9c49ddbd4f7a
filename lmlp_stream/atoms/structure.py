"""Structures and their labels: what a quantum-chemistry job knows about one arrangement of atoms."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Structure:
    """One arrangement of atoms with cell and periodic boundary conditions.

    Attributes:
        atomic_numbers: Z of each atom, int64.
        positions: Cartesian positions in Å, float64.
        cell: Lattice vectors as rows in Å, float64; all zero without a cell.
        pbc: Which lattice vectors repeat.
        charge: Total charge in e.
        multiplicity: Spin multiplicity 2S + 1; 0 where unknown.
    """

    atomic_numbers: Int[np.ndarray, "A"]
    positions: Float[np.ndarray, "A 3"]
    cell: Float[np.ndarray, "3 3"]
    pbc: Bool[np.ndarray, "3"]
    charge: float = 0.0
    multiplicity: int = 0

    @property
    def n_atoms(self) -> int:
        """Number of atoms A."""
        return len(self.atomic_numbers)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LabelledStructure(Structure):
    """A structure with its reference energy, forces and (where known) stress.

    Attributes:
        id: Idempotency key: the same label always carries the same id.
        group: Trajectory segment the structure was cut from; never split between learned and held out.
        domain: What errors are reported by: molecule, reaction or phase.
        energy: Total energy in eV; NaN where the label is missing.
        forces: Forces in eV/Å; NaN where the label is missing.
        stress: Stress in eV/Å³, tension positive, or None.
        level_of_theory: The method that made the label.
        source: Who published it.
        weight: Relative weight of the structure in the loss.
    """

    id: str
    group: str
    domain: str
    energy: float
    forces: Float[np.ndarray, "A 3"]
    stress: Float[np.ndarray, "3 3"] | None = None
    level_of_theory: str = ""
    source: str = ""
    weight: float = 1.0
