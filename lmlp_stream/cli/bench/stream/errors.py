"""Sums of squared errors of the ensemble and of each member: they add up over structures, domains and files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import torch

from lmlp_stream.atoms.batch import Batch, Example, collate, composition_of
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.atoms.symmetry import SymmetryFunctions
from lmlp_stream.potential.ensemble import Ensemble

PREDICTED_TOGETHER = 32


@dataclass(frozen=True, slots=True)
class SquaredErrors:
    """Sums over structures; of the ensemble first, then of each member.

    Attributes:
        energy: Squared energy errors, (eV/atom)²; empty where the baseline does not know a composition.
        n_energies: How many.
        force: Squared errors of force components, (eV/Å)².
        n_forces: How many.
    """

    energy: tuple[float, ...]
    n_energies: int
    force: tuple[float, ...]
    n_forces: int

    def named(self, kind: str) -> dict[str, float]:
        """RMSE of the ensemble (`ensemble`) or the mean of the members' RMSEs (`members`), by names with units."""
        some = slice(0, 1) if kind == "ensemble" else slice(1, None)
        return {
            "energy_rmse_mev_per_atom": _rmse(self.energy[some], self.n_energies),
            "force_rmse_mev_per_angstrom": _rmse(self.force[some], self.n_forces),
        }

    @property
    def force_rmse(self) -> float:
        """Force RMSE of the ensemble in meV/Å."""
        return _rmse(self.force[:1], self.n_forces)


def pooled(some: Iterable[SquaredErrors | None]) -> SquaredErrors | None:
    """All together; None where one is not known."""
    errors = list(some)
    known = [one for one in errors if one is not None]
    if not known or len(known) < len(errors):
        return None
    energies_known = all(one.energy for one in known)
    return SquaredErrors(
        energy=tuple(map(sum, zip(*(one.energy for one in known), strict=True))) if energies_known else (),
        n_energies=sum(one.n_energies for one in known),
        force=tuple(map(sum, zip(*(one.force for one in known), strict=True))),
        n_forces=sum(one.n_forces for one in known),
    )


class Examination:
    """The test structures of one domain, prepared once.

    Attributes:
        label_force_rms: Root mean square of the force components that are labels, meV/Å: the error of saying nothing;
            NaN where there is none.
    """

    def __init__(self, structures: Sequence[LabelledStructure], functions: SymmetryFunctions) -> None:
        self._numbers = {int(z) for structure in structures for z in structure.atomic_numbers}
        self._compositions = {composition_of(s.atomic_numbers).tobytes(): s.atomic_numbers for s in structures}
        self._batches = [
            collate(
                [Example(item, functions.evaluate(item)) for item in structures[first : first + PREDICTED_TOGETHER]]
            )
            for first in range(0, len(structures), PREDICTED_TOGETHER)
        ]
        squares = np.concatenate([np.square(item.forces).flatten() for item in structures])
        self.label_force_rms = _rmse((float(np.nansum(squares)),), int(np.isfinite(squares).sum()))

    def errors(self, ensemble: Ensemble) -> SquaredErrors | None:
        """Errors of the potential as it is now; None where it does not know an element."""
        if not ensemble.covers(self._numbers):
            return None
        whole = pooled(_squared_errors(ensemble, batch) for batch in self._batches)
        known = all(ensemble.determines(z) for z in self._compositions.values())
        if whole is None or known:
            return whole
        return SquaredErrors((), whole.n_energies, whole.force, whole.n_forces)


def _squared_errors(ensemble: Ensemble, batch: Batch) -> SquaredErrors:
    prediction = ensemble.predict(batch)
    energies = torch.cat([prediction.mean_energy[None], prediction.energy]) - batch.energy
    forces = torch.cat([prediction.mean_forces[None], prediction.forces]) - batch.forces
    return SquaredErrors(
        energy=_sums(energies / batch.n_atoms),
        n_energies=int(batch.energy.isfinite().sum()),
        force=_sums(forces),
        n_forces=int(batch.forces.isfinite().sum()),
    )


def _sums(errors: torch.Tensor) -> tuple[float, ...]:
    return tuple(errors.detach().double().square().nan_to_num(0.0).flatten(1).sum(1).tolist())


def _rmse(sums: Sequence[float], n: int) -> float:
    return 1000.0 * float(np.mean(np.sqrt(np.array(sums) / n))) if sums and n else nan
