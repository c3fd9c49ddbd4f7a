"""Bytes of which nothing is sure, made readable."""

import json
import math

import msgpack
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lmlp_stream.wire.arrays import packed
from lmlp_stream.wire.readable import hexdump, readable_fields

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
ALMOST_ARRAYS = st.fixed_dictionaries({"d": st.sampled_from(["<f8", "|u1", "O", 3]), "s": ANYTHING, "b": ANYTHING})


@given(st.binary() | st.dictionaries(st.text(), ANYTHING | ALMOST_ARRAYS).map(msgpack.packb))
def test_whatever_the_bytes_the_answer_is_json(value: bytes) -> None:
    json.dumps(readable_fields(value), allow_nan=False)


def test_numbers_of_arrays_are_listed() -> None:
    fields = readable_fields(msgpack.packb({"positions": packed(np.array([[0.5, math.nan]]), "<f8"), "charge": -1}))
    assert fields == {"positions": [[0.5, "nan"]], "charge": -1}


def test_a_record_that_is_no_map_has_no_fields() -> None:
    assert readable_fields(msgpack.packb([1, 2])) is None
    assert readable_fields(b"\xc1") is None


def test_a_hexdump_ends_where_it_is_told() -> None:
    assert hexdump(b"0123456789abcdefgh\x00", 17) == [
        "00000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef",
        "00000010  67" + " " * 45 + "  g",
    ]
    assert hexdump(b"", 16) == []
