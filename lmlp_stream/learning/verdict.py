"""Is the learner improving, converged, drifting or forgetting? From trends of errors, with their standard errors.

Errors are compared as logarithms of the force RMSE of a structure: a ratio is a difference, and one wild structure
counts little. Prequential: the newest `WINDOW` labels against as many before them, with standard errors from means of
`BLOCK` consecutive labels (batch means: Law & Carson 1979, doi 10.1287/opre.27.5.1011), since neighbours in a stream
are near copies. Retention: each structure held out against its own past, an exponential mean over its examinations,
with standard errors from means over groups.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import exp, isnan, nan, sqrt

import numpy as np
from jaxtyping import Float

from lmlp_stream.learning.columns import read_text_column, text_column

BLOCK = 20
"""Labels of a block."""
WINDOW = 200
"""Labels on each side of the comparison."""
PAST = 0.25
"""Share of the newest examination in the past of a structure of the hold-out."""
MIN_GROUPS = 3
"""Groups of the hold-out without which it says nothing."""
SURE = 3.0
"""Standard errors of a change that is believed to be one for the worse; one for the better needs `LIKELY`."""
LIKELY = 2.0
DRIFT = 0.15
"""Smallest relative rise on new labels that is called drifting; nearby domains differ by less."""
LOSS = 0.1
"""Smallest relative rise on the hold-out that is called forgetting."""
GAIN = 0.03
"""Smallest relative fall that is called improving."""
_TINY = 1e-12


class Verdict(StrEnum):
    """What a person wants to know."""

    EARLY = "early"
    IMPROVING = "improving"
    CONVERGED = "converged"
    DRIFTING = "drifting"
    FORGETTING = "forgetting"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the logarithm of errors and its standard error; NaN where it is not known."""

    log_ratio: float = nan
    error: float = nan

    def __str__(self) -> str:
        """The change in percent, with its standard error."""
        ratio = exp(self.log_ratio)
        return f"{100 * (ratio - 1):+.0f} ± {100 * ratio * self.error:.0f} %"

    @property
    def known(self) -> bool:
        """Whether there were enough errors to compare."""
        return not isnan(self.log_ratio)

    def rose(self, least: float) -> bool:
        """Whether errors surely rose, by at least a share."""
        return self.log_ratio > SURE * self.error and self.log_ratio > np.log1p(least)

    def fell(self, least: float) -> bool:
        """Whether errors likely fell, by at least a share."""
        return self.log_ratio < -LIKELY * self.error and self.log_ratio < np.log1p(-least)


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict and its evidence, one sentence."""

    verdict: Verdict
    evidence: str


@dataclass(frozen=True, slots=True)
class Held:
    """One structure of the hold-out as it is predicted now.

    Attributes:
        id: Its id.
        group: Its near copies share it.
        absent: Whether its domain is none of those that arrive now.
        force_rmse: In eV/Å.
    """

    id: str
    group: str
    absent: bool
    force_rmse: float


def judge(arrivals: Change, held_out: Change, absent: Change) -> Ruling:
    """The verdict on changes of errors.

    Args:
        arrivals: On new labels, before they are learned.
        held_out: On the hold-out.
        absent: On the part of the hold-out whose domains do not arrive now.
    """
    on_new = f"the force error on the newest {WINDOW} labels changed by {arrivals} against the {WINDOW} before"
    on_old = (
        f"on the hold-out by {held_out} against its past" if held_out.known else "the hold-out is too small to tell"
    )
    if absent.rose(LOSS):
        return Ruling(
            Verdict.FORGETTING, f"the force error on held-out structures of absent domains changed by {absent}"
        )
    if not arrivals.known:
        return Ruling(Verdict.EARLY, f"fewer than {2 * WINDOW} labels were examined")
    if arrivals.rose(DRIFT):
        return Ruling(Verdict.DRIFTING, f"{on_new}, {on_old}")
    if arrivals.fell(GAIN) or held_out.fell(GAIN):
        return Ruling(Verdict.IMPROVING, f"{on_new}, {on_old}")
    return Ruling(Verdict.CONVERGED, f"{on_new}, {on_old}")


class Trend:
    """What the errors of a learner did lately; constant in time and memory."""

    def __init__(self) -> None:
        self._blocks: list[float] = []
        self._sum, self._n = 0.0, 0
        self._past: dict[str, float] = {}
        self._held_out, self._absent = Change(), Change()

    @property
    def ruling(self) -> Ruling:
        """The verdict now."""
        return judge(self._arrivals(), self._held_out, self._absent)

    def follow(self, force_rmses: Sequence[float]) -> None:
        """Take in the force RMSE of each new label, eV/Å, before it was learned."""
        for value in force_rmses:
            self._sum += _log(value)
            self._n += 1
            if self._n == BLOCK:
                self._blocks = [*self._blocks, self._sum / BLOCK][-2 * WINDOW // BLOCK :]
                self._sum, self._n = 0.0, 0

    def examine(self, held: Sequence[Held]) -> None:
        """Take in the hold-out as it is predicted now; what left it is forgotten."""
        known = [item for item in held if item.id in self._past]
        changes = [_log(item.force_rmse) - self._past[item.id] for item in known]
        self._held_out = _by_group(known, changes)
        some = [index for index, item in enumerate(known) if item.absent]
        self._absent = _by_group([known[index] for index in some], [changes[index] for index in some])
        self._past = {
            item.id: (1 - PAST) * self._past.get(item.id, _log(item.force_rmse)) + PAST * _log(item.force_rmse)
            for item in held
        }

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything `load_state_dict` needs."""
        return {
            "blocks": np.array(self._blocks, dtype=np.float64),
            "block": np.array([self._sum, self._n], dtype=np.float64),
            "past.ids": text_column(list(self._past)),
            "past.logs": np.array(list(self._past.values()), dtype=np.float64),
            "changes": np.array([[c.log_ratio, c.error] for c in (self._held_out, self._absent)]),
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on where `state_dict` was written."""
        self._blocks = [float(value) for value in state["blocks"]]
        self._sum, self._n = float(state["block"][0]), int(state["block"][1])
        logs = (float(value) for value in state["past.logs"])
        self._past = dict(zip(read_text_column(state["past.ids"]), logs, strict=True))
        self._held_out, self._absent = (Change(float(row[0]), float(row[1])) for row in state["changes"])

    def _arrivals(self) -> Change:
        half = WINDOW // BLOCK
        if len(self._blocks) < 2 * half:
            return Change()
        older, newer = np.array(self._blocks[:half]), np.array(self._blocks[half:])
        return Change(float(newer.mean() - older.mean()), sqrt((_variance(older) + _variance(newer)) / half))


def _by_group(held: Sequence[Held], changes: Sequence[float]) -> Change:
    """Mean change over structures; its standard error takes each group as one."""
    groups: dict[str, list[float]] = {}
    for item, change in zip(held, changes, strict=True):
        groups.setdefault(item.group, []).append(change)
    if len(groups) < MIN_GROUPS:
        return Change()
    mean = float(np.mean(changes))
    sums = np.array([sum(value - mean for value in of_group) for of_group in groups.values()])
    return Change(mean, sqrt(len(groups) / (len(groups) - 1) * float((sums**2).sum())) / len(changes))


def _variance(values: Float[np.ndarray, "n"]) -> float:
    return float(values.var(ddof=1))


def _log(force_rmse: float) -> float:
    return float(np.log(max(force_rmse, _TINY)))
