"""Intervals that hold nine labels of ten: online for what arrives, from the hold-out for what is announced.

Online, the factor q of an interval q · max(floor, c · std) follows its misses (quantile tracking, the proportional part
of conformal PID control: Angelopoulos, Candès & Tibshirani 2023, arXiv:2307.16895, eq. 4; adaptive conformal inference:
Gibbs & Candès 2021, arXiv:2106.00170), here in the logarithm, so that one rate fits every unit:

    log q ← log q + rate · (share of labels missed − 0.1)

Whatever the stream does, the shares missed in any T labels average to 0.1 + (change of log q) / (rate · T). The forces
of one structure are one label here, however many they are: they miss together. H is not C: forces have a factor and a
floor for each element. Floors are root mean squared errors of the newest labels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, nan, sqrt

import numpy as np
from jaxtyping import Float, Int

from lmlp_stream.learning.residuals import Residuals
from lmlp_stream.potential.uncertainty import SCALE, Intervals, Level, Widths

MISSED = 0.1
"""Share of labels outside the intervals."""
RATE = 0.1
"""Step of log q: in 1,000 labels the shares missed stray from 0.1 by a hundredth of the change of log q."""
NEWEST = 50
"""Labels whose errors make a floor."""
OUTLIER = 10.0
"""Most that an error counts in a floor, in max(floor, c · std): one bad label does not widen the intervals for long."""
LARGEST = 1e3
"""Most that it counts where floor and std are still 0, eV or eV/Å."""
STEADY = 500
"""Labels over which log q is averaged for a snapshot."""
MIN_HELD_GROUPS = 9
"""Groups of the hold-out that determine a factor, even if all labels of a group are one: nine and one unseen are ten.
With fewer, a snapshot takes the averaged one."""
ROUNDING = 1e-9
"""Of sums of shares of groups."""

ANY_ELEMENT = 0
"""Stands for forces on atoms of whatever element where atomic numbers stand for the others; energies take -1."""
ENERGY = -1


@dataclass(slots=True)
class _Track:
    """One factor as it follows its misses."""

    log_factor: float = 0.0
    steady: float = 0.0
    mean_square: float = 0.0
    n: float = 0.0

    @property
    def level(self) -> Level:
        return Level(sqrt(self.mean_square), exp(self.log_factor))

    @property
    def steady_level(self) -> Level:
        return Level(sqrt(self.mean_square), exp(self.steady) if self.n else nan)

    def capped(self, sizes: Float[np.ndarray, "n"], std: Float[np.ndarray, "n"]) -> float:
        """Mean square of errors, none counted as more than it may."""
        expected = np.maximum(sqrt(self.mean_square), SCALE * std)
        return float(np.square(np.minimum(sizes, np.where(expected > 0.0, OUTLIER * expected, LARGEST))).mean())

    def learn(self, missed: float, square: float) -> None:
        """Take in one label: the share of it that was missed, and its mean squared error."""
        self.n += 1.0
        self.log_factor += RATE * (missed - MISSED)
        self.steady += (self.log_factor - self.steady) / min(self.n, STEADY)
        self.mean_square += (square - self.mean_square) / min(self.n, NEWEST)


class Conformal:
    """The intervals of what arrives, label after label; constant in time and memory."""

    def __init__(self) -> None:
        self._tracks: dict[int, _Track] = {}

    @property
    def steady(self) -> Intervals:
        """The intervals of the newest `STEADY` labels on average; unknown before the first label."""
        return self._intervals(lambda track: track.steady_level)

    @property
    def now(self) -> Intervals:
        """The intervals of the next label."""
        return self._intervals(lambda track: track.level)

    def examine(self, found: Residuals) -> Widths:
        """Half widths of what was predicted, each structure's from the labels of those before it."""
        widths = Widths(np.full_like(found.energy, nan), np.full_like(found.forces, nan, dtype=np.float64))
        for index in range(len(found.energy)):
            energy = slice(index, index + 1)
            widths.energy[energy] = self._follow(ENERGY, found.energy[energy], found.energy_std[energy])
            atoms = np.flatnonzero(found.structure_index == index)
            self._follow(ANY_ELEMENT, found.forces[atoms], found.forces_std[atoms])
            for z in np.unique(found.atomic_numbers[atoms]):
                some = atoms[found.atomic_numbers[atoms] == z]
                widths.forces[some] = self._follow(int(z), found.forces[some], found.forces_std[some])
        return widths

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything `load_state_dict` needs."""
        rows = [(t.log_factor, t.steady, t.mean_square, t.n) for t in self._tracks.values()]
        return {
            "keys": np.array(list(self._tracks), dtype=np.int64),
            "tracks": np.array(rows, dtype=np.float64).reshape(-1, 4),
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on where `state_dict` was written."""
        self._tracks = {
            int(key): _Track(*(float(value) for value in row))
            for key, row in zip(state["keys"], state["tracks"], strict=True)
        }

    def _intervals(self, level: Callable[[_Track], Level]) -> Intervals:
        levels = {key: level(track) for key, track in sorted(self._tracks.items())}
        return Intervals(levels.pop(ENERGY, Level()), levels.pop(ANY_ELEMENT, Level()), levels)

    def _follow(
        self, key: int, errors: Float[np.ndarray, "..."], std: Float[np.ndarray, "..."]
    ) -> Float[np.ndarray, "..."]:
        """Half widths before these errors were known; then learn from them."""
        track = self._tracks.setdefault(key, _Track())
        widths = track.level.widths(std)
        known = ~np.isnan(errors)
        if known.any():
            sizes = np.abs(errors[known])
            track.learn(float((sizes > widths[known]).mean()), track.capped(sizes, std[known]))
        return widths


