"""The outside of every message: a msgpack map that names its schema, opened without trust.

A reader accepts fields it does not know, so a newer producer does not break an older learner; it refuses a
major version it does not know. Inside a major version only optional fields are added.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack

from lmlp_stream.wire.arrays import Array
from lmlp_stream.wire.fields import Field, JsonSchema
from lmlp_stream.wire.rejection import Reason, RefusalError, shown

CONTENT_TYPE = "application/vnd.msgpack"
MAX_TEXT_BYTES = 16384
MAX_ITEMS = 4096


@dataclass(frozen=True, slots=True)
class Envelope:
    """The fields of one kind of message.

    Attributes:
        name: Value of `schema_name`.
        version: Major version, value of `schema_version`.
        meaning: What the message says.
        fields: Every field but those two by name; the first array with an axis of atoms says their number.
    """

    name: str
    version: int
    meaning: str
    fields: Mapping[str, Field]

    @property
    def schema_file(self) -> str:
        """Name of the file that holds the JSON Schema."""
        return f"{self.name}-{self.version}.schema.json"

    def pack(self, values: Mapping[str, Any]) -> bytes:
        """The message of these values."""
        packed = msgpack.packb({"schema_name": self.name, "schema_version": self.version, **values})
        return bytes(packed)

    def open(self, value: bytes, *, max_bytes: int, max_atoms: int = 0) -> dict[str, Any]:
        """The checked values of the fields that the message has.

        Raises:
            RefusalError: The bytes are not such a message.
        """
        if len(value) > max_bytes:
            raise RefusalError(Reason.TOO_LARGE, f"the record has {len(value)} bytes; send at most {max_bytes}")
        tree = unpack(value)
        if not isinstance(tree, dict):
            raise RefusalError(Reason.WRONG_TYPE, f"the record is {shown(tree)}; send a map of fields")
        return self.read(tree, max_atoms=max_atoms)

    def read(self, tree: Mapping[str, Any], *, max_atoms: int = 0) -> dict[str, Any]:
        """The checked values of the fields that an unpacked message has.

        Raises:
            RefusalError: The map is not such a message.
        """
        name = tree.get("schema_name")
        if name != self.name:
            raise RefusalError(Reason.UNKNOWN_SCHEMA, f"schema_name is {shown(name)}; send {self.name!r} here")
        version = tree.get("schema_version")
        if type(version) is not int or version != self.version:
            raise RefusalError(
                Reason.UNKNOWN_VERSION,
                f"schema_version of {self.name} is {shown(version)}; send {self.version} or upgrade the reader",
            )
        values: dict[str, Any] = {}
        n_atoms = 0
        for place, field in self.fields.items():
            if place not in tree:
                if field.required:
                    raise RefusalError(Reason.MISSING_FIELD, f"{self.name} has no field {place}; send it")
            elif isinstance(field, Array):
                array = field.read(tree[place], place, n_atoms, max_atoms)
                n_atoms = n_atoms or len(array)
                values[place] = array
            else:
                values[place] = field.read(tree[place], place)
        return values

    def schema(self) -> JsonSchema:
        """JSON Schema of the msgpack map, in draft 7 because AsyncAPI tools read that.

        Binary stands as the string whose characters have the numbers of the bytes.
        """
        return {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$id": self.schema_file,
            "title": f"{self.name}/{self.version}",
            "description": self.meaning,
            "type": "object",
            "required": [
                "schema_name",
                "schema_version",
                *(place for place, field in self.fields.items() if field.required),
            ],
            "properties": {
                "schema_name": {"const": self.name},
                "schema_version": {"const": self.version},
                **{place: field.schema() for place, field in self.fields.items()},
            },
            "additionalProperties": True,
        }


def unpack(value: bytes) -> object:
    """What the bytes of a message say, within limits of size and depth; nothing else is checked.

    Raises:
        RefusalError: They are not msgpack, or hold what no message holds.
    """
    try:
        return msgpack.unpackb(
            value,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=unique_map,
            ext_hook=_refuse_extension,
            max_str_len=MAX_TEXT_BYTES,
            max_bin_len=len(value),
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
        )
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise RefusalError(
            Reason.NOT_MSGPACK,
            f"the record of {len(value)} bytes does not unpack ({type(error).__name__}); send one msgpack map without "
            f"extensions, at most {MAX_ITEMS} items in a list and {MAX_TEXT_BYTES} bytes in a text",
        ) from None


def unique_map(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A map of pairs whose keys all differ.

    Raises:
        RefusalError: A key is there twice, so readers could disagree about its value.
    """
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[object] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RefusalError(Reason.DUPLICATE_FIELD, f"a map has the field {shown(twice)} twice; send it once")
    return fields


def _refuse_extension(code: int, _data: bytes) -> object:
    raise RefusalError(Reason.NOT_MSGPACK, f"the record holds the msgpack extension {code}; send plain values only")
