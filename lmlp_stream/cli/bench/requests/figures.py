"""Labels needed for equal force RMSE."""

from collections.abc import Mapping, Sequence
from math import exp, inf, log
from statistics import median

from lmlp_stream.cli.bench.requests.run import Point, Rule
from lmlp_stream.cli.bench.stream.table import table

Curves = Mapping[Rule, Mapping[int, Sequence[Point]]]
"""Learning curves by rule and seed."""

NOTE = (
    "Medians over seeds. Each line: the force RMSE in meV/Å that so many labels drawn at random reach, the labels that "
    "the rule needs for the same RMSE (between two examinations interpolated in logarithms), and their ratio. –: not "
    "reached with the labels that were allowed."
)


def labels_for(curve: Sequence[Point], force_rmse: float) -> float:
    """Labels after which a curve first is at a force RMSE in meV/Å; infinite where it never is."""
    before = None
    for point in curve:
        if point.force_rmse <= force_rmse:
            if before is None:
                return float(point.labels)
            share = log(before.force_rmse / force_rmse) / log(before.force_rmse / point.force_rmse)
            return exp(log(before.labels) + share * log(point.labels / before.labels))
        before = point
    return inf


def needed(curves: Curves, rule: Rule) -> list[dict[str, float | None]]:
    """At each examination of the random arm: labels, force RMSE, the rule's labels, ratio. None: not reached."""
    rows = []
    by_seed = curves[Rule.RANDOM]
    for place in range(min(len(curve) for curve in by_seed.values())):
        points = {seed: curve[place] for seed, curve in by_seed.items()}
        labels = {seed: labels_for(curves[rule][seed], point.force_rmse) for seed, point in points.items()}
        rows.append(
            {
                "random_labels": median(point.labels for point in points.values()),
                "force_rmse_mev_per_angstrom": median(point.force_rmse for point in points.values()),
                "labels": median(labels.values()),
                "ratio": median(labels[seed] / point.labels for seed, point in points.items()),
            }
        )
    return [{name: None if value == inf else value for name, value in row.items()} for row in rows]


def markdown(found: Mapping[Rule, Sequence[Mapping[str, float | None]]]) -> str:
    """One table for each rule."""
    parts = []
    for rule, rows in found.items():
        titles = ["labels at random", "force RMSE", f"labels by {rule}", "ratio"]
        columns = [[_cell(row[name], digits) for name, digits in _DIGITS.items()] for row in rows]
        lines = list(zip(*([titles, *columns]), strict=True))
        parts.append(table(list(lines[0]), [list(column) for column in zip(*lines[1:], strict=True)]))
    return "\n\n".join(parts) + f"\n\n{NOTE}\n"


_DIGITS = {"random_labels": 0, "force_rmse_mev_per_angstrom": 0, "labels": 0, "ratio": 2}


def _cell(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