def held_out_intervals(held_out: Sequence[Residuals], groups: Sequence[str], otherwise: Intervals) -> Intervals:
    """Intervals that hold nine labels of ten, on average over groups like those of the hold-out.

    Split conformal prediction (Vovk, Gammerman & Shafer 2005; Lei et al. 2018, doi 10.1080/01621459.2017.1307116) where
    every group counts alike, however many labels it has. Those of one group, such as a trajectory, may err together:
    how the shares missed scatter over groups says of how many independent labels the hold-out consists, K² / Σ_g 1/n_g
    for K groups of n_g labels at most (design effect and effective size: Kish 1965, Survey Sampling). With one per
    group the level is that of hierarchical conformal prediction (Lee, Barber & Willett 2023, arXiv:2306.06342), which
    holds however they err. In between it is an estimate, and promises nothing for a finite number of groups.

    Args:
        held_out: Residuals of the hold-out now.
        groups: Group of each structure of these, in their order.
        otherwise: Levels where the hold-out has fewer than `MIN_HELD_GROUPS` groups with labels.
    """
    if not held_out:
        return otherwise
    found = Residuals.joined(held_out)
    group = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)[1]
    of_component = np.repeat(group[found.structure_index, None], 3, axis=1)
    by_element = dict(otherwise.by_element)
    for z in np.unique(found.atomic_numbers):
        some = found.atomic_numbers == z
        by_element[int(z)] = _held_out_level(
            found.forces[some], found.forces_std[some], of_component[some], by_element.get(int(z), otherwise.forces)
        )
    return Intervals(
        _held_out_level(found.energy, found.energy_std, group, otherwise.energy),
        _held_out_level(found.forces, found.forces_std, of_component, otherwise.forces),
        by_element,
    )


def _held_out_level(
    errors: Float[np.ndarray, "..."], std: Float[np.ndarray, "..."], group: Int[np.ndarray, "..."], otherwise: Level
) -> Level:
    """The level that covers nine errors of ten in a group like these; `otherwise` where few groups are known."""
    known = ~np.isnan(errors)
    errors, std, group = np.abs(errors[known]), std[known], group[known]
    _, group, sizes = np.unique(group, return_inverse=True, return_counts=True)
    n_groups = len(sizes)
    if n_groups < MIN_HELD_GROUPS or not errors.any():
        return otherwise
    shares = 1.0 / sizes
    floor = sqrt(float(np.average(np.square(errors), weights=shares[group])))
    scores = errors / np.maximum(floor, SCALE * std)
    order = np.argsort(scores, kind="stable")
    groups_held = np.cumsum(shares[group[order]])

    def holding(share: float) -> float:
        rank = int(np.searchsorted(groups_held, share * n_groups - ROUNDING))
        return float(scores[order[min(rank, len(order) - 1)]])

    missed = np.bincount(group, weights=scores > holding(1.0 - MISSED)) * shares
    variance, most = float(missed.var(ddof=1)) / n_groups, n_groups**2 / float(shares.sum())
    n_independent = min(max(MISSED * (1.0 - MISSED) / variance, n_groups), most) if variance else most
    return Level(floor, holding((1.0 - MISSED) * (1.0 + 1.0 / n_independent)))
