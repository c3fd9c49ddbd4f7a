"""How good the potential is: errors per structure, windows of them, calibration.

Prequential errors (Dawid 1984; Gama et al. 2013, doi 10.1007/s10994-012-5320-9) are those on arrivals before they are
learned; retention errors are those on the hold-out of what came earlier.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import nan, sqrt
from typing import Self

import numpy as np

from lmlp_stream.atoms.elements import SYMBOLS
from lmlp_stream.learning.residuals import Residuals
from lmlp_stream.potential.uncertainty import Intervals, Widths

MIN_HELD_OUT = 10
"""With fewer structures in the hold-out, a snapshot reports the errors of the prequential window."""
NORMAL_90 = 1.6448536269514722
"""Half width of the interval that holds 90 % of a normal distribution, in standard deviations."""

ERROR_ROW = np.dtype(
    [
        ("energy_error", "f8"),
        ("energy_variance", "f8"),
        ("energy_covered", "f8"),
        ("force_squared", "f8"),
        ("force_absolute", "f8"),
        ("force_variance", "f8"),
        ("n_forces_covered", "f8"),
        ("energy_inside", "f8"),
        ("n_forces_inside", "f8"),
        ("energy_width", "f8"),
        ("force_width", "f8"),
        ("n_forces", "f8"),
    ]
)
"""Errors of the ensemble mean on one structure. Energy error (predicted minus label) in eV/atom, NaN where the label is
missing, and variance of the members' energies in (eV/atom)². Sums over the labelled force components: squared errors in
(eV/Å)², absolute errors in eV/Å, variances of the members in (eV/Å)². How many of the one energy and of the `n_forces`
components lie in the normal 90 % interval of the members (covered), and how many in the calibrated one (inside; NaN
where there is none); the half width of that of the energy in eV/atom, and the sum of those of the components in
eV/Å."""


class Withheld(StrEnum):
    """Why a snapshot is not admissible."""

    FEW_LABELS = "few_labels"
    NOT_FINITE = "not_finite"
    REGRESSION = "regression"


@dataclass(frozen=True, slots=True)
class Errors:
    """Errors over structures; NaN where nothing is known.

    Attributes:
        n_structures: How many structures.
        energy_rmse: Root mean squared energy error in eV/atom.
        energy_mae: Mean absolute energy error in eV/atom.
        force_rmse: Root mean squared force component error in eV/Å.
        force_mae: Mean absolute force component error in eV/Å.
    """

    n_structures: int = 0
    energy_rmse: float = nan
    energy_mae: float = nan
    force_rmse: float = nan
    force_mae: float = nan

    def named(self) -> dict[str, float]:
        """The errors by the names a manifest uses, with their units; what is unknown is left out."""
        figures = {
            "energy_rmse_ev_per_atom": self.energy_rmse,
            "energy_mae_ev_per_atom": self.energy_mae,
            "force_rmse_ev_per_angstrom": self.force_rmse,
            "force_mae_ev_per_angstrom": self.force_mae,
            "n_structures": float(self.n_structures),
        }
        return {name: value for name, value in figures.items() if not np.isnan(value)}


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the members' disagreement says about the error; NaN where nothing is known or there is one member.

    Attributes:
        energy_disagreement: Root mean square standard deviation of the members' energies in eV/atom.
        force_disagreement: The same of force components in eV/Å.
        energy_ratio: Energy RMSE over disagreement; 1 is calibrated, more is overconfident.
        force_ratio: The same of forces.
        energy_coverage_90: Share of energies inside their calibrated 90 % interval.
        force_coverage_90: The same of force components.
        raw_energy_coverage_90: Share of energies inside the normal 90 % interval of the members.
        raw_force_coverage_90: The same of force components.
    """

    energy_disagreement: float = nan
    force_disagreement: float = nan
    energy_ratio: float = nan
    force_ratio: float = nan
    energy_coverage_90: float = nan
    force_coverage_90: float = nan
    raw_energy_coverage_90: float = nan
    raw_force_coverage_90: float = nan

    def named(self) -> dict[str, float]:
        """The figures by the names a manifest uses; what is unknown is left out."""
        figures = {
            "energy_disagreement_ev_per_atom": self.energy_disagreement,
            "force_disagreement_ev_per_angstrom": self.force_disagreement,
            "energy_rmse_per_disagreement": self.energy_ratio,
            "force_rmse_per_disagreement": self.force_ratio,
            "coverage_90_energy": self.energy_coverage_90,
            "coverage_90_forces": self.force_coverage_90,
            "raw_coverage_90_energy": self.raw_energy_coverage_90,
            "raw_coverage_90_forces": self.raw_force_coverage_90,
        }
        return {name: value for name, value in figures.items() if not np.isnan(value)}


@dataclass(frozen=True, slots=True)
class HeldError:
    """Squared force error on one structure of the hold-out: its sum in (eV/Å)² and the number of components."""

    force_squared: float
    n_forces: int

    @classmethod
    def of(cls, row: np.void) -> Self:
        """What an `ERROR_ROW` says of forces."""
        return cls(float(row["force_squared"]), int(row["n_forces"]))

    @property
    def force_rmse(self) -> float:
        """Root mean square in eV/Å; there must be a component."""
        return sqrt(self.force_squared / self.n_forces)


