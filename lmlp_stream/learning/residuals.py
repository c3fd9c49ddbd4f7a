"""What an examination of labelled structures leaves: errors of the ensemble mean beside the members' disagreement."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from lmlp_stream.atoms.batch import Batch
from lmlp_stream.potential.ensemble import Prediction
from lmlp_stream.potential.uncertainty import Intervals, Widths


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """Errors (predicted minus label, NaN where the label is missing) and standard deviations of the members.

    Attributes:
        energy: Errors of energies per atom in eV.
        energy_std: Standard deviations of the same.
        forces: Errors of force components in eV/Å.
        forces_std: Standard deviations of the same.
        atomic_numbers: Z of each atom.
        structure_index: Structure of each atom, ascending.
    """

    energy: Float[np.ndarray, "S"]
    energy_std: Float[np.ndarray, "S"]
    forces: Float[np.ndarray, "A 3"]
    forces_std: Float[np.ndarray, "A 3"]
    atomic_numbers: Int[np.ndarray, "A"]
    structure_index: Int[np.ndarray, "A"]

    def widths(self, intervals: Intervals) -> Widths:
        """Half widths of intervals around what was predicted."""
        return intervals.widths(self.energy_std, self.forces_std, self.atomic_numbers)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All parts as one, their structures one after the other; there must be a part."""
        starts = np.cumsum([0, *(len(part.energy) for part in parts[:-1])])
        placed = [replace(p, structure_index=start + p.structure_index) for start, p in zip(starts, parts, strict=True)]
        return cls(*(np.concatenate([getattr(part, field.name) for part in placed]) for field in fields(cls)))

    @classmethod
    def of(cls, prediction: Prediction, batch: Batch) -> Self:
        """The residuals of a prediction against the labels of its batch."""
        n_atoms = _array(batch.n_atoms).astype(np.float64)
        return cls(
            energy=(_array(prediction.mean_energy) - _array(batch.energy)) / n_atoms,
            energy_std=_array(prediction.energy_disagreement) / n_atoms,
            forces=_array(prediction.mean_forces) - _array(batch.forces),
            forces_std=_array(prediction.forces_disagreement),
            atomic_numbers=_array(batch.atomic_numbers),
            structure_index=_array(batch.structure_index),
        )


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
