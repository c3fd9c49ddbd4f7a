"""The kinds of fields a record has: each reads an untrusted value and describes itself as JSON Schema.

`read(value, place)` returns the value or raises `RefusalError`; nothing is coerced but integers to floats.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

from lmlp_stream.wire.rejection import Reason, RefusalError, shown

JsonSchema = dict[str, Any]
MAX_TEXT = 256
MAX_INTEGER = 2**63 - 1
MAX_FIGURE = 1e12
MAX_TREE_DEPTH = 8


class Field(Protocol):
    """One field of a record."""

    @property
    def required(self) -> bool:
        """Whether a record without it is refused."""
        ...

    def read(self, value: object, place: str) -> Any:
        """The checked value of the field `place`."""
        ...

    def schema(self) -> JsonSchema:
        """JSON Schema of the field."""
        ...


def wrong_type(value: object, place: str, wanted: str) -> RefusalError:
    """The refusal of a value of another type."""
    return RefusalError(Reason.WRONG_TYPE, f"{place} is {shown(value)}; send {wanted}")


@dataclass(frozen=True, slots=True)
class Text:
    """Printable characters."""

    meaning: str
    min_length: int = 1
    max_length: int = MAX_TEXT
    required: bool = True

    def read(self, value: object, place: str) -> str:
        """The text, of allowed length and without control characters."""
        if not isinstance(value, str):
            raise wrong_type(value, place, "a text")
        if not self.min_length <= len(value) <= self.max_length:
            raise RefusalError(
                Reason.BAD_TEXT,
                f"{place} has {len(value)} characters; send {self.min_length} to {self.max_length}",
            )
        if not value.isprintable():
            raise RefusalError(Reason.BAD_TEXT, f"{place} = {shown(value)} holds control characters; leave them out")
        return value

    def schema(self) -> JsonSchema:
        """JSON Schema of the text."""
        return {
            "type": "string",
            "minLength": self.min_length,
            "maxLength": self.max_length,
            "description": self.meaning,
        }


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number within bounds that a float32 can hold."""

    meaning: str
    minimum: float = -MAX_FIGURE
    maximum: float = MAX_FIGURE
    above: float | None = None
    required: bool = True

    def read(self, value: object, place: str) -> float:
        """The number as a float."""
        if type(value) is not float and (not isinstance(value, int | float) or isinstance(value, bool)):
            raise wrong_type(value, place, "a number")
        if not self.minimum <= value <= self.maximum or (self.above is not None and not value > self.above):
            raise self._refusal(value, place)
        return float(value)

    def _refusal(self, value: float, place: str) -> RefusalError:
        if isinstance(value, float) and not math.isfinite(value):
            return RefusalError(Reason.NOT_FINITE, f"{place} is {value}; leave the field out where there is no value")
        low = f"above {self.above:g}" if self.above is not None else f"at least {self.minimum:g}"
        return RefusalError(
            Reason.OUT_OF_RANGE, f"{place} is {shown(value)}; send {low} and at most {self.maximum:g} (check the unit)"
        )

    def schema(self) -> JsonSchema:
        """JSON Schema of the number."""
        low = {"exclusiveMinimum": self.above} if self.above is not None else {"minimum": self.minimum}
        return {"type": "number", **low, "maximum": self.maximum, "description": self.meaning}


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number within bounds."""

    meaning: str
    minimum: int = 0
    maximum: int = MAX_INTEGER
    required: bool = True

    def read(self, value: object, place: str) -> int:
        """The integer."""
        if type(value) is not int:
            raise wrong_type(value, place, "an integer")
        if not self.minimum <= value <= self.maximum:
            raise RefusalError(Reason.OUT_OF_RANGE, f"{place} is {shown(value)}; send {self.minimum} to {self.maximum}")
        return value

    def schema(self) -> JsonSchema:
        """JSON Schema of the integer."""
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum, "description": self.meaning}


@dataclass(frozen=True, slots=True)
class Binary:
    """Raw bytes."""

    meaning: str
    max_length: int
    required: bool = True

    def read(self, value: object, place: str) -> bytes:
        """The bytes, of allowed length."""
        if not isinstance(value, bytes):
            raise wrong_type(value, place, "binary")
        if len(value) > self.max_length:
            raise RefusalError(Reason.TOO_LARGE, f"{place} has {len(value)} bytes; send at most {self.max_length}")
        return value

    def schema(self) -> JsonSchema:
        """JSON Schema of the bytes, each written as the character of the same number."""
        return {
            "type": "string",
            "contentEncoding": "binary",
            "maxLength": self.max_length,
            "description": self.meaning,
        }


@dataclass(frozen=True, slots=True)
class AtomicNumbers:
    """A short list of different atomic numbers in increasing order."""

    meaning: str
    maximum: int
    required: bool = True

    def read(self, value: object, place: str) -> tuple[int, ...]:
        """The atomic numbers."""
        if not isinstance(value, list) or any(type(z) is not int for z in value[: self.maximum]):
            raise wrong_type(value, place, "a list of atomic numbers")
        if len(value) > self.maximum or any(
            a >= b for a, b in zip([0, *value], [*value, self.maximum + 1], strict=True)
        ):
            raise RefusalError(
                Reason.UNKNOWN_ELEMENT,
                f"{place} has unknown or unsorted elements; send increasing atomic numbers 1 to {self.maximum}",
            )
        return tuple(value)

    def schema(self) -> JsonSchema:
        """JSON Schema of the list."""
        return {
            "type": "array",
            "items": {"type": "integer", "minimum": 1, "maximum": self.maximum},
            "uniqueItems": True,
            "description": self.meaning,
        }


@dataclass(frozen=True, slots=True)
class Texts:
    """A short list of different texts."""

    meaning: str
    maximum: int
    required: bool = True

    def read(self, value: object, place: str) -> tuple[str, ...]:
        """The texts in their order."""
        if not isinstance(value, list):
            raise wrong_type(value, place, "a list of texts")
        if len(value) > self.maximum:
            raise RefusalError(Reason.OUT_OF_RANGE, f"{place} has {len(value)} texts; send at most {self.maximum}")
        text = Text("")
        texts = tuple(text.read(item, f"a text in {place}") for item in value)
        if len(set(texts)) < len(texts):
            raise RefusalError(Reason.BAD_TEXT, f"{place} says a text twice; send each once")
        return texts

    def schema(self) -> JsonSchema:
        """JSON Schema of the list."""
        return {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
            "maxItems": self.maximum,
            "uniqueItems": True,
            "description": self.meaning,
        }


@dataclass(frozen=True, slots=True)
class Figures:
    """Finite numbers by name."""

    meaning: str
    required: bool = True

    def read(self, value: object, place: str) -> dict[str, float]:
        """The numbers by name."""
        if not isinstance(value, dict):
            raise wrong_type(value, place, "a map of numbers")
        name = Text("")
        number = Number("")
        return {
            name.read(key, f"a name in {place}"): number.read(item, f"{place}[{shown(key)}]")
            for key, item in value.items()
        }

    def schema(self) -> JsonSchema:
        """JSON Schema of the map."""
        return {
            "type": "object",
            "propertyNames": {"minLength": 1, "maxLength": MAX_TEXT},
            "additionalProperties": {"type": "number", "minimum": -MAX_FIGURE, "maximum": MAX_FIGURE},
            "description": self.meaning,
        }


@dataclass(frozen=True, slots=True)
class Tree:
    """A map of what JSON can say: nested maps and lists of texts, numbers, truth values and null."""

    meaning: str
    required: bool = True

    def read(self, value: object, place: str) -> dict[str, Any]:
        """The map, not nested deeper than `MAX_TREE_DEPTH`, with texts for keys and finite numbers."""
        if not isinstance(value, dict):
            raise wrong_type(value, place, "a map")
        _check_branch(value, place, MAX_TREE_DEPTH)
        return value

    def schema(self) -> JsonSchema:
        """JSON Schema of the map."""
        return {"type": "object", "description": self.meaning}


_KEY = Text("")
_LEAF_TEXT = Text("", min_length=0, max_length=4096)
_LEAF_NUMBER = Number("")
_LEAF_INTEGER = Integer("", minimum=-MAX_INTEGER)


def _check_branch(value: object, place: str, depth: int) -> None:
    if depth == 0:
        raise RefusalError(Reason.OUT_OF_RANGE, f"{place} is nested deeper than {MAX_TREE_DEPTH} levels; flatten it")
    if isinstance(value, dict):
        for key, item in value.items():
            _KEY.read(key, f"a key in {place}")
            _check_branch(item, place, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check_branch(item, place, depth - 1)
    elif isinstance(value, str):
        _LEAF_TEXT.read(value, f"a text in {place}")
    elif isinstance(value, float):
        _LEAF_NUMBER.read(value, f"a number in {place}")
    elif value is not None and not isinstance(value, bool):
        _LEAF_INTEGER.read(value, f"an item in {place}")
