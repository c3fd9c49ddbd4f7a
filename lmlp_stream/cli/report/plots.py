"""The report's plots: learning curve, parity, calibration and timeline."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from math import ceil, erf, isnan, sqrt
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from lmlp_stream.cli.report.figures import RequestMark, TestFigures
from lmlp_stream.cli.report.history import Arrival, History, energy_rmse, force_rmse, windows
from lmlp_stream.cli.report.svg import Plot, Scale, fitted
from lmlp_stream.learning.evaluation import NORMAL_90

MAX_DOTS = 2500
"""Most dots of one kind in a plot; of more, evenly spaced ones are shown."""
WINDOW_LABELS = 20

T = TypeVar("T")


def force_curve(history: History) -> str:
    """Prequential force error over the stream, with the hold-out errors of the announced snapshots."""
    return _curve(history, force_rmse, "force_rmse_ev_per_angstrom", "force RMSE, eV/Å", 1.0)


def energy_curve(history: History) -> str:
    """Prequential energy error per atom over the stream, with the hold-out errors of the announced snapshots."""
    return _curve(history, energy_rmse, "energy_rmse_ev_per_atom", "energy RMSE, meV/atom", 1000.0)


def _curve(
    history: History,
    measure: Callable[[Sequence[Arrival]], float | None],
    error_name: str,
    label: str,
    unit: float,
) -> str:
    times = [arrival.time for arrival in history.arrivals]
    told = thinned([(float(bisect_right(times, line.time)), line) for line in history.announced])
    held_out = [(place, line.errors[error_name] * unit) for place, line in told if error_name in line.errors]
    parts = windows(history.arrivals, max(8, min(60, len(history.arrivals) // WINDOW_LABELS)))
    line = _window_points(parts, measure, unit)
    single = [
        (float(arrival.index), error * unit)
        for arrival in history.arrivals
        if (error := measure([arrival])) is not None and error > 0.0
    ]
    shown = thinned(single)
    low_high = np.quantile([y for _, y in shown], [0.03, 0.995]).tolist() if shown else []
    x = Scale(0.0, max(float(len(history.arrivals)), 1.0), "labels in the order of their arrival")
    y = fitted([*low_high, *(value for _, value in line + held_out)], label, logarithmic=True)
    plot = Plot(x, y, f"Prequential {label} over the stream")
    for place, snapshot in told:
        plot.rule(place, "snapshot", title=f"snapshot after {snapshot.labels_learned} labels")
    plot.dots(shown, "faint", radius=1.5)
    plot.line(line, "first")
    plot.dots(held_out, "second", radius=3.6, titles=[f"hold-out {value:.3g}" for _, value in held_out])
    return plot.render()


def _window_points(
    parts: Sequence[Sequence[Arrival]], measure: Callable[[Sequence[Arrival]], float | None], unit: float
) -> list[tuple[float, float]]:
    points = []
    for part in parts:
        error = measure(part)
        if error is not None and error > 0.0:
            points.append(((part[0].index + part[-1].index) / 2.0, error * unit))
    return points


def energy_parity(test: TestFigures) -> str:
    """Predicted over reference energies per atom, relative to the mean of each domain; of those determined."""
    reference, predicted = test.energies[test.is_determined], test.predicted_energies[test.is_determined]
    return _parity(1000.0 * reference, 1000.0 * predicted, "energy relative to its domain's mean, meV/atom", 2.6)


def force_parity(test: TestFigures) -> str:
    """Predicted over reference force components."""
    return _parity(test.forces, test.predicted_forces, "force component, eV/Å", 1.7)


def _parity(reference: Float[np.ndarray, "F"], predicted: Float[np.ndarray, "F"], quantity: str, radius: float) -> str:
    x = fitted(reference.tolist(), f"reference {quantity}")
    scale = fitted([*reference.tolist(), *np.clip(predicted, 2 * x.low, 2 * x.high).tolist()], "")
    plot = Plot(
        Scale(scale.low, scale.high, f"reference {quantity}"),
        Scale(scale.low, scale.high, "predicted"),
        f"Predicted over reference {quantity}",
        height=420.0,
    )
    plot.line([(scale.low, scale.low), (scale.high, scale.high)], "diagonal")
    plot.dots(thinned(list(zip(reference.tolist(), predicted.tolist(), strict=True))), "cloud", radius=radius)
    return plot.render()


def coverage(test: TestFigures) -> str:
    """Share of force components inside their interval over the share a normal distribution promises.

    Calibrated intervals hold 90 %; other shares are those of a normal distribution that agrees there.
    """
    nominal = np.linspace(0.0, 1.0, 41)
    plot = Plot(Scale(0.0, 1.0, "promised share"), Scale(0.0, 1.0, "observed share"), "Coverage", height=420.0)
    plot.line([(0.0, 0.0), (1.0, 1.0)], "diagonal")
    for sigma, style in ((test.forces_disagreement, "muted"), (test.forces_uncertainty / NORMAL_90, "first")):
        levels = promised_levels(test.predicted_forces - test.forces, sigma)
        plot.line([(float(share), float(np.mean(levels <= share))) for share in nominal], style)
    return plot.render()


def promised_levels(errors: Float[np.ndarray, "F"], sigma: Float[np.ndarray, "F"]) -> Float[np.ndarray, "F"]:
    """Smallest central share of a normal distribution of width `sigma` that contains each error."""
    ratios = np.abs(errors) / np.maximum(sigma, 1e-12)
    return np.array([erf(ratio / sqrt(2.0)) for ratio in ratios.tolist()])


def error_over_uncertainty(test: TestFigures) -> str:
    """Force error in tenths of the components, ordered by what the members disagree."""
    points = binned_errors(test.predicted_forces - test.forces, test.forces_disagreement)
    x = fitted([value for value, _ in points], "disagreement of the members, eV/Å", logarithmic=True)
    y = fitted([value for _, value in points] + [x.low, x.high], "force RMSE, eV/Å", logarithmic=True)
    plot = Plot(x, y, "Force error over disagreement", height=420.0)
    plot.line([(x.low, x.low), (x.high, x.high)], "diagonal")
    plot.line(points, "first")
    plot.dots(points, "first", radius=4.0, titles=[f"RMSE {error:.3g} at {value:.3g} eV/Å" for value, error in points])
    return plot.render()


def binned_errors(
    errors: Float[np.ndarray, "F"], sigma: Float[np.ndarray, "F"], n_bins: int = 10
) -> list[tuple[float, float]]:
    """Root mean square of (sigma, error) in bins of equal count, by rising sigma; empty without disagreement."""
    if not np.any(sigma > 0.0):
        return []
    order = np.argsort(sigma, kind="stable")
    return [
        (float(np.sqrt(np.mean(sigma[part] ** 2))), float(np.sqrt(np.mean(errors[part] ** 2))))
        for part in np.array_split(order, min(n_bins, len(order)))
    ]


def timeline(history: History, requests: Sequence[RequestMark]) -> str:
    """When labels came, snapshots were announced or withheld, labels were asked for and ticks were repeated."""
    times = [tick.time for tick in history.ticks] + [mark.time for mark in requests]
    begin = min(times, default=0.0)
    length = max(max(times, default=1.0) - begin, 1.0)
    unit, name = (1.0, "s") if length < 600.0 else (60.0, "min") if length < 4 * 3600.0 else (3600.0, "h")
    lanes = {"labels": 5.0, "snapshots": 4.0, "requests": 3.0, "answers": 2.0, "repeated": 1.0}
    x = Scale(-0.015 * length / unit, 1.01 * length / unit, f"time, {name}")
    plot = Plot(x, Scale(0.4, 5.6, ""), "Timeline", width=1130.0, height=250.0)

    def place(time: float, lane: str) -> tuple[float, float]:
        return (time - begin) / unit, lanes[lane]

    for tick in thinned(history.ticks):
        plot.dots([place(tick.time, "labels")], "cloud", radius=1.5 + 0.45 * sqrt(tick.n_new))
    for line in thinned(history.snapshots):
        title = f"{line.labels_learned} labels: " + ("announced" if line.announced else ", ".join(line.reasons))
        plot.dots([place(line.time, "snapshots")], "second" if line.announced else "hollow", radius=5.0, titles=[title])
    plot.dots(
        [place(mark.time, "requests") for mark in thinned(requests)],
        "third",
        titles=[f"{mark.requester}: {_doubt(mark)}" for mark in thinned(requests)],
    )
    plot.dots([place(arrival.time, "answers") for arrival in thinned(history.answers)], "first")
    plot.dots([place(time, "repeated") for time in history.restarts], "warn", radius=4.0)
    return plot.render(y_labels=[(level, lane) for lane, level in lanes.items()])


def _doubt(mark: RequestMark) -> str:
    return "an unknown element" if isnan(mark.uncertainty) else f"{mark.uncertainty:.2f} eV/Å"


def thinned(items: Sequence[T]) -> Sequence[T]:
    """At most `MAX_DOTS` of the items, evenly spaced and in order."""
    return items[:: max(1, ceil(len(items) / MAX_DOTS))]
