"""Why a message is refused: a closed list of reasons, and one sentence for people."""

from dataclasses import dataclass
from enum import StrEnum

_SHOWN_CHARACTERS = 40


class Reason(StrEnum):
    """Every reason for which a message is refused; the value is the word metrics, dead letters and examples use."""

    TOO_LARGE = "too_large"
    NOT_MSGPACK = "not_msgpack"
    DUPLICATE_FIELD = "duplicate_field"
    UNKNOWN_SCHEMA = "unknown_schema"
    UNKNOWN_VERSION = "unknown_version"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    BAD_TEXT = "bad_text"
    BAD_ARRAY = "bad_array"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    LEVEL_OF_THEORY = "level_of_theory"
    NO_LABEL = "no_label"
    TOO_MANY_ATOMS = "too_many_atoms"
    UNKNOWN_ELEMENT = "unknown_element"
    BAD_CELL = "bad_cell"
    OVERLAPPING_ATOMS = "overlapping_atoms"
    TOO_DENSE = "too_dense"
    FORCE_TOO_LARGE = "force_too_large"
    NET_FORCE = "net_force"
    WRONG_ID = "wrong_id"
    INCONSISTENT_LABEL = "inconsistent_label"
    DIVERGING_LABEL = "diverging_label"


STUDIED = frozenset((Reason.INCONSISTENT_LABEL, Reason.DIVERGING_LABEL))
"""Reasons that the record alone does not show: the label was let in, and refused when it was studied."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """The verdict on a message that is not let in.

    Attributes:
        reason: What is wrong, from a closed list.
        detail: One sentence with value, place and remedy; its length does not grow with the message.
    """

    reason: Reason
    detail: str


class RefusalError(Exception):
    """Carries a rejection from the line that finds the fault to the decoder that returns it; never leaves the room."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.rejection = Rejection(reason, detail)


def shown(value: object) -> str:
    """A few characters that show an untrusted value: printable and short whatever the value is."""
    if isinstance(value, str):
        return repr(value[:_SHOWN_CHARACTERS]) + ("…" if len(value) > _SHOWN_CHARACTERS else "")
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if abs(value) < 10**_SHOWN_CHARACTERS else "an integer of more than 40 digits"
    if isinstance(value, bytes):
        return f"binary of {len(value)} bytes"
    return "a map" if isinstance(value, dict) else "a list"
