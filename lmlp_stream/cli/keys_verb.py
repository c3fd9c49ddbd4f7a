"""The verb `keys`: a pair of keys that signs snapshots."""

import os
from pathlib import Path
from typing import Annotated

import typer

from lmlp_stream.cli.options import AsJson
from lmlp_stream.cli.terminal import answer
from lmlp_stream.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command()(keys)


def keys(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Gets the private key; it must not exist yet.")],
    as_json: AsJson = False,
) -> None:
    """Make a pair of keys for signing snapshots: the private one into FILE, the public one on stdout.

    The learner signs with LMLP_SNAPSHOT_SIGNING_KEY_FILE=FILE in its environment; those who follow it put the public
    key into simulate.trusted_keys.
    """
    from lmlp_stream.store.signing import new_key_pair

    pair = new_key_pair()
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(f"{file} cannot be made: {error.strerror}; name a new file in a folder that exists") from error
    with os.fdopen(descriptor, "w") as opened:
        opened.write(pair.private + "\n")
    answer(pair.public, {"public_key": pair.public, "private_key_file": str(file)}, as_json=as_json)
