"""Structures and their labels: what a quantum-chemistry job knows about one arrangement of atoms."""

import math
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
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
        record: Partition and offset of the record it came in; -1 where it came in none.
        vouched: Whether somebody sent it again after it was refused; then nobody judges it any more.
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
    record: tuple[int, int] = (-1, -1)
    vouched: bool = False

    @property
    def group_or_id(self) -> str:
        """Its group; a structure without one is a group of its own."""
        return self.group or self.id


def unlabelled(structure: Structure) -> LabelledStructure:
    """The structure with NaN in the place of its labels: something to predict."""
    return LabelledStructure(
        atomic_numbers=structure.atomic_numbers,
        positions=structure.positions,
        cell=structure.cell,
        pbc=structure.pbc,
        charge=structure.charge,
        multiplicity=structure.multiplicity,
        id="",
        group="",
        domain="",
        energy=math.nan,
        forces=np.full((structure.n_atoms, 3), np.nan),
    )


def from_ase(atoms: Atoms) -> Structure:
    """The structure an ASE `Atoms` object holds, without its labels.

    Charge and multiplicity are `atoms.info["charge"]` and `atoms.info["multiplicity"]` where they stand there, else the
    sum of the initial charges, and the sum of the initial magnetic moments plus one where any of them is set.
    """
    moments = atoms.arrays.get("initial_magmoms", np.zeros(1))
    multiplicity = round(abs(float(moments.sum()))) + 1 if moments.any() else 0
    charge = float(atoms.arrays.get("initial_charges", np.zeros(1)).sum())
    return Structure(
        atomic_numbers=atoms.numbers.astype(np.int64),
        positions=np.array(atoms.positions, dtype=np.float64),
        cell=np.array(atoms.cell.array, dtype=np.float64),
        pbc=np.array(atoms.pbc, dtype=np.bool_),
        charge=float(atoms.info.get("charge", charge)),
        multiplicity=int(atoms.info.get("multiplicity", multiplicity)),
    )


def to_ase(structure: Structure) -> Atoms:
    """The ASE `Atoms` object of a structure; labels that are there sit in its `SinglePointCalculator`."""
    atoms = Atoms(
        numbers=structure.atomic_numbers, positions=structure.positions, cell=structure.cell, pbc=structure.pbc
    )
    atoms.info["charge"] = structure.charge
    if structure.multiplicity:
        atoms.info["multiplicity"] = structure.multiplicity
    if isinstance(structure, LabelledStructure):
        labels: dict[str, object] = {}
        if np.isfinite(structure.energy):
            labels["energy"] = structure.energy
        if np.isfinite(structure.forces).all():
            labels["forces"] = structure.forces
        if structure.stress is not None:
            labels["stress"] = full_3x3_to_voigt_6_stress(structure.stress)
        atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms
