"""Journal entries: which records a learner learned together, in which order, and who was allowed to decide it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgpack


@dataclass(frozen=True, slots=True)
class Range:
    """Records of one partition, from `begin` up to but not including `end`."""

    partition: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A learner became the one writer of this journal; entries of older epochs after it do not count."""

    epoch: int
    writer: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Records that are learned together, in the order of partition and offset."""

    epoch: int
    writer: str
    number: int
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Tell:
    """A snapshot was due outside the cadence: the stream had ended."""

    epoch: int
    writer: str
    number: int


Entry: TypeAlias = Claim | Tick | Tell


def encode_entry(entry: Entry) -> bytes:
    """The bytes of a journal entry."""
    fields: dict[str, Any] = {"schema_name": "journal-entry", "schema_version": 1, "kind": type(entry).__name__.lower()}
    fields |= {"epoch": entry.epoch, "writer": entry.writer}
    if not isinstance(entry, Claim):
        fields["number"] = entry.number
    if isinstance(entry, Tick):
        fields["ranges"] = [[item.partition, item.begin, item.end] for item in entry.ranges]
    packed: bytes = msgpack.packb(fields)
    return packed


def decode_entry(value: bytes) -> Entry:
    """The journal entry of some bytes.

    Raises:
        ValueError: The bytes are not a journal entry of version 1.
    """
    fields = msgpack.unpackb(value, max_str_len=256, max_array_len=65536, max_map_len=64, max_ext_len=0)
    if (
        not isinstance(fields, Mapping)
        or fields.get("schema_name") != "journal-entry"
        or fields.get("schema_version") != 1
    ):
        raise ValueError("not a journal-entry of version 1")
    try:
        epoch, writer = int(fields["epoch"]), str(fields["writer"])
        match fields["kind"]:
            case "claim":
                return Claim(epoch, writer)
            case "tick":
                ranges = tuple(Range(int(index), int(begin), int(end)) for index, begin, end in fields["ranges"])
                return Tick(epoch, writer, int(fields["number"]), ranges)
            case "tell":
                return Tell(epoch, writer, int(fields["number"]))
            case kind:
                raise ValueError(f"unknown kind of journal entry: {kind!r:.40}")
    except (KeyError, TypeError) as error:
        raise ValueError(f"a journal entry lacks or garbles {error!s:.80}") from error