@dataclass(frozen=True, slots=True)
class Parts:
    """Errors of parts of some structures.

    Attributes:
        domains: By molecule, reaction or phase, in order of first appearance.
        sources: By who published the label, likewise.
        elements: Of forces, by atomic number, ascending; energies have no element.
    """

    domains: Mapping[str, Errors] = field(default_factory=dict)
    sources: Mapping[str, Errors] = field(default_factory=dict)
    elements: Mapping[int, Errors] = field(default_factory=dict)

    def named(self) -> dict[str, dict[str, dict[str, float]]]:
        """The errors as `Errors.named` says them, by domain, source and symbol of the element."""
        by_symbol = {SYMBOLS[z]: errors for z, errors in self.elements.items()}
        parts = {"domains": self.domains, "sources": self.sources, "elements": by_symbol}
        return {kind: {name: errors.named() for name, errors in part.items()} for kind, part in parts.items()}


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Everything that is known about the potential at one moment.

    Attributes:
        labels_learned: Labels learned so far.
        n_steps: Optimizer steps so far.
        prequential: Errors of the newest arrivals before they were learned.
        newest: The same by domain, source and element.
        retention: Errors on the hold-out.
        kept: The same by domain, source and element.
        calibration: Disagreement of the structures behind `errors`; calibrated coverage of the newest arrivals.
        intervals: The 90 % intervals of a snapshot made now.
        held: Force errors on each structure of the hold-out by id.
        reasons: Why a snapshot is not admissible; empty where it is.
    """

    labels_learned: int
    n_steps: int
    prequential: Errors
    newest: Parts
    retention: Errors
    kept: Parts
    calibration: Calibration
    intervals: Intervals
    held: Mapping[str, HeldError]
    reasons: tuple[Withheld, ...]

    @property
    def admissible(self) -> bool:
        """Whether a snapshot may be announced."""
        return not self.reasons

    @property
    def errors(self) -> Errors:
        """What a snapshot says of itself: the hold-out errors, or the prequential ones while few are held out."""
        return self.retention if self.retention.n_structures >= MIN_HELD_OUT else self.prequential


def error_rows(found: Residuals, widths: Widths | None = None) -> np.ndarray:
    """Errors with half widths of calibrated 90 % intervals, where there are any; one `ERROR_ROW` per structure [S]."""
    widths = widths or found.widths(Intervals())
    known, n_structures = ~np.isnan(found.forces), len(found.energy)

    def per_structure(values: np.ndarray) -> np.ndarray:
        sums = np.where(known, values, 0.0).sum(axis=1)
        return np.bincount(found.structure_index, weights=sums, minlength=n_structures)

    rows = np.zeros(n_structures, dtype=ERROR_ROW)
    rows["energy_error"] = found.energy
    rows["energy_variance"] = found.energy_std**2
    rows["energy_covered"] = np.abs(found.energy) <= NORMAL_90 * found.energy_std
    rows["energy_inside"] = _inside(found.energy, widths.energy)
    rows["force_squared"] = per_structure(found.forces**2)
    rows["force_absolute"] = per_structure(np.abs(found.forces))
    rows["force_variance"] = per_structure(found.forces_std**2)
    rows["n_forces_covered"] = per_structure(np.abs(found.forces) <= NORMAL_90 * found.forces_std)
    rows["n_forces_inside"] = per_structure(_inside(found.forces, widths.forces))
    rows["energy_width"] = widths.energy
    rows["force_width"] = per_structure(widths.forces)
    rows["n_forces"] = per_structure(np.ones_like(found.forces))
    return rows


def joined(rows: Iterable[np.ndarray]) -> np.ndarray:
    """`ERROR_ROW`s one after the other."""
    return np.concatenate([np.zeros(0, dtype=ERROR_ROW), *rows])


def summary(rows: np.ndarray) -> Errors:
    """Errors over `ERROR_ROW`s."""
    energy = rows["energy_error"][~np.isnan(rows["energy_error"])]
    n_forces = rows["n_forces"].sum()
    return Errors(
        n_structures=len(rows),
        energy_rmse=sqrt(_ratio((energy**2).sum(), len(energy))),
        energy_mae=_ratio(np.abs(energy).sum(), len(energy)),
        force_rmse=sqrt(_ratio(rows["force_squared"].sum(), n_forces)),
        force_mae=_ratio(rows["force_absolute"].sum(), n_forces),
    )


def calibration(rows: np.ndarray) -> Calibration:
    """Calibration over `ERROR_ROW`s."""
    energies = rows[~np.isnan(rows["energy_error"])]
    n_energies, n_forces = len(energies), rows["n_forces"].sum()
    energy_std = sqrt(_ratio(energies["energy_variance"].sum(), n_energies))
    force_std = sqrt(_ratio(rows["force_variance"].sum(), n_forces))
    errors = summary(rows)
    return Calibration(
        energy_disagreement=energy_std,
        force_disagreement=force_std,
        energy_ratio=_ratio(errors.energy_rmse, energy_std),
        force_ratio=_ratio(errors.force_rmse, force_std),
        energy_coverage_90=_ratio(energies["energy_inside"].sum(), n_energies),
        force_coverage_90=_ratio(rows["n_forces_inside"].sum(), n_forces),
        raw_energy_coverage_90=_ratio(energies["energy_covered"].sum(), n_energies) if energy_std else nan,
        raw_force_coverage_90=_ratio(rows["n_forces_covered"].sum(), n_forces) if force_std else nan,
    )


def _inside(error: np.ndarray, width: np.ndarray) -> np.ndarray:
    """1 where the error is within the half width, 0 where it is not, NaN where there is no width."""
    return np.where(np.isnan(width), nan, np.abs(error) <= width)


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator) / float(denominator) if denominator else nan
