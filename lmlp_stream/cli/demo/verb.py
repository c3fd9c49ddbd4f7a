"""The verb `demo`."""

from pathlib import Path
from typing import Annotated

import typer

from lmlp_stream.cli.options import AsJson


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command()(demo)


def demo(
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="An empty or new folder for everything.", show_default="lmlp-demo"),
    ] = None,
    labels: Annotated[int, typer.Option(min=1, help="Labels that the farm computes.")] = 640,
    seconds: Annotated[
        float, typer.Option(min=1.0, help="Time they are spread over, s; start and end come on top.")
    ] = 100.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of geometries, velocities and networks.")] = 1,
    plain: Annotated[bool, typer.Option("--plain", help="A line every ten seconds instead of the live view.")] = False,
    as_json: AsJson = False,
) -> None:
    """Watch a potential learn from GFN2-xTB while a simulation already uses it: two minutes, four kinds of processes.

    Everything is real and stays in the folder: the log, snapshots, the simulation's trajectory, a report.
    """
    from lmlp_stream.cli.demo.run import run_demo
    from lmlp_stream.cli.demo.settings import DemoSettings, new_folder, require_tblite

    require_tblite()
    settings = DemoSettings(new_folder(output), labels, seconds, seed)
    raise typer.Exit(run_demo(settings, as_json=as_json, plain=plain))
