"""The verbs `bench exactly-once` and `bench corruption`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lmlp_stream.cli.options import AsJson
from lmlp_stream.cli.terminal import answer, counting


def exactly_once(
    labels: Annotated[int, typer.Option(min=1, help="Labels of ten atoms that are learned in each way.")] = 320,
    remembered: Annotated[int, typer.Option(min=1, help="Structures in the reservoir of the killed learner.")] = 10_000,
    kills: Annotated[int, typer.Option(min=1, help="How often it is killed.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the linear algebra.")] = 1,
    as_json: AsJson = False,
) -> None:
    """What journal and checkpoints cost beside the learning, and how soon a killed learner learns again."""
    from lmlp_stream.cli.bench import exactly_once as bench

    cost = bench.overhead(labels, threads)
    with counting("ticks before the kills") as advance:
        again = bench.recovery(remembered, threads, kills, advance)
    figures: dict[str, Any] = {"bench": "exactly-once", "labels": labels, "threads": threads, **cost, **again}
    answer("\n".join(f"{key:<28} {value:.4g}" for key, value in list(figures.items())[1:]), figures, as_json=as_json)


def corruption(
    train: Annotated[list[Path], typer.Option(metavar="FILE", help="Labelled structures of the stream, in order.")],
    test: Annotated[list[Path], typer.Option(metavar="FILE", help="Those that are predicted afterwards.")],
    share: Annotated[float, typer.Option(min=0.0, max=0.5, help="Share of labels that are made wrong.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is made wrong and how.")] = 0,
    every: Annotated[int, typer.Option(min=1, help="Learn only each so manieth structure of the files.")] = 1,
    labels: Annotated[int | None, typer.Option(min=1, help="Learn only so many of them.", show_default="all")] = None,
    config: Annotated[Path | None, typer.Option(metavar="CONFIG", help="TOML file.", show_default="defaults")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Lay a setting over it; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What labels with five kinds of errors do to a learner with and without quarantine, and what it refuses."""
    from lmlp_stream.cli.bench import corruption as bench
    from lmlp_stream.cli.bench.corruption_table import markdown
    from lmlp_stream.cli.evaluate import labelled_structures
    from lmlp_stream.config import load_config
    from lmlp_stream.potential.device import prepare_cpu

    read = load_config(config, settings or ())
    prepare_cpu(read.potential.threads)
    learned = [structure for path in train for structure in labelled_structures(path)][::every][:labels]
    predicted = [structure for path in test for structure in labelled_structures(path)]
    with counting("labels", bench.n_records(learned)) as advance:
        figures = bench.measure(read, learned, predicted, share=share, seed=seed, advance=advance)
    told = {"bench": "corruption", "share": share, "seed": seed, **figures}
    answer(markdown(told), told, as_json=as_json)
