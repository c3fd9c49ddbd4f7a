"""The verb `bench dynamics`."""

from pathlib import Path
from typing import Annotated

import typer

from lmlp_stream.cli.bench.elements import Elements, ElementsOption
from lmlp_stream.cli.options import AsJson
from lmlp_stream.cli.terminal import answer, counting, listed


def dynamics(
    structures: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Labelled structures to learn and to start from.", show_default="built-in"),
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Folder or URL of a snapshot to run.", show_default="train one"),
    ] = None,
    members: Annotated[int, typer.Option(min=1, help="Potentials in the ensemble that is trained.")] = 4,
    train_steps: Annotated[int, typer.Option(min=1, help="Optimizer steps of its training.")] = 2000,
    elements: ElementsOption = Elements.PUBLISHED,
    runs: Annotated[int, typer.Option(min=1, help="Runs, each from another structure and other velocities.")] = 1,
    picoseconds: Annotated[float, typer.Option(help="Length of each run, ps.")] = 20.0,
    timestep: Annotated[float, typer.Option(help="Time step, fs.")] = 0.5,
    temperature: Annotated[float, typer.Option(help="Temperature of the initial velocities, K.")] = 300.0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the linear algebra.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Energy drift of NVE dynamics in double precision, and runs that explode."""
    from lmlp_stream.cli.bench import dynamics as bench
    from lmlp_stream.cli.bench.workload import BUILT_IN
    from lmlp_stream.potential.device import prepare_cpu

    settings = bench.Dynamics(temperature=temperature, timestep=timestep, picoseconds=picoseconds, n_runs=runs)
    prepare_cpu(threads)
    if snapshot:
        potential = bench.snapshot_potential(snapshot)
    else:
        with counting("steps of training", train_steps) as advance:
            potential = bench.trained_potential(structures, members, train_steps, advance, elements=elements.value)
    with counting("time steps", runs * settings.n_steps) as advance:
        figures = bench.dynamics(potential, structures, settings, advance)
    told = {
        "bench": "dynamics",
        "structures": str(structures or BUILT_IN),
        "potential": snapshot or f"{members} members, {train_steps} steps",
        "picoseconds": picoseconds,
        "timestep_fs": timestep,
        "temperature_k": temperature,
        **figures,
    }
    answer(listed(told), told, as_json=as_json)
