"""Announcements: the id is the content, and nothing else is believed."""

import json
import subprocess
import sys
from dataclasses import fields, replace

import msgpack
import pytest

from lmlp_stream.wire.announcement import (
    MAX_ANNOUNCEMENT_BYTES,
    MAX_LEVELS,
    SNAPSHOT_ANNOUNCEMENT,
    SnapshotManifest,
    announce,
    announcement_key,
    read_announcement,
)
from lmlp_stream.wire.examples import manifest
from lmlp_stream.wire.record import Reason, Rejection

NOT_HASHED = {
    "id": "x",
    "weights_uri": "s3://elsewhere",
    "code_version": "9",
    "created_at": "2031-01-01T00:00:00Z",
    "signature": "0" * 128,
}


def refused(value: bytes) -> Rejection:
    rejection = read_announcement(value)
    assert isinstance(rejection, Rejection)
    return rejection


def test_an_announcement_carries_every_field() -> None:
    assert set(SNAPSHOT_ANNOUNCEMENT.fields) == {field.name for field in fields(SnapshotManifest)}
    assert read_announcement(announce(manifest())) == manifest()


def test_a_signature_travels_and_an_unsigned_announcement_has_no_such_field() -> None:
    signed = replace(manifest(), signature="0" * 128)
    assert read_announcement(announce(signed)) == signed
    assert SnapshotManifest.from_json(json.loads(json.dumps(signed.to_json()))) == signed
    assert "signature" not in msgpack.unpackb(announce(manifest()))


def test_further_levels_travel_and_are_left_out_where_there_are_none() -> None:
    several = manifest(further_levels=("PBE", "HF"))
    assert read_announcement(announce(several)) == several
    assert SnapshotManifest.from_json(json.loads(json.dumps(several.to_json()))) == several
    assert "further_levels" not in msgpack.unpackb(announce(manifest()))
    assert several.id != manifest().id != manifest(further_levels=("HF", "PBE")).id


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        ("PBE", Reason.WRONG_TYPE),
        ([1], Reason.WRONG_TYPE),
        (["PBE", ""], Reason.BAD_TEXT),
        (["PBE", "PBE"], Reason.BAD_TEXT),
        ([str(number) for number in range(MAX_LEVELS + 1)], Reason.OUT_OF_RANGE),
    ],
)
def test_further_levels_of_another_shape_are_refused(levels: object, reason: Reason) -> None:
    tree = msgpack.unpackb(announce(manifest()))
    assert refused(msgpack.packb(tree | {"further_levels": levels})).reason is reason


@pytest.mark.parametrize("signature", ["", "0" * 127, "0" * 129, b"0" * 128, None])
def test_a_signature_of_another_shape_is_refused(signature: object) -> None:
    tree = msgpack.unpackb(announce(manifest()))
    assert refused(msgpack.packb(tree | {"signature": signature})).reason in (Reason.BAD_TEXT, Reason.WRONG_TYPE)


def test_the_id_stays_where_a_copy_lies_elsewhere() -> None:
    for name, value in NOT_HASHED.items():
        assert replace(manifest(), **{name: value}).content_id() == manifest().id


@pytest.mark.parametrize("name", sorted({field.name for field in fields(SnapshotManifest)} - set(NOT_HASHED)))
def test_the_id_changes_with_the_content(name: str) -> None:
    others = {
        "further_levels": ("PBE",),
        "elements": (1, 6),
        "cutoff": 6.0,
        "symmetry": {},
        "potential": {},
        "errors": {},
        "calibration": {},
    }
    value = others.get(name, 7 if isinstance(getattr(manifest(), name), int) else "f" * 64)
    assert replace(manifest(), **{name: value}).content_id() != manifest().id


def test_a_changed_announcement_is_not_believed() -> None:
    tree = msgpack.unpackb(announce(manifest()))
    assert refused(msgpack.packb(tree | {"labels_learned": 10**6})).reason is Reason.WRONG_ID


def test_a_manifest_survives_a_json_file() -> None:
    text = json.dumps(manifest().to_json(), indent=1)
    again = SnapshotManifest.from_json(json.loads(text))
    assert again == manifest()
    assert again.verified()


def test_damaged_json_is_a_value_error_that_names_the_place() -> None:
    tree = manifest().to_json()
    del tree["cutoff"]
    with pytest.raises(ValueError, match="no field cutoff"):
        SnapshotManifest.from_json(tree)


def test_an_integer_cutoff_does_not_change_the_id() -> None:
    assert manifest(cutoff=5).id == manifest(cutoff=5.0).id


@pytest.mark.parametrize("elements", [(8, 1), (1, 1), (0, 1), (1, 119)])
def test_elements_are_increasing_and_known(elements: tuple[int, ...]) -> None:
    assert refused(announce(manifest(elements=elements))).reason is Reason.UNKNOWN_ELEMENT


def test_an_unverified_manifest_is_not_announced() -> None:
    with pytest.raises(ValueError, match="not its content id"):
        announce(replace(manifest(), step=1))


def test_a_figure_that_is_not_finite_is_not_announced() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        manifest(errors={"force_rmse_ev_per_angstrom": float("nan")})


def test_an_announcement_that_nobody_could_read_is_not_made() -> None:
    with pytest.raises(ValueError, match="readers accept"):
        announce(manifest(potential={"notes": "x" * MAX_ANNOUNCEMENT_BYTES}))


def test_every_snapshot_of_every_learner_has_its_own_key() -> None:
    assert announcement_key(manifest()) == f"lmlp/{manifest().id}".encode()


def test_the_door_opens_without_torch() -> None:
    rooms = "announcement, dead_letter, record, request, schemas"
    code = f"import sys; from lmlp_stream.wire import {rooms}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
