"""What a snapshot says of a structure: energy, forces, stress, their uncertainties, and whether to ask for a label."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, isnan

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lmlp_stream.atoms.batch import Batch, Example, collate
from lmlp_stream.atoms.elements import SYMBOLS
from lmlp_stream.atoms.structure import Structure, unlabelled
from lmlp_stream.atoms.symmetry import SymmetryFunctions
from lmlp_stream.config import SimulateConfig
from lmlp_stream.errors import UsageError
from lmlp_stream.potential.device import find_device
from lmlp_stream.potential.ensemble import Ensemble, Prediction
from lmlp_stream.potential.uncertainty import Intervals, energy_uncertainty, forces_uncertainty
from lmlp_stream.wire.announcement import SnapshotManifest

_Uncertainty = tuple[float, Float[np.ndarray, "A 3"]]
"""Of an energy in eV, and of force components in eV/Å."""


class UnknownElementError(UsageError):
    """The snapshot does not know an element of the structure."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A potential's word on one structure.

    Attributes:
        energy: Energy of the ensemble mean in eV.
        forces: Its forces in eV/Å.
        stress: Its stress in eV/Å³, tension positive; None where the cell does not repeat in three directions.
        energy_uncertainty: Half width in eV of the interval that holds the reference energy nine times in ten.
        forces_uncertainty: The same of each force component in eV/Å.
        excess: Uncertainty over threshold, the larger of energy and forces; above 1 a label is wanted.
    """

    energy: float
    forces: Float[np.ndarray, "A 3"]
    stress: Float[np.ndarray, "3 3"] | None
    energy_uncertainty: float
    forces_uncertainty: Float[np.ndarray, "A 3"]
    excess: float

    @property
    def max_forces_uncertainty(self) -> float:
        """Largest uncertainty of a force component in eV/Å."""
        return float(self.forces_uncertainty.max())


class Evaluator:
    """Evaluates structures with the potential of one snapshot.

    Uncertainties are the calibrated 90 % intervals of the manifest, by element for forces; of a manifest without them,
    the published u = max(RMSE, c · std), whose level is not known. A label is wanted where the widest interval, of the
    energy or of a force component, is a multiple of what it would be if the members agreed; or, if so configured and
    without intervals, by the published rule: u above a multiple of the RMSE in the manifest. An error that the manifest
    does not state is no floor and no threshold. Energies of a composition that the labels do not determine are
    infinitely uncertain.

    Attributes:
        manifest: What the snapshot says of itself.
    """

    def __init__(self, manifest: SnapshotManifest, ensemble: Ensemble, config: SimulateConfig) -> None:
        self.manifest = manifest
        self._ensemble = ensemble
        self._folded = ensemble.folded()
        self._config = config
        self._functions = SymmetryFunctions(ensemble.spec, ensemble.dtype, ensemble.device)
        self._intervals = Intervals.read(manifest.calibration)
        self._energy_rmse = manifest.errors.get("energy_rmse_ev_per_atom", 0.0)
        self._force_rmse = manifest.errors.get("force_rmse_ev_per_angstrom", 0.0)

    def evaluate(self, structure: Structure) -> Evaluation:
        """Energy, forces, stress and their uncertainties.

        Raises:
            UnknownElementError: The snapshot does not know an element of the structure.
            UsageError: Atoms coincide, or positions or cell are not finite or span no volume.
        """
        self._check_elements(structure)
        batch = collate([Example(unlabelled(structure), self._functions.evaluate(structure))])
        prediction = self._folded.predict(batch)
        published = self._published(prediction, batch)
        widths = self._widths(prediction, batch)
        known = self._ensemble.determines(structure.atomic_numbers)
        return Evaluation(
            energy=float(prediction.mean_energy),
            forces=_array(prediction.mean_forces),
            stress=_array(prediction.mean_stress)[0] if structure.pbc.all() else None,
            energy_uncertainty=(published[0] if isnan(widths[0]) else widths[0]) if known else inf,
            forces_uncertainty=np.where(np.isnan(widths[1]), published[1], widths[1]),
            excess=self._excess(published, widths, structure) if known else inf,
        )

    def _published(self, prediction: Prediction, batch: Batch) -> _Uncertainty:
        """u(E) in eV and u(F) in eV/Å of one structure."""
        scale = self._config.scale
        energy = energy_uncertainty(prediction.energy_disagreement, batch.n_atoms, rmse=self._energy_rmse, scale=scale)
        forces = forces_uncertainty(prediction.forces_disagreement, rmse=self._force_rmse, scale=scale)
        return float(energy), _array(forces)

    def _widths(self, prediction: Prediction, batch: Batch) -> _Uncertainty:
        """Half widths of the calibrated intervals of one structure, energy in eV and forces in eV/Å; else NaN."""
        n_atoms = float(batch.n_atoms)
        widths = self._intervals.widths(
            _array(prediction.energy_disagreement) / n_atoms,
            _array(prediction.forces_disagreement),
            batch.atomic_numbers.cpu().numpy(),
        )
        return n_atoms * float(widths.energy[0]), widths.forces

    def _excess(self, published: _Uncertainty, widths: _Uncertainty, structure: Structure) -> float:
        """The larger of what energy and forces say; infinite where the prediction is no number."""
        agreed = self._agreed(structure)
        if self._config.request_by == "published" or any(isnan(width) for width in agreed):
            said, thresholds = published, self._published_thresholds(structure.n_atoms)
        else:
            said, thresholds = widths, tuple(self._config.request_widening * width for width in agreed)
        ratios = [_ratio(*pair) for pair in zip((said[0], float(said[1].max())), thresholds, strict=True)]
        return inf if any(isnan(ratio) for ratio in ratios) else max(ratios)

    def _agreed(self, structure: Structure) -> tuple[float, ...]:
        """Half widths if the members agreed, of the energy in eV and of the widest force component in eV/Å."""
        n_atoms = structure.n_atoms
        widths = self._intervals.widths(np.zeros(1), np.zeros((n_atoms, 3)), structure.atomic_numbers)
        return n_atoms * float(widths.energy[0]), float(widths.forces.max())

    def _published_thresholds(self, n_atoms: int) -> tuple[float, ...]:
        config = self._config
        return config.request_energy * n_atoms * self._energy_rmse, config.request_forces * self._force_rmse

    def _check_elements(self, structure: Structure) -> None:
        if not self._ensemble.covers(structure.atomic_numbers):
            unknown = sorted({int(z) for z in structure.atomic_numbers} - set(self._ensemble.elements))
            raise UnknownElementError(
                f"snapshot {self.manifest.id[:12]} knows {_symbols(self._ensemble.elements)}, not {_symbols(unknown)}; "
                f"publish labels with {_symbols(unknown)} to learner {self.manifest.name!r} and take a later snapshot"
            )


def device_of(name: str) -> torch.device:
    """The device that `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N` names.

    Raises:
        UsageError: There is no such device here.
    """
    return find_device(name, setting="device", error=UsageError)


def _ratio(uncertainty: float, threshold: float) -> float:
    return uncertainty / threshold if threshold > 0 else (inf if uncertainty == inf else 0.0)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy().astype(np.float64)


def _symbols(atomic_numbers: Iterable[int]) -> str:
    return ", ".join(SYMBOLS[z] for z in atomic_numbers) or "no element"
