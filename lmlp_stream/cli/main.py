"""The command `lmlp-stream`: its verbs, and the exit code of every end.

Each module of verbs has a `register(app)`. None of them imports torch, or anything that does, before its verb runs:
`lmlp-stream --help` and a farm's `feed` stay quick.
"""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from lmlp_stream.cli import (
    bench_verbs,
    config_verbs,
    dead_letter_verbs,
    farm_verbs,
    keys_verb,
    learn_verbs,
    replay_verbs,
)
from lmlp_stream.cli.demo import verb as demo_verb
from lmlp_stream.cli.report import verb as report_verb
from lmlp_stream.errors import LmlpStreamError

VERBS = (
    demo_verb,
    config_verbs,
    farm_verbs,
    learn_verbs,
    report_verb,
    replay_verbs,
    dead_letter_verbs,
    keys_verb,
    bench_verbs,
)

EXIT_CODES = (
    "Exit codes: 0 done, 1 a process of the demo failed, 2 usage, 3 configuration, 4 learning diverged, "
    "5 log or broker, 6 damaged store, 130 Ctrl-C."
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"lmlp-stream {version('lmlp-stream')}")
        raise typer.Exit


def command() -> typer.Typer:
    """The command with every verb."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    @app.callback(epilog=EXIT_CODES)
    def describe(
        _version: Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        """A streaming lifelong machine-learning potential."""

    for verbs in VERBS:
        verbs.register(app)
    return app


def main() -> None:
    """Run the command; an error made for people ends in one line on stderr and its exit code."""
    try:
        command()()
    except LmlpStreamError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
