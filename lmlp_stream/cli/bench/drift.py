"""How fast an energy drifts, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt
from typing import Self

import numpy as np
from jaxtyping import Float

N_BLOCKS = 8
"""Blocks of a run whose means are fitted. Those of 1 ps of 3BPA still remember each other, those of 2.5 ps hardly."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A drift and its standard error in eV/atom/ns; NaN where it is not known."""

    slope: float
    standard_error: float

    @classmethod
    def of(cls, energies: Float[np.ndarray, "T"], timestep: float, n_atoms: int) -> Self:
        """The slope of a linear fit to the means of blocks, whose scatter around it gives the standard error.

        Means of blocks longer than the correlation time are independent (Flyvbjerg & Petersen 1989,
        doi 10.1063/1.457480).

        Args:
            energies: Total energies of a run in eV.
            timestep: Time between them in fs.
            n_atoms: Atoms that share them.
        """
        blocks = np.array_split(np.arange(len(energies)), min(N_BLOCKS, len(energies)))
        if len(blocks) < 3:
            return cls(nan, nan)
        times = 1e-6 * timestep * np.array([block.mean() for block in blocks])
        means = np.array([energies[block].mean() for block in blocks]) / n_atoms
        times, means = times - times.mean(), means - means.mean()
        slope = float(times @ means / (times @ times))
        scatter = means - slope * times
        return cls(slope, sqrt(float(scatter @ scatter / (len(blocks) - 2) / (times @ times))))

    @classmethod
    def mean(cls, drifts: Sequence["Drift"]) -> Self:
        """The mean of runs; its standard error is that of the runs' scatter, of a single run its own."""
        if not drifts:
            return cls(nan, nan)
        slopes = np.array([drift.slope for drift in drifts])
        if len(drifts) == 1:
            return cls(drifts[0].slope, drifts[0].standard_error)
        return cls(float(slopes.mean()), float(slopes.std(ddof=1)) / sqrt(len(slopes)))
