"""From the disagreement of members to an uncertainty: the published rule, and intervals of 90 % on top of it.

Source: SCINE Parrot 1.0.0, `lmlp.py`; form: Eckhoff & Reiher 2023 (doi 10.1021/acs.jctc.3c00279). Members that agree
may all be wrong by the error that was measured: it is the floor. What the published rule lacks is a level. A factor
gives it one: the half width of the interval that holds the label nine times in ten is factor · max(floor, c · std).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import nan
from typing import Self

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from lmlp_stream.atoms.elements import ATOMIC_NUMBERS, SYMBOLS

SCALE = 2.0
"""c of the intervals: the published scale."""

_ENERGY = ("interval_90_energy_floor_ev_per_atom", "interval_90_energy_factor")
_FORCES = ("interval_90_forces_floor_ev_per_angstrom", "interval_90_forces_factor")


def energy_uncertainty(
    disagreement: Float[Tensor, "S"], n_atoms: Int[Tensor, "S"], *, rmse: float, scale: float
) -> Float[Tensor, "S"]:
    """u(E) = max(N · RMSE_E, c · std(E)) in eV, from the hold-out RMSE in eV per atom and the scale c."""
    return (scale * disagreement).maximum(n_atoms * rmse)


def forces_uncertainty(disagreement: Float[Tensor, "A 3"], *, rmse: float, scale: float) -> Float[Tensor, "A 3"]:
    """u(F) = max(RMSE_F, c · std(F)) of each component in eV/Å, from the hold-out RMSE in eV/Å and the scale c."""
    return (scale * disagreement).clamp(min=rmse)


@dataclass(frozen=True, slots=True)
class Level:
    """What turns a standard deviation into the half width of an interval.

    Attributes:
        floor: Error below which agreement says nothing, in the unit of the standard deviation.
        factor: Half width over max(floor, c · std); NaN where it is not known.
    """

    floor: float = 0.0
    factor: float = nan

    def widths(self, std: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Half widths, in the unit of the standard deviations."""
        return self.factor * np.maximum(self.floor, SCALE * std)


@dataclass(frozen=True, slots=True, eq=False)
class Widths:
    """Half widths of 90 % intervals around a prediction; NaN where they are not known.

    Attributes:
        energy: Of the energy per atom in eV.
        forces: Of each force component in eV/Å.
    """

    energy: Float[np.ndarray, "S"]
    forces: Float[np.ndarray, "A 3"]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals that hold nine labels of ten.

    Attributes:
        energy: Of energies per atom in eV.
        forces: Of force components in eV/Å, whatever the element.
        by_element: Of force components on atoms of one element, by atomic number; others take `forces`.
    """

    energy: Level = Level()
    forces: Level = Level()
    by_element: Mapping[int, Level] = field(default_factory=dict)

    def widths(
        self,
        energy_std: Float[np.ndarray, "S"],
        forces_std: Float[np.ndarray, "A 3"],
        atomic_numbers: Int[np.ndarray, "A"],
    ) -> Widths:
        """Half widths from the members' standard deviations of energies per atom in eV and forces in eV/Å."""
        forces = self.forces.widths(forces_std)
        for z, level in self.by_element.items():
            of_element = atomic_numbers == z
            forces[of_element] = level.widths(forces_std[of_element])
        return Widths(self.energy.widths(energy_std), forces)

    def named(self) -> dict[str, float]:
        """The intervals by the names a manifest uses; what is unknown is left out."""
        levels = [(_ENERGY, "", self.energy), (_FORCES, "", self.forces)]
        levels += [(_FORCES, f"_{SYMBOLS[z]}", level) for z, level in sorted(self.by_element.items())]
        figures: dict[str, float] = {}
        for (floor, factor), suffix, level in levels:
            if not np.isnan(level.factor):
                figures |= {floor + suffix: level.floor, factor + suffix: level.factor}
        return figures

    @classmethod
    def read(cls, figures: Mapping[str, float]) -> Self:
        """The intervals that `named` wrote among other figures of a manifest."""

        def level(names: tuple[str, str], suffix: str = "") -> Level:
            return Level(figures.get(names[0] + suffix, 0.0), figures.get(names[1] + suffix, nan))

        start = _FORCES[1] + "_"
        symbols = [name.removeprefix(start) for name in figures if name.startswith(start)]
        by_element = {ATOMIC_NUMBERS[s]: level(_FORCES, f"_{s}") for s in symbols if s in ATOMIC_NUMBERS}
        return cls(level(_ENERGY), level(_FORCES), by_element)
