"""The verb `bench accuracy`."""

from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from lmlp_stream.cli.options import AsJson
from lmlp_stream.cli.terminal import answer, counting
from lmlp_stream.errors import UsageError


def accuracy(
    sets: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML list of data sets, each a table 'set'.")
    ] = None,
    train: Annotated[Path | None, typer.Option(metavar="FILE", help="Labelled structures that are learned.")] = None,
    test: Annotated[Path | None, typer.Option(metavar="FILE", help="Those that are predicted afterwards.")] = None,
    hold_out: Annotated[float, typer.Option(help="Share of groups held out where there is no --test.")] = 0.1,
    atomic_energies: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Isolated atoms, or JSON of energies (eV) by symbol.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Optimizer steps of every set.", show_default="what the labels buy, at least 20000"),
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only these sets of the list.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="CONFIG", help="TOML file.", show_default="defaults")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Lay a setting over it; may be repeated."),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SECTION.KEY=VALUE,...", help="Run every set with each value; repeated: every combination."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="STEM", help="Write STEM.json and STEM.md after every run.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Learn data sets offline through the same learner, and predict what was left out."""
    from lmlp_stream.cli.bench import accuracy as bench
    from lmlp_stream.cli.bench.accuracy_table import markdown, write_tables
    from lmlp_stream.cli.bench.data_sets import DataSet, read_list, variations
    from lmlp_stream.cli.bench.results import make_folder
    from lmlp_stream.potential.device import prepare_cpu

    chosen = list(read_list(sets)) if sets else []
    if train:
        one = DataSet(name=train.name, train=train, test=test, hold_out=hold_out, atomic_energies=atomic_energies)
        chosen.append(one)
    if not chosen:
        raise UsageError("no data set is chosen; give --train FILE, or --sets FILE")
    known = [data.name for data in chosen]
    unknown = [name for name in only or () if name not in known]
    if unknown:
        raise UsageError(f"--only {', '.join(unknown)}: no such data set; these are: {', '.join(known)}")
    chosen = [data for data in chosen if not only or data.name in only]
    if output:
        make_folder(output.parent, option="--output")
    rows = []
    for data, varied in product(chosen, list(variations(vary or ()))):
        run = bench.prepare(data, config, settings or (), varied, steps)
        prepare_cpu(run.config.potential.threads)
        with counting(" ".join(("steps of", data.name, *varied)), run.n_steps) as advance:
            rows.append(bench.measure(run, advance))
        if output:
            write_tables(output, rows)
    answer(markdown(rows), {"bench": "accuracy", "runs": rows}, as_json=as_json)
