"""The verb `report`."""

from pathlib import Path
from typing import Annotated

import typer

from lmlp_stream.cli.options import AsJson, ConfigPath, Settings, configured
from lmlp_stream.cli.terminal import answer


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command()(report)


def report(
    config: ConfigPath,
    settings: Settings = None,
    test: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labelled structures for parity and calibration.")
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("report.html"),
    as_json: AsJson = False,
) -> None:
    """Write what a learner did into one HTML page that opens anywhere, also while it runs."""
    from lmlp_stream.cli.report.gather import write_report

    figures = write_report(configured(config, settings), output, test=test)
    answer(
        f"wrote {output}",
        {
            "report": str(output.absolute()),
            "labels_learned": figures.history.labels_learned,
            "snapshots_announced": len(figures.history.announced),
            "requests": len(figures.requests),
            "refused": sum(figures.rejections.values()),
        },
        as_json=as_json,
    )
