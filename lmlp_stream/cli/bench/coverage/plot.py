"""Coverage over a stream as a picture."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from lmlp_stream.cli.bench.coverage.figures import NOMINAL, QUANTITIES, sliding
from lmlp_stream.cli.bench.coverage.run import Examined


def draw(path: Path, arms: Mapping[str, Examined], window: int) -> None:
    """Coverage in sliding windows, calibrated and raw, with the switches of domains as lines."""
    figure = Figure(figsize=(11.0, 3.2 * len(arms)), layout="constrained")
    for row, (name, examined) in zip(figure.subplots(len(arms), 2, squeeze=False), arms.items(), strict=True):
        for axes, (quantity, fields) in zip(row, QUANTITIES.items(), strict=True):
            for field, label in zip(fields, ("calibrated", "raw"), strict=True):
                values = sliding(examined.rows, field, quantity, window)
                axes.plot(np.arange(len(values)) + window, values, label=label)
            axes.axhspan(NOMINAL - 0.02, NOMINAL + 0.02, color="C2", alpha=0.2)
            for place in examined.switches:
                axes.axvline(place, color="0.7", linewidth=0.6)
            axes.set(xlabel="labels", ylabel=f"coverage, {window} labels", title=f"{name}: {quantity}", ylim=(0, 1))
            axes.legend(loc="lower right")
    with mpl.rc_context({"svg.hashsalt": "lmlp", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})
