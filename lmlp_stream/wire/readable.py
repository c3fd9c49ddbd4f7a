"""Records as people read them, whatever the bytes: for refused ones, of which nothing is sure."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lmlp_stream.wire.arrays import ITEM_BYTES
from lmlp_stream.wire.envelope import unpack
from lmlp_stream.wire.rejection import RefusalError, shown

BYTES_PER_LINE = 16


def readable_fields(value: bytes) -> dict[str, Any] | None:
    """The fields of a record as plain values that JSON can say, unchecked; None where it is not a map.

    Arrays become lists, numbers that are not finite become texts, anything deeper is only named. Never raises.
    """
    try:
        tree = unpack(value)
    except RefusalError:
        return None
    if not isinstance(tree, dict):
        return None
    return {str(name): _readable(field) for name, field in tree.items()}


def hexdump(value: bytes, max_bytes: int) -> list[str]:
    """The first bytes in lines of 16: offset, hexadecimal, printable characters."""
    lines = []
    for start in range(0, min(len(value), max_bytes), BYTES_PER_LINE):
        part = value[start : min(start + BYTES_PER_LINE, max_bytes)]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<47}  {text}")
    return lines


def _readable(field: object) -> Any:
    if isinstance(field, dict):
        array = _array(field)
        return shown(field) if array is None else array
    if isinstance(field, float) and not math.isfinite(field):
        return repr(field)
    if isinstance(field, str | int | float) or field is None:
        return field
    return shown(field)


def _array(field: Mapping[object, object]) -> Any:
    dtype, shape, data = field.get("d"), field.get("s"), field.get("b")
    if not isinstance(dtype, str) or not isinstance(shape, list) or not isinstance(data, bytes):
        return None
    if not all(type(axis) is int and 0 < axis <= len(data) for axis in shape):
        return None
    if dtype not in ITEM_BYTES or len(data) != math.prod(shape) * ITEM_BYTES[dtype]:
        return None
    array = np.frombuffer(data, dtype)
    if not np.isfinite(array).all():
        array = np.where(np.isfinite(array), array.astype(object), array.astype(str))
    return array.reshape(shape).tolist()
