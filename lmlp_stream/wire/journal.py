"""Journal entries: which records a learner learned together, in which order, and who was allowed to decide it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from lmlp_stream.wire.envelope import Envelope
from lmlp_stream.wire.fields import MAX_INTEGER, Integer, JsonSchema, Text, Texts, wrong_type
from lmlp_stream.wire.rejection import Reason, RefusalError, shown

MAX_ENTRY_BYTES = 2**18
MAX_HOMES = 2


@dataclass(frozen=True, slots=True)
class Range:
    """Records of one partition, from `begin` up to but not including `end`.

    Attributes:
        n_records: How many they are: fewer than offsets where marks of transactions stand between; 0: not written down.
    """

    partition: int
    begin: int
    end: int
    n_records: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """A learner became the one writer of this journal; entries of older epochs after it do not count.

    `home` names the folder of its checkpoints in two ways, of which each suffices: by an id that lies in it, and by
    host and path. Empty where it is not known, or where the writer stopped and leaves the journal to anybody.
    """

    epoch: int
    writer: str
    home: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Ranges:
    """The ranges of a tick as triples of partition, begin and end: no partition twice, in increasing order."""

    meaning: str
    required: bool = True

    def read(self, value: object, place: str) -> tuple[Range, ...]:
        """The ranges; each holds at least one record."""
        if not isinstance(value, list):
            raise wrong_type(value, place, "a list of partition, begin and end")
        ranges = tuple(_range(item, f"{place}[{index}]") for index, item in enumerate(value))
        partitions = [item.partition for item in ranges]
        if partitions != sorted(set(partitions)):
            raise RefusalError(Reason.OUT_OF_RANGE, f"{place} names partitions twice or unsorted; write each once")
        return ranges

    def schema(self) -> JsonSchema:
        """JSON Schema of the list."""
        number = {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}
        return {
            "type": "array",
            "items": {"type": "array", "items": number, "minItems": 3, "maxItems": 3},
            "description": self.meaning,
        }


@dataclass(frozen=True, slots=True)
class Counts:
    """A list of counts."""

    meaning: str
    required: bool = False

    def read(self, value: object, place: str) -> tuple[int, ...]:
        """The counts."""
        if not isinstance(value, list):
            raise wrong_type(value, place, "a list of counts")
        return tuple(_NUMBER.read(item, f"{place}[{index}]") for index, item in enumerate(value))

    def schema(self) -> JsonSchema:
        """JSON Schema of the list."""
        number = {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}
        return {"type": "array", "items": number, "description": self.meaning}


JOURNAL_ENTRY = Envelope(
    "journal-entry",
    1,
    "A decision of the learner, or its claim to decide. Key: the writer.",
    {
        "kind": Text("claim, tick or tell."),
        "epoch": Integer("Epoch of the claim under which it was written."),
        "writer": Text("The process that wrote it."),
        "number": Integer("Which decision of the learner's life it is, from 0; not of a claim.", required=False),
        "ranges": Ranges("The records of a tick.", required=False),
        "n_records": Counts("How many records each of the ranges holds; 0: not known."),
        "home": Texts(
            "Of a claim: the folder of the learner's checkpoints, by the id in it and by host and path.",
            MAX_HOMES,
            required=False,
        ),
    },
)

_NUMBER = Integer("")


def encode_entry(entry: Entry) -> bytes:
    """The bytes of a journal entry."""
    fields: dict[str, Any] = {"kind": type(entry).__name__.lower(), "epoch": entry.epoch, "writer": entry.writer}
    if isinstance(entry, Claim):
        fields["home"] = list(entry.home)
    else:
        fields["number"] = entry.number
    if isinstance(entry, Tick):
        fields["ranges"] = [[item.partition, item.begin, item.end] for item in entry.ranges]
        fields["n_records"] = [item.n_records for item in entry.ranges]
    return JOURNAL_ENTRY.pack(fields)


def decode_entry(value: bytes) -> Entry:
    """The journal entry of some bytes.

    Raises:
        ValueError: The bytes are not a journal entry of version 1; the message names the fault.
    """
    try:
        return _entry(JOURNAL_ENTRY.open(value, max_bytes=MAX_ENTRY_BYTES))
    except RefusalError as refusal:
        raise ValueError(refusal.rejection.detail) from refusal


def _entry(fields: Mapping[str, Any]) -> Entry:
    kind, epoch, writer = fields["kind"], fields["epoch"], fields["writer"]
    if kind == "claim":
        return Claim(epoch, writer, fields.get("home", ()))
    if kind not in ("tick", "tell"):
        raise RefusalError(Reason.OUT_OF_RANGE, f"kind is {shown(kind)}; write claim, tick or tell")
    for name in ("number", "ranges") if kind == "tick" else ("number",):
        if name not in fields:
            raise RefusalError(Reason.MISSING_FIELD, f"a {kind} has no {name}; write it")
    if kind == "tell":
        return Tell(epoch, writer, fields["number"])
    ranges = fields["ranges"]
    return Tick(
        epoch, writer, fields["number"], _counted(ranges, fields["n_records"]) if "n_records" in fields else ranges
    )


def _counted(ranges: tuple[Range, ...], counts: tuple[int, ...]) -> tuple[Range, ...]:
    if len(counts) != len(ranges):
        raise RefusalError(Reason.OUT_OF_RANGE, f"n_records has {len(counts)} counts for {len(ranges)} ranges")
    for item, n_records in zip(ranges, counts, strict=True):
        if n_records > item.end - item.begin:
            raise RefusalError(
                Reason.OUT_OF_RANGE, f"n_records names {n_records} records from {item.begin} to {item.end}; write fewer"
            )
    return tuple(replace(item, n_records=n_records) for item, n_records in zip(ranges, counts, strict=True))


def _range(value: object, place: str) -> Range:
    if not isinstance(value, list) or len(value) != 3:
        raise wrong_type(value, place, "partition, begin and end")
    partition, begin, end = (_NUMBER.read(item, place) for item in value)
    if begin >= end:
        raise RefusalError(Reason.OUT_OF_RANGE, f"{place} goes from {begin} to {end}; write a range that holds records")
    return Range(partition, begin, end)
