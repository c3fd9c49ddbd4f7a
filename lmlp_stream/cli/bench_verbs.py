"""The verbs `bench train`, `infer`, `descriptor`, `optimizer`, `ingest`, and those of other modules of `cli`."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lmlp_stream.cli.accuracy_verb import accuracy
from lmlp_stream.cli.bench.coverage.verb import coverage
from lmlp_stream.cli.bench.elements import Elements, ElementsOption
from lmlp_stream.cli.bench.requests.verb import requests
from lmlp_stream.cli.bench.settings import BenchSettings
from lmlp_stream.cli.bench.stream.verb import stream
from lmlp_stream.cli.dynamics_verb import dynamics
from lmlp_stream.cli.exactly_once_verb import corruption, exactly_once
from lmlp_stream.cli.options import AsJson
from lmlp_stream.cli.terminal import answer, listed

TORCH_VERBS = {
    "train": "Learning steps of micro-batches: energies and forces of every member and CoRe, descriptors kept.",
    "infer": "Energies and forces of every member, nothing kept: neighbors, descriptors, networks, linear part.",
    "descriptor": "Symmetry functions and their derivatives, one structure after the other.",
    "optimizer": "CoRe steps, taken in turn with torch's Adam (foreach, fused) on the same parameters.",
}


class Preset(StrEnum):
    """Symmetry functions by name."""

    SHIFTED = "shifted"
    PUBLISHED = "published"


class Precision(StrEnum):
    """Floating-point formats by name."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"


Structures = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Labelled structures that ASE reads; .xz too.", show_default="built-in"),
]
Repeats = Annotated[int, typer.Option(min=1, help="Repeats at least.")]
Seconds = Annotated[float, typer.Option(min=0.0, help="Go on repeating for at least this time, s.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    verbs = typer.Typer(no_args_is_help=True)
    for name, meaning in TORCH_VERBS.items():
        verbs.command(name, help=meaning)(_verb(name))
    verbs.command()(ingest)
    verbs.command()(accuracy)
    verbs.command("exactly-once")(exactly_once)
    verbs.command()(corruption)
    verbs.command()(dynamics)
    verbs.command()(stream)
    verbs.command()(coverage)
    verbs.command()(requests)
    app.add_typer(
        verbs, name="bench", help="Measure speed, accuracy, intervals, dynamics, and what a stream seen once costs."
    )


def _verb(name: str) -> Callable[..., None]:
    def measure(
        structures: Structures = None,
        members: Annotated[int, typer.Option(min=1, help="Potentials in the ensemble.")] = 10,
        batch: Annotated[int, typer.Option(min=1, help="Structures of a batch.")] = 32,
        device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "cpu",
        threads: Annotated[int, typer.Option(min=1, help="CPU threads of the linear algebra.")] = 1,
        preset: Annotated[Preset, typer.Option(help="Symmetry functions.")] = Preset.SHIFTED,
        dtype: Annotated[Precision, typer.Option(help="Precision.")] = Precision.FLOAT32,
        elements: ElementsOption = Elements.PUBLISHED,
        repeats: Repeats = 5,
        seconds: Seconds = 5.0,
        as_json: AsJson = False,
    ) -> None:
        settings = BenchSettings(
            structures=structures,
            members=members,
            batch=batch,
            device=device,
            threads=threads,
            preset=preset.value,
            dtype=dtype.value,
            elements=elements.value,
            repeats=repeats,
            seconds=seconds,
        )
        _answer(name, asdict(settings), _measured(name, settings), as_json=as_json)

    return measure


def ingest(
    structures: Structures = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes at work side by side.")] = 1,
    repeats: Repeats = 5,
    seconds: Seconds = 5.0,
    as_json: AsJson = False,
) -> None:
    """Records let in: decode, limits, physics gates and recognition of duplicates."""
    from lmlp_stream.cli.bench.ingest import ingest as measured

    figures = measured(structures, processes=processes, repeats=repeats, seconds=seconds)
    settings = {"structures": structures, "processes": processes, "repeats": repeats, "seconds": seconds}
    _answer("ingest", settings, figures, as_json=as_json)


def _measured(name: str, settings: BenchSettings) -> dict[str, float]:
    from lmlp_stream.cli.bench import optimizer, speed

    benches = {
        "train": speed.train,
        "infer": speed.infer,
        "descriptor": speed.descriptor,
        "optimizer": optimizer.optimizer,
    }
    return benches[name](settings)


def _answer(name: str, settings: Mapping[str, Any], figures: Mapping[str, float], *, as_json: bool) -> None:
    from lmlp_stream.cli.bench.timing import peak_rss_mb
    from lmlp_stream.cli.bench.workload import BUILT_IN

    told = {
        "bench": name,
        **settings,
        "structures": str(settings["structures"] or BUILT_IN),
        **figures,
        "peak_rss_mb": peak_rss_mb(),
    }
    answer(listed(told), told, as_json=as_json)
