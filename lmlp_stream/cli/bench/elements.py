"""Which elements a bench learns: those that a learner takes. Never imports torch."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import typer

from lmlp_stream.atoms.elements import SYMBOLS
from lmlp_stream.atoms.structure import Structure
from lmlp_stream.config import WireConfig
from lmlp_stream.errors import UsageError
from lmlp_stream.wire.limits import Limits


class Elements(StrEnum):
    """Values of `wire.elements`."""

    PUBLISHED = "published"
    EXTENDED = "extended"


ElementsOption = Annotated[
    Elements,
    typer.Option("--elements", help="H to Xe as published, or extended to Og by our extension."),
]


def check_elements(structures: Iterable[Structure], wire: WireConfig, *, place: object, setting: str) -> None:
    """Refuse elements that are not let in.

    Args:
        structures: What is to be learned or predicted.
        wire: What the door lets in.
        place: Where the structures come from.
        setting: What lets all elements in.

    Raises:
        UsageError: A structure holds such an element.
    """
    last = Limits.of(wire).last_element
    beyond = sorted({int(z) for structure in structures for z in structure.atomic_numbers if z > last})
    if beyond:
        symbols = ", ".join(SYMBOLS[z] for z in beyond)
        raise UsageError(f"{place} contains {symbols}, beyond Xe; {setting} lets them in")
