"""The table of accuracies as Markdown and as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmlp_stream.cli.terminal import json_text

Row = Mapping[str, Any]

_KINDS = (
    ("ensemble", "test", ""),
    ("one member", "test", "member_"),
    ("ensemble, training", "train", ""),
)
_ERRORS = (
    ("energy, meV/atom", "energy_{}_mev_per_atom"),
    ("energy, meV", "energy_{}_mev"),
    ("forces, meV/Å", "force_{}_mev_per_angstrom"),
)


def markdown(rows: Sequence[Row]) -> str:
    """One line for each run; errors as RMSE / MAE."""
    head = ["set", "settings", "train / test", "members", "functions", "steps", "CPU min"]
    head += [f"{kind}: {name}" for kind, _, _ in _KINDS for name, _ in _ERRORS]
    lines = ["Errors are RMSE / MAE.", "", _line(head), _line(["---"] * len(head))]
    return "\n".join([*lines, *(_line(_cells(row)) for row in rows)]) + "\n"


def write_tables(stem: Path, rows: Sequence[Row]) -> None:
    """Write `STEM.json` and `STEM.md`, over those that are there."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_name(f"{stem.name}.json").write_text(json_text(list(rows), indent=1) + "\n", encoding="utf-8")
    stem.with_name(f"{stem.name}.md").write_text(markdown(rows), encoding="utf-8")


def _cells(row: Row) -> list[str]:
    cells = [
        row["set"],
        " ".join(f"`{setting}`" for setting in row["settings"]),
        f"{row['n_train']} / {row['n_test']}",
        *(str(row[name]) for name in ("members", "n_functions", "steps")),
        f"{row['cpu_minutes']:.1f}",
    ]
    for _, part, prefix in _KINDS:
        figures = [
            (row[part][prefix + name.format("rmse")], row[part][prefix + name.format("mae")]) for _, name in _ERRORS
        ]
        cells += [f"{rmse:.3g} / {mae:.3g}" for rmse, mae in figures]
    return cells


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
