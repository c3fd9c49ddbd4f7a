"""Coverage in windows of a stream, and how wide the intervals are."""

from collections.abc import Mapping
from math import nan
from statistics import median

import numpy as np
from jaxtyping import Float

from lmlp_stream.cli.bench.coverage.run import Examined
from lmlp_stream.cli.bench.stream.table import table
from lmlp_stream.learning.evaluation import joined

NOMINAL = 0.9
QUANTITIES = {
    "energy": ("energy_inside", "energy_covered"),
    "forces": ("n_forces_inside", "n_forces_covered"),
}
"""Fields of an `ERROR_ROW` that count what is inside calibrated and raw intervals."""
TITLES = {
    "worst": "worst window",
    "raw": "raw, whole stream",
    "worst_from_switch": "worst from a switch on",
    "at_switch": "at a switch",
    "past_switch": "past it",
    "tested": "snapshot on test structures",
    "width": "median half width",
}
NOTES = (
    "Coverage of 90 % intervals in %: over several seeds the median, of worst windows the worst. Labels that could not "
    "be predicted when they came, because an element or a composition was new, are left out. Worst window: of that "
    "many labels, anywhere in the stream; –: the stream is shorter. From a switch on: of the windows that begin where "
    "another domain begins. At a switch and past it: the first 200 labels of a domain and the next 200, all domains "
    "with so many together. Half widths in meV/atom and meV/Å."
)
RECOVERY = 200
"""Labels in which a switch of domains is to be overcome."""


def sliding(rows: np.ndarray, inside: str, quantity: str, size: int) -> Float[np.ndarray, "n"]:
    """Coverage in each window of `size` consecutive rows; NaN where there are fewer, or none."""
    if len(rows) < max(1, size):
        return np.array([nan])
    total = rows["n_forces"] if quantity == "forces" else (~np.isnan(rows["energy_error"])).astype(np.float64)
    held = np.where(total > 0, rows[inside], 0.0)
    sums, totals = (np.concatenate([[0.0], np.cumsum(column)]) for column in (held, total))
    spans = totals[size:] - totals[:-size]
    covered: Float[np.ndarray, n] = np.divide(
        sums[size:] - sums[:-size], spans, out=np.full_like(spans, nan), where=spans > 0
    )
    return covered


def coverage(examined: Examined, window: int) -> dict[str, dict[str, float | None]]:
    """The figures of one stream by quantity; None where there is no such window or label.

    Args:
        examined: What the stream showed.
        window: Labels of a window.
    """
    figures = {}
    for quantity, (inside, raw) in QUANTITIES.items():
        windows = sliding(examined.rows, inside, quantity, window)
        after = [float(windows[place]) for place in examined.switches if place < len(windows)]
        found = {
            "worst": worst(windows),
            "raw": float(sliding(examined.rows, raw, quantity, len(examined.rows))[0]),
            "worst_from_switch": worst(np.array(after)),
            "at_switch": _past(examined, inside, quantity, 0),
            "past_switch": _past(examined, inside, quantity, RECOVERY),
            "tested": float(sliding(examined.tested, inside, quantity, len(examined.tested))[0]),
            "width": _width(examined.rows, quantity),
        }
        figures[quantity] = {name: None if np.isnan(value) else value for name, value in found.items()}
    return figures


def worst(windows: Float[np.ndarray, "n"]) -> float:
    """The coverage farthest from nine in ten; NaN where there is none."""
    known = windows[~np.isnan(windows)]
    return float(known[np.argmax(np.abs(known - NOMINAL))]) if len(known) else nan


def _past(examined: Examined, inside: str, quantity: str, labels: int) -> float:
    """Coverage of the `RECOVERY` labels that come so many labels after a switch, all switches together."""
    ends = (*examined.switches[1:], len(examined.rows))
    parts = [
        examined.rows[switch + labels : switch + labels + RECOVERY]
        for switch, end in zip(examined.switches, ends, strict=False)
        if end - switch >= 2 * RECOVERY
    ]
    rows = joined(parts)
    return float(sliding(rows, inside, quantity, len(rows))[0]) if parts else nan


def _width(rows: np.ndarray, quantity: str) -> float:
    """Median half width over structures, meV/atom or meV/Å."""
    labelled = rows["n_forces"] > 0
    widths = (
        rows["energy_width"] if quantity == "energy" else (rows["force_width"] / rows["n_forces"].clip(1))[labelled]
    )
    known = widths[~np.isnan(widths)]
    return 1000.0 * float(np.median(known)) if len(known) else nan


def markdown(arms: Mapping[str, Mapping[int, Mapping[str, Mapping[str, float | None]]]]) -> str:
    """The table of all arms and quantities over seeds, and what its rows mean."""
    columns = [list(TITLES.values())]
    names = []
    for arm, by_seed in arms.items():
        for quantity in QUANTITIES:
            names.append(f"{arm}, {quantity}")
            columns.append([_cell(key, [figures[quantity][key] for figures in by_seed.values()]) for key in TITLES])
    return f"{table(['', *names], columns)}\n\n{NOTES}\n"


def _cell(key: str, values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    if key == "width":
        return f"{median(known):.3g}"
    return f"{100 * (worst(np.array(known)) if key.startswith('worst') else median(known)):.1f}"
