"""Arguments and options that several verbs share, and the configuration they add up to."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from lmlp_stream.config import Config, load_config

ConfigPath = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="TOML file; `lmlp-stream config template` writes one.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Lay a setting over CONFIG; may be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of words.")]


def configured(path: Path, settings: Iterable[str] | None) -> Config:
    """The configuration of the file CONFIG with the settings laid over it.

    Raises:
        ConfigError: A key or value is wrong.
    """
    return load_config(path, settings or ())
