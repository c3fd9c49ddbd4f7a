"""Journal entries come back as they were, and everything else is a ValueError."""

from typing import Any

import msgpack
import pytest

from lmlp_stream.wire.journal import Claim, Entry, Range, Tell, Tick, decode_entry, encode_entry

ENTRIES = (
    Claim(1, "host:1:abc"),
    Tick(2, "host:1:abc", 7, (Range(0, 0, 16, 15), Range(3, 8, 9))),
    Tick(2, "host:1:abc", 8, ()),
    Tell(2, "host:1:abc", 9),
)


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_comes_back_as_it_was(entry: Entry) -> None:
    assert decode_entry(encode_entry(entry)) == entry


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_name": "label-request"},
        {"schema_version": 2},
        {"kind": "Tick"},
        {"kind": None},
        {"epoch": float("inf")},
        {"epoch": -1},
        {"epoch": True},
        {"writer": "\x1b[2J"},
        {"number": 1e300},
        {"number": "7"},
        {"ranges": None},
        {"ranges": [[0, 0]]},
        {"ranges": [[0, 0, 16.0]]},
        {"ranges": [[0, 16, 0]]},
        {"ranges": [[0, -1, 16]]},
        {"ranges": [[1, 0, 16], [0, 0, 16]]},
        {"ranges": [[0, 0, 16], [0, 16, 32]]},
        {"ranges": [[0, 0, 2**64 - 1]]},
        {"n_records": 15},
        {"n_records": [15]},
        {"n_records": [15, 2]},
        {"n_records": [15, 1.0]},
        {"n_records": [-1, 1]},
    ],
)
def test_a_garbled_field_is_a_value_error(changes: dict[str, Any]) -> None:
    tree = msgpack.unpackb(encode_entry(ENTRIES[1]))
    with pytest.raises(ValueError, match=next(iter(changes))):
        decode_entry(msgpack.packb(tree | changes))


def test_an_entry_of_before_records_were_counted_names_no_number() -> None:
    tree = msgpack.unpackb(encode_entry(ENTRIES[1]))
    del tree["n_records"]
    assert decode_entry(msgpack.packb(tree)) == Tick(2, "host:1:abc", 7, (Range(0, 0, 16), Range(3, 8, 9)))


@pytest.mark.parametrize("missing", ["kind", "epoch", "writer", "number", "ranges"])
def test_a_missing_field_is_a_value_error(missing: str) -> None:
    tree = msgpack.unpackb(encode_entry(ENTRIES[1]))
    del tree[missing]
    with pytest.raises(ValueError, match=missing):
        decode_entry(msgpack.packb(tree))


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x91" * 4000, b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff" * 1000])
def test_bytes_that_are_no_message_are_a_value_error(value: bytes) -> None:
    with pytest.raises(ValueError, match="does not unpack"):
        decode_entry(value)
