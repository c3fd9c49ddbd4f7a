"""The figures as Markdown tables that read well on a terminal too."""

from collections.abc import Mapping, Sequence
from math import isfinite
from statistics import median
from typing import Any

from lmlp_stream.cli.bench.stream.arms import REFERENCE

COLUMNS = (
    ("ensemble_energy_rmse_mev_per_atom", "E ens.", 1.0, 2),
    ("ensemble_force_rmse_mev_per_angstrom", "F ens.", 1.0, 1),
    (f"ensemble_energy_rmse_mev_per_atom_to_{REFERENCE}", "E ens. ratio", 1.0, 3),
    (f"ensemble_force_rmse_mev_per_angstrom_to_{REFERENCE}", "F ens. ratio", 1.0, 3),
    (f"members_energy_rmse_mev_per_atom_to_{REFERENCE}", "E single ratio", 1.0, 3),
    (f"members_force_rmse_mev_per_angstrom_to_{REFERENCE}", "F single ratio", 1.0, 3),
    ("forgetting_first_third", "forgetting 1st third, %", 100.0, 1),
    ("forgetting", "forgetting, %", 100.0, 1),
    ("backward_transfer", "backward transfer, meV/Å", 1.0, 1),
    ("forward_transfer", "forward transfer, %", 100.0, 0),
    ("labels_until_near", "labels to 1.5 ×", 1.0, 0),
    ("labels_until_near_new_element", "the same, new element, worst", 1.0, 0),
    ("steps_until_near", "steps to 1.5 ×", 1.0, 0),
    ("cpu_s_until_near", "CPU s to 1.5 ×", 1.0, 1),
    ("steps", "steps", 1.0, 0),
    ("cpu_s", "CPU s", 1.0, 0),
    ("cpu_ms_per_label_first_quarter", "CPU ms/label 1st quarter", 1.0, 2),
    ("cpu_ms_per_label_last_quarter", "last quarter", 1.0, 2),
    ("state_mb", "state MB", 1.0, 1),
    ("peak_rss_mb", "peak memory MB", 1.0, 0),
)
"""Figure, title, factor, digits."""

NOTES = (
    "Medians over seeds, smallest and largest in brackets. E: energy RMSE in meV/atom, F: force RMSE in meV/Å, on the "
    "test structures of all domains after the whole stream; ens.: of the ensemble's mean, single: mean over members; "
    f"ratio: to {REFERENCE}. Forgetting: relative rise of the force RMSE over domains between the moments when each "
    "was learned and the end. Backward transfer: mean over all domains but the last of the force RMSE at the end "
    "minus that when it was learned; above 0 errors rose. Forward transfer: share of the forces of a domain that was "
    "explained before its first label, 1 - RMSE/RMS. Labels, steps and CPU s to 1.5 ×: from the first label of a "
    "domain on until its force RMSE is within 1.5 times that at the end. Peak memory: resident, of the whole process."
)
MOST_DOMAINS = 30
"""Streams of more domains are shown without the errors on each after each."""


def report(figures: Mapping[str, Any]) -> str:
    """The table of all arms, what each accuracy cost, and the errors on each domain after each."""
    arms, domains = figures["arms"], [domain["name"] for domain in figures["domains"]]
    parts = [markdown(arms), _costs(arms)]
    if len(domains) <= MOST_DOMAINS:
        parts += [_errors(name, found, domains) for name, found in arms.items()]
    return "\n".join(parts)


def markdown(arms: Mapping[str, Any]) -> str:
    """The table of all arms, and what its columns mean."""
    rows = [[title for _, title, _, _ in COLUMNS]]
    rows += [
        [_cell(figures.get(key), factor, digits) for key, _, factor, digits in COLUMNS] for figures in arms.values()
    ]
    return f"{table(['', *arms], rows)}\n\n{NOTES}\n"


_SPENT = {"labels": 0, "steps": 0, "cpu_s": 1}
"""What an accuracy cost, and the digits that are shown of it."""


def _costs(arms: Mapping[str, Any]) -> str:
    """What each accuracy cost in each arm."""
    reference = next(iter(arms))
    sought = next(iter(arms[reference]["accuracies"].values()))
    titles = [f"{one['factor']:g} × = {_number(one['force_rmse_mev_per_angstrom'], 1)}" for one in sought]
    columns = [[_cost(seeds) for seeds in zip(*found["accuracies"].values(), strict=True)] for found in arms.values()]
    return (
        "Labels / steps / CPU s until the force RMSE over all domains, seen after each of them, was at most a "
        f"multiple of that of {reference} at the end, meV/Å; medians over seeds, –: half of them or more "
        "were never seen there.\n\n"
        f"{table(['', *arms], [titles, *columns])}\n"
    )


def _cost(seeds: Sequence[Mapping[str, float]]) -> str:
    return " / ".join(_number(median(one[key] for one in seeds), digits) for key, digits in _SPENT.items())


def _errors(name: str, found: Mapping[str, Any], domains: Sequence[str]) -> str:
    """The errors of an arm on each domain after each."""
    matrix = found["force_rmse_matrix_mev_per_angstrom"]
    columns = [[_number(value, 1) for value in column] for column in zip(*matrix, strict=True)]
    return (
        f"Force RMSE of {name} on each domain (column) after each (row), meV/Å; medians over seeds, –: not known.\n\n"
        f"{table(['', *domains], [domains, *columns])}\n"
    )


def table(names: Sequence[str], columns: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: `names` heads them; the first of `columns` holds the titles."""
    lines = [list(names), *(list(line) for line in zip(*columns, strict=True))]
    widths = [max(len(line[index]) for line in lines) for index in range(len(names))]
    lines.insert(1, [f"{'-' * (width - 1)}{'-' if index == 0 else ':'}" for index, width in enumerate(widths)])
    return "\n".join(f"| {' | '.join(map(_padded, line, widths, range(len(line))))} |" for line in lines)


def _padded(cell: str, width: int, index: int) -> str:
    return cell.ljust(width) if index == 0 else cell.rjust(width)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if isfinite(value) else "–"


def _cell(spread: Mapping[str, float] | None, factor: float, digits: int) -> str:
    if spread is None or not isfinite(spread["median"]):
        return "–"
    middle, low, high = (f"{factor * spread[name]:.{digits}f}" for name in ("median", "min", "max"))
    return middle if low == high else f"{middle} [{low}, {high}]"
