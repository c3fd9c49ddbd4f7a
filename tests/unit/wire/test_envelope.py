"""Opening what strangers send: limits, extensions, duplicates, nesting."""

import msgpack
import pytest

from lmlp_stream.wire.envelope import MAX_ITEMS, MAX_TEXT_BYTES, Envelope
from lmlp_stream.wire.fields import MAX_TREE_DEPTH, Binary, Figures, Text, Tree
from lmlp_stream.wire.rejection import Reason, RefusalError, shown

NOTE = Envelope(
    "note",
    3,
    "A note.",
    {
        "text": Text("What it says."),
        "tree": Tree("Anything.", required=False),
        "figures": Figures("Numbers.", required=False),
        "raw": Binary("Bytes.", 4, required=False),
    },
)


def reason(value: bytes) -> Reason:
    with pytest.raises(RefusalError) as refusal:
        NOTE.open(value, max_bytes=2**20)
    return refusal.value.rejection.reason


def note(**fields: object) -> bytes:
    return NOTE.pack({"text": "hello", **fields})


def test_what_is_packed_opens() -> None:
    fields = {"text": "hello", "tree": {"a": [1, None, {"b": "x"}]}, "figures": {"x": 1.5}, "raw": b"1234"}
    assert NOTE.open(NOTE.pack(fields), max_bytes=200) == fields


@pytest.mark.parametrize(
    "value",
    [
        note(extra=["x"] * (MAX_ITEMS + 1)),
        note(extra="x" * (MAX_TEXT_BYTES + 1)),
        note(extra=msgpack.ExtType(5, b"abc")),
        note(extra=msgpack.ExtType(5, b"")),
        note(extra=msgpack.Timestamp(1, 2)),
        b"\x91" * 100_000,
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xffabc",
        msgpack.packb({None: 1}),
    ],
    ids=["list", "text", "extension", "empty extension", "timestamp", "nesting", "map", "binary", "key"],
)
def test_what_is_not_plain_small_msgpack_is_refused(value: bytes) -> None:
    assert reason(value) is Reason.NOT_MSGPACK


def test_a_field_twice_is_refused_at_any_depth() -> None:
    value = note(extra={"deep": [{"aa": 1, "ab": 2}]}).replace(b"\xa2ab", b"\xa2aa")
    assert reason(value) is Reason.DUPLICATE_FIELD


def test_a_field_name_as_binary_is_another_field() -> None:
    assert reason(msgpack.packb({"schema_name": "note", "schema_version": 3, b"text": "x"})) is Reason.MISSING_FIELD


@pytest.mark.parametrize("version", [2, 4, "3", 3.0, True, None])
def test_only_the_known_version_is_read(version: object) -> None:
    tree = {"schema_name": "note", "schema_version": version, "text": "x"}
    assert reason(msgpack.packb(tree)) is Reason.UNKNOWN_VERSION


@pytest.mark.parametrize("name", [["note"], {"note": 1}, b"note", None])
def test_a_schema_name_of_another_type_is_unknown(name: object) -> None:
    assert reason(msgpack.packb({"schema_name": name, "schema_version": 3})) is Reason.UNKNOWN_SCHEMA


def test_a_tree_is_read_to_a_bounded_depth() -> None:
    tree: dict[str, object] = {}
    for _ in range(MAX_TREE_DEPTH - 1):
        tree = {"a": tree}
    assert NOTE.open(note(tree=tree), max_bytes=500)["tree"] == tree
    assert reason(note(tree={"a": tree})) is Reason.OUT_OF_RANGE


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"a": float("nan")}, Reason.NOT_FINITE),
        ({"a": b"x"}, Reason.WRONG_TYPE),
        ({b"a": 1}, Reason.WRONG_TYPE),
        ({"a": 2**64 - 1}, Reason.OUT_OF_RANGE),
        ({"a": ["\x00"]}, Reason.BAD_TEXT),
        ([], Reason.WRONG_TYPE),
    ],
)
def test_a_tree_holds_what_json_can_say(tree: object, expected: Reason) -> None:
    assert reason(note(tree=tree)) is expected


@pytest.mark.parametrize(
    ("figures", "expected"),
    [({"a": float("inf")}, Reason.NOT_FINITE), ({"a": "1"}, Reason.WRONG_TYPE), ({"": 1.0}, Reason.BAD_TEXT)],
)
def test_figures_are_finite_numbers_by_name(figures: object, expected: Reason) -> None:
    assert reason(note(figures=figures)) is expected


def test_binary_is_bounded_and_is_not_text() -> None:
    assert reason(note(raw=b"12345")) is Reason.TOO_LARGE
    assert reason(note(raw="1234")) is Reason.WRONG_TYPE


@pytest.mark.parametrize(
    "value", ["x" * 10**6, 10**1000, b"x" * 1000, [1] * 1000, {"a": "b" * 1000}, None, True, float("nan"), "\x1b[2J"]
)
def test_an_untrusted_value_is_shown_in_few_printable_characters(value: object) -> None:
    assert len(shown(value)) < 200
    assert shown(value).isprintable()
