"""The configuration of a bench: what its user says, but what options of the bench say."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lmlp_stream.config import Config, load_config, overlaid
from lmlp_stream.errors import UsageError

SEED = {"seed": "--seeds"}
"""What every bench of several seeds decides, with the option to say instead."""


def bench_config(path: Path | None, settings: Sequence[str], governed: Mapping[str, str]) -> Config:
    """The configuration of the file with the settings laid over it.

    Args:
        path: TOML file; None: the defaults.
        settings: `section.key=value`.
        governed: What the bench decides, with the option to say instead.

    Raises:
        ConfigError: A key or value is wrong.
        UsageError: A setting is governed by an option.
    """
    config = load_config(path, settings)
    for setting in settings:
        key = setting.partition("=")[0].strip()
        if key in governed:
            raise UsageError(f"--set {setting!r}: the bench chooses {key} itself; use {governed[key]} instead")
    return config


def holding_nothing_out(config: Config, settings: Sequence[str]) -> Config:
    """The configuration, which holds nothing out where none of its settings says `rehearsal.holdout_share`."""
    return overlaid(config, ["rehearsal.holdout_share=0.0", *settings])
