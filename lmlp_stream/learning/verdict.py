"""Is the learner improving, converged, drifting or forgetting? From trends of errors, with their standard errors.

Errors are compared as logarithms of the force RMSE of a structure: a ratio is a difference.

Prequential: the newest `WINDOW` labels against as many before them, and likewise the newest `LONG_WINDOW`, with
standard errors from means of `BLOCK` consecutive labels (batch means: Law & Carson 1979, doi 10.1287/opre.27.5.1011),
since neighbours in a stream are near copies. The means are trimmed, so that single wild structures count little.

Retention: each structure held out against its own past, with standard errors from means over groups. The past is an
exponential mean over examinations, which follows a rise slowly on domains that do not arrive, so that small losses
add up. Structures that were forgotten keep the past that they had until the loss is made good, whatever comes and goes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import exp, isnan, log1p, nan, sqrt

import numpy as np
from jaxtyping import Float

from lmlp_stream.learning.columns import read_text_column, text_column

BLOCK = 20
"""Labels of a block."""
WINDOW = 200
"""Labels on each side of the comparison."""
LONG_WINDOW = 1000
"""The same of the comparison that sees what the other is too short for: slow changes, and those in much noise."""
TRIMMED = 2
"""Labels of a block with the largest errors, and with the smallest, that do not count."""
PAST = 0.25
"""Share of the newest examination in the past of a structure of the hold-out."""
PAST_OF_A_RISE = 0.05
"""The same on absent domains where errors rose; with such noise as real streams have, 3 %, 2 % too low in the end."""
ARRIVING = 60
"""Newest labels among which a domain that does not arrive has none."""
MIN_GROUPS = 3
"""Groups of the hold-out without which it says nothing."""
SURE = 3.0
"""Standard errors of a change that is believed to be one for the worse; one for the better needs `LIKELY`."""
LIKELY = 2.0
DRIFT = 0.15
"""Smallest relative rise on new labels that is called drifting; nearby domains differ by less. Errors have converged
where neither such a rise nor the fall that undoes one is likely."""
LOSS = 0.15
"""Smallest relative rise on the hold-out that is called forgetting."""
MADE_GOOD = 0.05
"""Relative rise below which it is no longer."""
GAIN = 0.03
"""Smallest relative fall that is called improving."""
_TINY = 1e-12


class Verdict(StrEnum):
    """What a person wants to know; early: too few labels to compare, unclear: the changes are too uncertain."""

    EARLY = "early"
    IMPROVING = "improving"
    CONVERGED = "converged"
    UNCLEAR = "unclear"
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
        return self.log_ratio > SURE * self.error and self.log_ratio > log1p(least)

    def fell(self, least: float) -> bool:
        """Whether errors likely fell, by at least a share."""
        return self.log_ratio < -LIKELY * self.error and self.log_ratio < log1p(-least)

    def within(self, most: float) -> bool:
        """Whether errors likely neither rose by a share, nor fell by what a rise by this share undoes."""
        return abs(self.log_ratio) + LIKELY * self.error < log1p(most)


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


def judge(arrivals: Change, long_run: Change, held_out: Change, forgotten: Change) -> Ruling:
    """The verdict on changes of errors.

    Args:
        arrivals: On the newest `WINDOW` labels, before they are learned.
        long_run: On the newest `LONG_WINDOW` labels, likewise.
        held_out: On the hold-out.
        forgotten: On structures of the hold-out that were forgotten; not known where there are none.
    """
    if forgotten.known:
        return Ruling(
            Verdict.FORGETTING, f"the force error on held-out structures of absent domains changed by {forgotten}"
        )
    if not arrivals.known:
        return Ruling(Verdict.EARLY, f"fewer than {2 * WINDOW} labels were examined")
    on_new = f"the force error on the newest {WINDOW} labels changed by {arrivals} against the {WINDOW} before"
    if long_run.known:
        on_new += f", on the newest {LONG_WINDOW} by {long_run}"
    on_old = (
        f"on the hold-out by {held_out} against its past" if held_out.known else "the hold-out is too small to tell"
    )
    return Ruling(_course(arrivals, long_run, held_out), f"{on_new}, {on_old}")


def _course(arrivals: Change, long_run: Change, held_out: Change) -> Verdict:
    if arrivals.rose(DRIFT):
        return Verdict.DRIFTING
    if arrivals.fell(GAIN) or long_run.fell(GAIN) or held_out.fell(GAIN):
        return Verdict.IMPROVING
    if long_run.rose(DRIFT):
        return Verdict.DRIFTING
    return Verdict.CONVERGED if arrivals.within(DRIFT) or long_run.within(DRIFT) else Verdict.UNCLEAR


class Trend:
    """What the errors of a learner did lately; constant in time and memory."""

    def __init__(self) -> None:
        self._blocks: list[float] = []
        self._block: list[float] = []
        self._past: dict[str, float] = {}
        self._forgotten: set[str] = set()
        self._held_out, self._loss = Change(), Change()

    @property
    def ruling(self) -> Ruling:
        """The verdict now."""
        return judge(self._arrivals(WINDOW), self._arrivals(LONG_WINDOW), self._held_out, self._loss)

    def follow(self, force_rmses: Sequence[float]) -> None:
        """Take in the force RMSE of each new label, eV/Å, before it was learned."""
        for value in force_rmses:
            self._block.append(_log(value))
            if len(self._block) == BLOCK:
                mean = float(np.mean(sorted(self._block)[TRIMMED:-TRIMMED]))
                self._blocks = [*self._blocks, mean][-2 * LONG_WINDOW // BLOCK :]
                self._block = []

    def examine(self, held: Sequence[Held]) -> None:
        """Take in the hold-out as it is predicted now; what left it is forgotten."""
        known = [item for item in held if item.id in self._past]
        self._held_out = self._change(known)
        absent = [item for item in known if item.absent and item.id not in self._forgotten]
        change = self._change(absent)
        if change.rose(LOSS):
            self._forgotten |= {item.id for item in absent}
        self._loss = self._change([item for item in known if item.id in self._forgotten])
        if not self._loss.log_ratio > log1p(MADE_GOOD):
            self._forgotten, self._loss = set(), Change()
        rising = {item.id for item in absent} if change.log_ratio > 0.0 else set()
        self._past = {item.id: self._followed(item, item.id in rising) for item in held}
        self._forgotten &= set(self._past)

    def _change(self, known: Sequence[Held]) -> Change:
        return _by_group(known, [_log(item.force_rmse) - self._past[item.id] for item in known])

    def _followed(self, item: Held, rising: bool) -> float:
        now = _log(item.force_rmse)
        past = self._past.get(item.id, now)
        share = 0.0 if item.id in self._forgotten else PAST_OF_A_RISE if rising else PAST
        return past + share * (now - past)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything `load_state_dict` needs."""
        return {
            "blocks": np.array(self._blocks, dtype=np.float64),
            "block": np.array(self._block, dtype=np.float64),
            "past.ids": text_column(list(self._past)),
            "past.logs": np.array(list(self._past.values()), dtype=np.float64),
            "past.forgotten": np.array([id_ in self._forgotten for id_ in self._past], dtype=np.bool_),
            "changes": np.array([[c.log_ratio, c.error] for c in (self._held_out, self._loss)]),
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on where `state_dict` was written."""
        self._blocks = [float(value) for value in state["blocks"]]
        self._block = [float(value) for value in state["block"]]
        ids = read_text_column(state["past.ids"])
        self._past = dict(zip(ids, (float(value) for value in state["past.logs"]), strict=True))
        self._forgotten = {id_ for id_, is_forgotten in zip(ids, state["past.forgotten"], strict=True) if is_forgotten}
        self._held_out, self._loss = (Change(float(row[0]), float(row[1])) for row in state["changes"])

    def _arrivals(self, window: int) -> Change:
        half = window // BLOCK
        if len(self._blocks) < 2 * half:
            return Change()
        older, newer = np.array(self._blocks[-2 * half : -half]), np.array(self._blocks[-half:])
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
