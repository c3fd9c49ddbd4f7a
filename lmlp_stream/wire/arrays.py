"""Arrays on the wire: a map of dtype `d`, shape `s` and raw little-endian bytes `b`, checked before it is copied."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lmlp_stream.wire.fields import JsonSchema, wrong_type
from lmlp_stream.wire.rejection import Reason, RefusalError, shown

ATOMS = "A"
"""The axis whose length is the number of atoms."""

ITEM_BYTES = {"|u1": 1, "<i4": 4, "<i8": 8, "<f4": 4, "<f8": 8}
"""Every dtype that travels, and the bytes of one item."""

INTEGERS = ("|u1", "<i4", "<i8")
FLOATS = ("<f4", "<f8")

_RESULT = {INTEGERS: np.int64, FLOATS: np.float64}


@dataclass(frozen=True, slots=True)
class Array:
    """An array of numbers.

    Attributes:
        meaning: What it holds, with its unit.
        shape: Length of each axis; `ATOMS` for the number of atoms.
        dtypes: `INTEGERS` or `FLOATS`.
        required: Whether a record without it is refused.
    """

    meaning: str
    shape: tuple[int | str, ...]
    dtypes: tuple[str, ...]
    required: bool = True

    def read(self, value: object, place: str, n_atoms: int = 0, max_atoms: int = 0) -> npt.NDArray[Any]:
        """A writable int64 or float64 copy of the array.

        Args:
            value: The untrusted map.
            place: Name of the field.
            n_atoms: Number of atoms; 0 if this array is the one that says it.
            max_atoms: Most atoms where this array says their number.

        Raises:
            RefusalError: The map is not an array of this dtype and shape.
        """
        if not isinstance(value, dict):
            raise wrong_type(value, place, "an array as a map of d, s and b")
        try:
            dtype, shape, data = value["d"], value["s"], value["b"]
        except KeyError:
            raise RefusalError(
                Reason.BAD_ARRAY, f"{place} lacks d, s or b; send dtype, shape and little-endian bytes"
            ) from None
        if not isinstance(dtype, str) or dtype not in self.dtypes:
            raise RefusalError(
                Reason.BAD_ARRAY, f"{place} has dtype {shown(dtype)}; send one of {', '.join(self.dtypes)}"
            )
        if not isinstance(shape, list) or not isinstance(data, bytes):
            raise RefusalError(
                Reason.BAD_ARRAY, f"{place} has s or b of another type; send a list of lengths as s and binary as b"
            )
        n_items = self._n_items(shape, place, n_atoms, max_atoms)
        if len(data) != n_items * ITEM_BYTES[dtype]:
            raise RefusalError(
                Reason.BAD_ARRAY,
                f"{place} has {len(data)} bytes; its shape and dtype {dtype} need {n_items * ITEM_BYTES[dtype]}",
            )
        with np.errstate(invalid="ignore"):  # a signalling NaN is the business of whoever asks for finite numbers
            return np.frombuffer(data, dtype).reshape(shape).astype(_RESULT[self.dtypes])

    def _n_items(self, shape: list[object], place: str, n_atoms: int, max_atoms: int) -> int:
        if len(shape) != len(self.shape) or any(type(length) is not int for length in shape):
            raise RefusalError(
                Reason.BAD_ARRAY, f"{place} has {len(shape)} axes or lengths that are no integers; send {self._axes()}"
            )
        n_items = 1
        lengths: list[Any] = shape
        for length, wanted in zip(lengths, self.shape, strict=True):
            if wanted == ATOMS and n_atoms == 0:
                n_items *= _checked_n_atoms(length, place, max_atoms)
            elif length == (n_atoms if wanted == ATOMS else wanted):
                n_items *= int(length)
            else:
                axes = self._axes() + (f" with A = {n_atoms}" if n_atoms else "")
                raise RefusalError(Reason.BAD_ARRAY, f"{place} has an axis of length {shown(length)}; send {axes}")
        return n_items

    def _axes(self) -> str:
        return "[" + ", ".join(str(length) for length in self.shape) + "]"

    def schema(self) -> JsonSchema:
        """JSON Schema of the map; A is open, it is the length of `atomic_numbers`."""
        lengths = [{"type": "integer", "minimum": 1} if n == ATOMS else {"const": n} for n in self.shape]
        return {
            "type": "object",
            "required": ["d", "s", "b"],
            "properties": {
                "d": {"enum": list(self.dtypes), "description": "dtype"},
                "s": {
                    "type": "array",
                    "items": lengths,
                    "minItems": len(lengths),
                    "maxItems": len(lengths),
                    "description": f"shape {self._axes()}",
                },
                "b": {"type": "string", "contentEncoding": "binary", "description": "little-endian bytes, row by row"},
            },
            "description": self.meaning,
        }


def _checked_n_atoms(length: Any, place: str, max_atoms: int) -> int:
    if length < 1:
        raise RefusalError(Reason.BAD_ARRAY, f"{place} has {shown(length)} atoms; send at least one")
    if length > max_atoms:
        raise RefusalError(
            Reason.TOO_MANY_ATOMS, f"{place} has {shown(length)} atoms; send at most {max_atoms} (wire.max_atoms)"
        )
    return int(length)


def packed(array: npt.NDArray[Any], dtype: str) -> dict[str, Any]:
    """The map of an array: dtype, shape and little-endian bytes."""
    if dtype not in ITEM_BYTES:
        raise ValueError(f"dtype {dtype} does not travel; choose one of {', '.join(ITEM_BYTES)}")
    return {"d": dtype, "s": list(array.shape), "b": np.ascontiguousarray(array, dtype).tobytes()}
