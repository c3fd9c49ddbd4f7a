"""How a label stands against a prediction that did not know it, and against the laws every label obeys.

Forces of a structure without an external field sum to zero, and without periodic images their torques do as well:
noise, and forces that belong to other atoms, show there whatever the potential knows.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.learning.residuals import Residuals

EVIDENCE = np.dtype(
    [
        ("energy", "f8"),
        ("energy_std", "f8"),
        ("force", "f8"),
        ("force_std", "f8"),
        ("flipped", "f8"),
        ("size", "f8"),
        ("net_force", "f8"),
        ("torque", "f8"),
    ]
)
"""Absolute energy error and standard deviation of the members in eV/atom. Root mean squares over the force components
in eV/Å: error, standard deviation of the members, the error if the label had the opposite sign, and the label itself.
Norm of the summed forces per atom in eV/Å, and of the summed torques about the middle in eV. NaN where the label is
missing or, for the torque, where the structure repeats."""


def evidence(found: Iterable[Residuals], structures: Sequence[LabelledStructure]) -> np.ndarray:
    """One `EVIDENCE` for each structure [S], from the residuals of all of them in their order."""
    rows = np.zeros(len(structures), dtype=EVIDENCE)
    place = 0
    for some in found:
        for index in range(len(some.energy)):
            atoms = some.structure_index == index
            row, structure = rows[place], structures[place]
            row["energy"], row["energy_std"] = abs(some.energy[index]), some.energy_std[index]
            errors = some.forces[atoms].astype(np.float64)
            row["force"], row["force_std"] = _rms(errors), _rms(some.forces_std[atoms].astype(np.float64))
            row["flipped"] = _rms(errors + 2.0 * structure.forces)
            row["size"] = _rms(structure.forces)
            row["net_force"], row["torque"] = _laws(structure)
            place += 1
    return rows


def _laws(structure: LabelledStructure) -> tuple[float, float]:
    forces, n_atoms = structure.forces, structure.n_atoms
    arms = structure.positions - structure.positions.mean(axis=0)
    torque = np.linalg.norm(np.cross(arms, forces).sum(axis=0)) / n_atoms
    return float(np.linalg.norm(forces.sum(axis=0)) / n_atoms), float("nan" if structure.pbc.any() else torque)


def _rms(components: np.ndarray) -> float:
    return float(np.sqrt((components**2).mean()))
