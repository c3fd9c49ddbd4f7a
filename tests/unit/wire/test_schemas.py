"""`schemas/` is what the code says, and it describes what the code accepts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import msgpack
import pytest
import yaml

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.config import LogConfig
from lmlp_stream.wire.announcement import SnapshotManifest, read_announcement
from lmlp_stream.wire.asyncapi import asyncapi_document
from lmlp_stream.wire.dead_letter import DeadLetter, decode_dead_letter
from lmlp_stream.wire.examples import EXAMPLE_LIMITS
from lmlp_stream.wire.record import Reason, Rejection, decode
from lmlp_stream.wire.rejection import STUDIED
from lmlp_stream.wire.request import LabelRequest, decode_request
from lmlp_stream.wire.schemas import ENVELOPES, schema_files, write_schemas

SCHEMAS = Path(__file__).parents[3] / "schemas"
VALID = sorted((SCHEMAS / "examples" / "valid").glob("*.msgpack"))
INVALID = sorted((SCHEMAS / "examples" / "invalid").glob("*.msgpack"))

READERS: dict[str, tuple[Callable[[bytes], object], type]] = {
    "labelled-structure": (lambda value: decode(value, EXAMPLE_LIMITS), LabelledStructure),
    "label-request": (lambda value: decode_request(value, EXAMPLE_LIMITS), LabelRequest),
    "snapshot-announcement": (read_announcement, SnapshotManifest),
    "dead-letter": (decode_dead_letter, DeadLetter),
}


def as_json(value: Any) -> Any:
    """What a msgpack value is in JSON: binary is the string whose characters have the numbers of the bytes."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list) else value


def test_the_folder_holds_exactly_what_the_code_generates() -> None:
    on_disk = {str(path.relative_to(SCHEMAS)) for path in SCHEMAS.rglob("*") if path.is_file()}
    assert on_disk - {"README.md"} == set(schema_files())
    for name, content in schema_files().items():
        assert (SCHEMAS / name).read_bytes() == content, f"{name}: run python -m lmlp_stream.wire.schemas"


def test_writing_removes_examples_that_are_gone(tmp_path: Path) -> None:
    stale = tmp_path / "examples" / "invalid" / "no_reason--stale.msgpack"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"")
    write_schemas(tmp_path)
    assert not stale.exists()
    assert len(list(tmp_path.rglob("*.msgpack"))) == len(VALID) + len(INVALID)


@pytest.mark.parametrize("envelope", ENVELOPES, ids=lambda envelope: envelope.name)
def test_every_schema_is_a_schema(envelope: Any) -> None:
    jsonschema.Draft7Validator.check_schema(envelope.schema())


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_valid_example_is_let_in_and_obeys_its_schema(path: Path) -> None:
    schema_name = path.stem.partition("--")[0]
    reader, kind = READERS[schema_name]
    assert isinstance(reader(path.read_bytes()), kind)
    schema = next(envelope.schema() for envelope in ENVELOPES if envelope.name == schema_name)
    jsonschema.validate(as_json(msgpack.unpackb(path.read_bytes())), schema, jsonschema.Draft7Validator)


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_example_is_refused_for_the_reason_in_its_name(path: Path) -> None:
    reader, _ = READERS["snapshot-announcement" if "announcement" in path.stem else "labelled-structure"]
    rejection = reader(path.read_bytes())
    assert isinstance(rejection, Rejection)
    assert rejection.reason == path.stem.partition("--")[0]
    assert rejection.detail.isprintable()
    assert ";" in rejection.detail, "a remedy follows the semicolon"
    assert len(rejection.detail) < 300


def test_every_reason_has_an_example() -> None:
    assert {path.stem.partition("--")[0] for path in INVALID} == set(Reason) - STUDIED


def test_every_schema_has_a_valid_example() -> None:
    assert {path.stem.partition("--")[0] for path in VALID} == {envelope.name for envelope in ENVELOPES}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("energy", "1"),
        ("weight", 0),
        ("id", ""),
        ("multiplicity", -1),
        ("positions", [[0.0, 0.0, 0.0]]),
        ("positions", {"d": ">f8", "s": [3, 3], "b": ""}),
        ("cell", {"d": "<f8", "s": [3, 2], "b": ""}),
        ("schema_version", 2),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(field: str, value: object) -> None:
    example = as_json(msgpack.unpackb((SCHEMAS / "examples/valid/labelled-structure--molecule.msgpack").read_bytes()))
    validator = jsonschema.Draft7Validator(ENVELOPES[0].schema())
    assert validator.is_valid(example)
    assert not validator.is_valid(example | {field: value})


def test_the_asyncapi_file_reads_back_as_the_document() -> None:
    assert yaml.safe_load((SCHEMAS / "asyncapi.yaml").read_text(encoding="utf-8")) == asyncapi_document()


def test_the_asyncapi_document_names_the_topics_of_the_configuration() -> None:
    document = asyncapi_document()
    kafka = {channel["address"]: channel["bindings"]["kafka"] for channel in document["channels"].values()}
    specs = {spec.name: spec for spec in topic_specs(LogConfig())}
    assert set(kafka) == set(specs)
    for address, binding in kafka.items():
        assert binding["partitions"] == specs[address].n_partitions
        assert binding["topicConfiguration"]["cleanup.policy"] == ["compact" if specs[address].compacted else "delete"]


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi_document()
    references = list(_references(document))
    assert len(references) > 10
    for reference in references:
        if reference.startswith("#/"):
            target: Any = document
            for step in reference.removeprefix("#/").split("/"):
                target = target[step]
        else:
            assert (SCHEMAS / reference).is_file()


def _references(tree: object) -> Any:
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == "$ref":
                yield value
            else:
                yield from _references(value)
