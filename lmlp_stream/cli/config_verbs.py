"""The verbs `config template`, `config check`, `config show` and `config schema`."""

import json

import typer

from lmlp_stream.broker.open import check_url
from lmlp_stream.cli.options import AsJson, ConfigPath, Settings, configured
from lmlp_stream.cli.terminal import explain
from lmlp_stream.config import config_schema, config_template, config_toml


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    verbs = typer.Typer(no_args_is_help=True)
    verbs.command()(template)
    verbs.command()(check)
    verbs.command()(show)
    verbs.command()(schema)
    app.add_typer(verbs, name="config", help="Write, check and show configurations.")


def template() -> None:
    """Print a complete commented configuration; redirect it into a file."""
    typer.echo(config_template(), nl=False)


def check(config: ConfigPath, settings: Settings = None) -> None:
    """Say whether a configuration is valid; exit code 3 if not."""
    read = configured(config, settings)
    check_url(read.log.url)
    if not read.wire.level_of_theory:
        explain("warning: wire.level_of_theory is empty; name the method that makes the labels before you feed any")
    typer.echo(f"{config} is valid: learner {read.name!r}, log {read.log.url}, store {read.store.url}")


def show(config: ConfigPath, settings: Settings = None, as_json: AsJson = False) -> None:
    """Print every setting in effect, as TOML or as JSON."""
    read = configured(config, settings)
    typer.echo(json.dumps(read.model_dump(mode="json"), ensure_ascii=False) if as_json else config_toml(read).rstrip())


def schema() -> None:
    """Print the JSON Schema of the configuration; editors complete and check with it."""
    typer.echo(json.dumps(config_schema(), indent=2, ensure_ascii=False))
