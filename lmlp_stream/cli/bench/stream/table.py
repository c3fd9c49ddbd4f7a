"""The figures as a Markdown table that reads well on a terminal too."""

from collections.abc import Mapping, Sequence
from math import isfinite
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
    ("backward_transfer", "backward transfer", 1.0, 1),
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
    "Medians over seeds, smallest and largest in brackets. E: energy RMSE in meV/atom, F: force RMSE in meV/Å, on the"
    " test structures of all domains after the whole stream; ens.: of the ensemble's mean, single: mean over members;"
    f" ratio: to {REFERENCE}. Forgetting: relative rise of the force RMSE over domains between the moments when each "
    "was learned and the end. Backward transfer: mean over all domains but the last of the force RMSE at the end "
    "minus that when it was learned, meV/Å; above 0 errors rose. Forward transfer: share of the forces of a domain "
    "that was explained before its first label, 1 - RMSE/RMS. Labels, steps and CPU s to 1.5 ×: from the first label "
    "of a domain on until its force RMSE is within 1.5 times that at the end. Peak memory: resident, of the whole "
    "process."
)


def markdown(arms: Mapping[str, Any]) -> str:
    """The table of all arms, and what its columns mean."""
    rows = [[title for _, title, _, _ in COLUMNS]]
    rows += [
        [_cell(figures.get(key), factor, digits) for key, _, factor, digits in COLUMNS] for figures in arms.values()
    ]
    return f"{table(['', *arms], rows)}\n\n{NOTES}\n"


def table(names: Sequence[str], columns: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: `names` heads them; the first of `columns` holds the titles."""
    lines = [list(names), *(list(line) for line in zip(*columns, strict=True))]
    widths = [max(len(line[index]) for line in lines) for index in range(len(names))]
    lines.insert(1, [f"{'-' * (width - 1)}{'-' if index == 0 else ':'}" for index, width in enumerate(widths)])
    return "\n".join(f"| {' | '.join(map(_padded, line, widths, range(len(line))))} |" for line in lines)


def _padded(cell: str, width: int, index: int) -> str:
    return cell.ljust(width) if index == 0 else cell.rjust(width)


def _cell(spread: Mapping[str, float] | None, factor: float, digits: int) -> str:
    if spread is None or not isfinite(spread["median"]):
        return "–"
    middle, low, high = (f"{factor * spread[name]:.{digits}f}" for name in ("median", "min", "max"))
    return middle if low == high else f"{middle} [{low}, {high}]"
