"""The figures as pictures: errors over the stream, and the matrix of each arm."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from lmlp_stream.cli.bench.stream.arms import REFERENCE
from lmlp_stream.cli.bench.stream.errors import SquaredErrors, pooled
from lmlp_stream.cli.bench.stream.figures import matrix
from lmlp_stream.cli.bench.stream.run import Run


def draw_curves(path: Path, runs: Mapping[str, Mapping[int, Run]]) -> None:
    """Force RMSE on the test structures of the domains seen so far, after each domain; one thin line for each seed."""
    figure = Figure(figsize=(9.0, 4.5), layout="constrained")
    axes = figure.subplots()
    for index, (name, by_seed) in enumerate(runs.items()):
        for number, run in enumerate(by_seed.values()):
            seen = [pooled(moment.errors[: place + 1]) for place, moment in enumerate(run.boundaries)]
            places = np.arange(1, len(seen) + 1)
            axes.plot(
                places,
                [np.nan if errors is None else errors.force_rmse for errors in seen],
                color=f"C{index % 10}",
                linestyle="--" if name == REFERENCE else "-",
                linewidth=1.4,
                alpha=0.8,
                label=name if number == 0 else None,
            )
    axes.set(xlabel="domains seen", ylabel="force RMSE on the domains seen, meV/Å", yscale="log")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()
    _save(figure, path)


def draw_matrix(path: Path, title: str, by_seed: Mapping[int, Run], names: Sequence[str]) -> None:
    """Force RMSE on each domain after each domain, median over seeds; white where it is not known or zero."""
    errors = np.array(matrix(by_seed, _force_rmse))
    shown = np.ma.masked_where(~(errors > 0), errors)
    side = 2.5 + 0.27 * len(names)
    figure = Figure(figsize=(side + 1.5, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shown, norm="log" if shown.count() else None, cmap="viridis")
    axes.set_xticks(range(len(names)), labels=names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), labels=names, fontsize=7)
    axes.set(xlabel="tested on", ylabel="after learning", title=f"{title}: force RMSE, meV/Å; white: not known")
    figure.colorbar(image, shrink=0.8)
    _save(figure, path)


def _force_rmse(errors: SquaredErrors) -> float:
    return errors.force_rmse


def _save(figure: Figure, path: Path) -> None:
    with mpl.rc_context({"svg.hashsalt": "lmlp", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})
