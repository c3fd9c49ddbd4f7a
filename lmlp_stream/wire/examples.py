"""Example messages: what a reader in any language must let in, and what it must refuse, each for one reason.

Invalid examples are named `<reason>--<what>`; they are judged by `EXAMPLE_LIMITS`.
"""

from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

from lmlp_stream.atoms.structure import LabelledStructure, Structure
from lmlp_stream.wire.announcement import SnapshotManifest, announce
from lmlp_stream.wire.arrays import packed
from lmlp_stream.wire.dead_letter import DeadLetter, encode_dead_letter
from lmlp_stream.wire.limits import Limits
from lmlp_stream.wire.record import encode
from lmlp_stream.wire.rejection import Reason
from lmlp_stream.wire.request import LabelRequest, encode_request, request_id

Fields = dict[str, Any]

EXAMPLE_LIMITS = Limits(
    level_of_theory="GFN2-xTB",
    further_levels=(),
    elements="published",
    max_record_bytes=8192,
    max_atoms=200,
    min_distance=0.4,
    max_force=300.0,
    max_net_force=0.5,
)

_WATER = Structure(
    atomic_numbers=np.array([8, 1, 1]),
    positions=np.array([[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]]),
    cell=np.zeros((3, 3)),
    pbc=np.zeros(3, np.bool_),
    multiplicity=1,
)
_WATER_FORCES = np.array([[0.0, 0.0, 0.25], [0.0, -0.5, -0.125], [0.0, 0.5, -0.125]])
_ROCK_SALT = Structure(
    atomic_numbers=np.array([11, 17]),
    positions=np.array([[0.0, 0.0, 0.0], [2.82, 2.82, 2.82]]),
    cell=2.82 * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]),
    pbc=np.ones(3, np.bool_),
)


def water() -> LabelledStructure:
    """A water molecule with energy and forces; the numbers are made up."""
    return _labelled(_WATER, "water-1", energy=-137.5, forces=_WATER_FORCES)


def rock_salt() -> LabelledStructure:
    """The primitive cell of rock salt with energy, forces and stress; the numbers are made up."""
    return _labelled(_ROCK_SALT, "salt-1", energy=-27.25, forces=np.zeros((2, 3)), stress=0.125 * np.eye(3))


def water_request() -> LabelRequest:
    """A request for the label of a water molecule."""
    return LabelRequest(
        id=request_id(_WATER),
        structure=_WATER,
        uncertainty=0.75,
        priority=2.5,
        requester="md-1",
        snapshot_id="0" * 64,
        expires_at=1.8e9,
    )


def manifest(**changes: Any) -> SnapshotManifest:
    """The manifest of a small snapshot, with some fields changed, under its own content id."""
    fields: Fields = {
        "name": "lmlp",
        "step": 4000,
        "labels_learned": 500,
        "journal_position": 40,
        "elements": (1, 8),
        "cutoff": 5.2,
        "level_of_theory": "GFN2-xTB",
        "symmetry": {"cutoff": 5.2, "radial": [{"eta": 0.5, "r_s": 0.0, "factor": "one"}], "angular": []},
        "potential": {"members": 2, "hidden": [8, 4], "dtype": "float32"},
        "errors": {"energy_rmse_ev_per_atom": 0.004, "force_rmse_ev_per_angstrom": 0.125, "n_structures": 25.0},
        "calibration": {"energy": 1.5, "forces": 2.0},
        "weights_uri": "lmlp-store/example/weights.safetensors",
        "weights_sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "parent_id": "",
        "code_version": "0.1.0",
        "created_at": "2026-11-23T08:00:00Z",
        **changes,
    }
    return SnapshotManifest(id=SnapshotManifest(id="", **fields).content_id(), **fields)


def dead_letter() -> DeadLetter:
    """A message of three bytes that is no msgpack."""
    return DeadLetter(
        reason=Reason.NOT_MSGPACK,
        detail="the record of 3 bytes is not msgpack",
        topic="lmlp.structures.v1",
        partition=0,
        offset=17,
        timestamp_ms=1_790_000_000_000,
        key=b"water",
        value=b"\xc1\xc1\xc1",
    )


def valid_examples() -> dict[str, bytes]:
    """Messages that must be let in, by `<schema>--<what>`."""
    ion = _water_with(charge=-1, multiplicity=2, id="ion-1")
    coarse = _water_with(positions=packed(_WATER.positions, "<f4"), atomic_numbers=packed(_WATER.atomic_numbers, "|u1"))
    newer = _water_with(created="2031-01-01T00:00:00Z", dipole=packed(np.zeros(3), "<f8"), notes=[None, True, {"a": 1}])
    return {
        "labelled-structure--molecule": encode(water()),
        "labelled-structure--crystal-with-stress": encode(rock_salt()),
        "labelled-structure--only-an-energy": _without("forces"),
        "labelled-structure--only-forces": _without("energy"),
        "labelled-structure--only-required-fields": _without("group", "domain", "source", "charge", "weight", "energy"),
        "labelled-structure--ion": ion,
        "labelled-structure--single-precision": coarse,
        "labelled-structure--fields-of-a-newer-producer": newer,
        "label-request--molecule": encode_request(water_request()),
        "snapshot-announcement--first": announce(manifest()),
        "dead-letter--not-msgpack": encode_dead_letter(dead_letter()),
    }


def invalid_examples() -> dict[str, bytes]:
    """Messages that must be refused, by `<reason>--<what>`."""
    return {
        f"{reason}--{what}": value
        for group in (_invalid_messages, _invalid_fields, _invalid_arrays, _invalid_geometries, _invalid_labels)
        for (reason, what), value in group().items()
    }


Invalid = dict[tuple[Reason, str], bytes]


def _invalid_messages() -> Invalid:
    twice = msgpack.packb({"schema_name": "labelled-structure", "energy": 1.0, "energx": 2.0})
    changed = msgpack.unpackb(announce(manifest())) | {"cutoff": 6.0}
    return {
        (Reason.TOO_LARGE, "padded"): _water_with(padding=bytes(EXAMPLE_LIMITS.max_record_bytes)),
        (Reason.NOT_MSGPACK, "empty"): b"",
        (Reason.NOT_MSGPACK, "truncated"): encode(water())[:-5],
        (Reason.NOT_MSGPACK, "followed-by-more"): encode(water()) + b"\x00",
        (Reason.NOT_MSGPACK, "json"): b'{"schema_name": "labelled-structure", "schema_version": 1}',
        (Reason.NOT_MSGPACK, "pickle"): b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00}\x94\x8c\x01a\x94K\x01s.",
        (Reason.NOT_MSGPACK, "nested-too-deep"): b"\x91" * 4000 + b"\xc0",
        (Reason.NOT_MSGPACK, "extension-type"): _water_with(when=msgpack.Timestamp(0)),
        (Reason.NOT_MSGPACK, "text-that-is-not-utf-8"): encode(water()).replace(b"GFN2", b"\xff\xff\xff\xff"),
        (Reason.NOT_MSGPACK, "integer-as-field-name"): msgpack.packb({1: 2}),
        (Reason.NOT_MSGPACK, "huge-claimed-list"): b"\xdd\xff\xff\xff\xff",
        (Reason.DUPLICATE_FIELD, "two-energies"): twice.replace(b"energx", b"energy"),
        (Reason.WRONG_TYPE, "record-is-a-list"): msgpack.packb([1, 2, 3]),
        (Reason.UNKNOWN_SCHEMA, "absent"): msgpack.packb({}),
        (Reason.UNKNOWN_SCHEMA, "other"): _water_with(schema_name="structure-with-labels"),
        (Reason.UNKNOWN_VERSION, "two"): _water_with(schema_version=2),
        (Reason.UNKNOWN_VERSION, "as-text"): _water_with(schema_version="1"),
        (Reason.WRONG_ID, "announcement-with-changed-cutoff"): msgpack.packb(changed),
    }


def _invalid_fields() -> Invalid:
    return {
        (Reason.MISSING_FIELD, "positions"): _without("positions"),
        (Reason.MISSING_FIELD, "id"): _without("id"),
        (Reason.WRONG_TYPE, "energy-as-text"): _water_with(energy="-137.5"),
        (Reason.WRONG_TYPE, "energy-is-true"): _water_with(energy=True),
        (Reason.WRONG_TYPE, "positions-as-list"): _water_with(positions=_WATER.positions.tolist()),
        (Reason.WRONG_TYPE, "forces-null"): _water_with(forces=None),
        (Reason.BAD_TEXT, "empty-id"): _water_with(id=""),
        (Reason.BAD_TEXT, "id-of-257-characters"): _water_with(id="x" * 257),
        (Reason.BAD_TEXT, "terminal-escape"): _water_with(source="\x1b[2J"),
        (Reason.OUT_OF_RANGE, "weight-zero"): _water_with(weight=0.0),
        (Reason.OUT_OF_RANGE, "weight-negative"): _water_with(weight=-1.0),
        (Reason.OUT_OF_RANGE, "multiplicity-negative"): _water_with(multiplicity=-1),
        (Reason.OUT_OF_RANGE, "energy-far-off"): _water_with(energy=-1e9),
        (Reason.NOT_FINITE, "weight-nan"): _water_with(weight=np.nan),
        (Reason.NOT_FINITE, "energy-nan"): _water_with(energy=np.nan),
    }


def _invalid_arrays() -> Invalid:
    def positions(**changes: Any) -> bytes:
        return _water_with(positions=packed(_WATER.positions, "<f8") | changes)

    return {
        (Reason.BAD_ARRAY, "big-endian"): positions(d=">f8"),
        (Reason.BAD_ARRAY, "python-objects"): positions(d="|O"),
        (Reason.BAD_ARRAY, "integers-for-floats"): positions(d="<i8"),
        (Reason.BAD_ARRAY, "too-few-bytes"): positions(b=bytes(71)),
        (Reason.BAD_ARRAY, "bytes-as-text"): positions(b="0" * 72),
        (Reason.BAD_ARRAY, "shape-of-more-atoms"): positions(s=[4, 3], b=bytes(96)),
        (Reason.BAD_ARRAY, "shape-transposed"): positions(s=[9]),
        (Reason.BAD_ARRAY, "negative-length"): positions(s=[-3, -3]),
        (Reason.BAD_ARRAY, "no-atoms"): _water_with(atomic_numbers={"d": "<i4", "s": [0], "b": b""}),
        (Reason.BAD_ARRAY, "without-shape"): _water_with(positions={"d": "<f8", "b": bytes(72)}),
        (Reason.TOO_MANY_ATOMS, "claimed-only"): _water_with(atomic_numbers={"d": "|u1", "s": [2**62], "b": b"\x01"}),
    }


def _invalid_geometries() -> Invalid:
    def crystal(**changes: Any) -> bytes:
        return _changed(encode(rock_salt()), lambda fields: fields | changes)

    far = _WATER.positions * 1e7
    close = _WATER.positions * np.array([1.0, 0.2, 0.2])
    grid = 0.5 * np.stack(np.meshgrid(*3 * [np.arange(5.0)]), axis=-1).reshape(-1, 3)
    cloud = {"atomic_numbers": packed(np.ones(125), "|u1"), "positions": packed(grid, "<f4")}
    images = np.array([[0.0, 0.0, 0.0], [0.1, 5.64, 5.64]])
    return {
        (Reason.NOT_FINITE, "position-nan"): _water_with(positions=packed(_WATER.positions * np.nan, "<f8")),
        (Reason.NOT_FINITE, "cell-infinite"): crystal(cell=packed(np.full((3, 3), np.inf), "<f8")),
        (Reason.OUT_OF_RANGE, "positions-far-off"): _water_with(positions=packed(far, "<f8")),
        (Reason.OUT_OF_RANGE, "pbc-of-two"): crystal(pbc=packed(np.array([2, 1, 1]), "|u1")),
        (Reason.UNKNOWN_ELEMENT, "cesium"): _water_with(atomic_numbers=packed(np.array([55, 1, 1]), "<i4")),
        (Reason.UNKNOWN_ELEMENT, "zero"): _water_with(atomic_numbers=packed(np.array([8, 0, 1]), "<i4")),
        (Reason.BAD_CELL, "periodic-without-cell"): _water_with(pbc=packed(np.ones(3), "|u1")),
        (Reason.BAD_CELL, "coplanar-vectors"): crystal(cell=packed(np.ones((3, 3)), "<f8")),
        (Reason.BAD_CELL, "thin"): crystal(cell=packed(0.1 * np.eye(3), "<f8")),
        (Reason.OVERLAPPING_ATOMS, "hydrogens"): _water_with(positions=packed(close, "<f8")),
        (Reason.OVERLAPPING_ATOMS, "periodic-image"): crystal(positions=packed(images, "<f8")),
        (Reason.TOO_DENSE, "cloud"): _changed(_without("forces"), lambda fields: fields | cloud),
    }


def _invalid_labels() -> Invalid:
    one_nan = _WATER_FORCES.copy()
    one_nan[0, 2] = np.nan
    return {
        (Reason.LEVEL_OF_THEORY, "other"): _water_with(level_of_theory="gfn2-xtb"),
        (Reason.NO_LABEL, "neither-energy-nor-forces"): _without("energy", "forces"),
        (Reason.NOT_FINITE, "one-force-component"): _water_with(forces=packed(one_nan, "<f8")),
        (Reason.NOT_FINITE, "stress"): _water_with(stress=packed(np.full((3, 3), np.nan), "<f8")),
        (Reason.FORCE_TOO_LARGE, "wrong-unit"): _water_with(forces=packed(_WATER_FORCES * 1e4, "<f8")),
        (Reason.NET_FORCE, "one-sign-lost"): _water_with(forces=packed(np.abs(_WATER_FORCES) * 4.0, "<f8")),
    }


def _labelled(structure: Structure, identity: str, **labels: Any) -> LabelledStructure:
    return LabelledStructure(
        atomic_numbers=structure.atomic_numbers,
        positions=structure.positions,
        cell=structure.cell,
        pbc=structure.pbc,
        charge=structure.charge,
        multiplicity=structure.multiplicity,
        id=identity,
        group=identity.partition("-")[0],
        domain="molecule",
        level_of_theory=EXAMPLE_LIMITS.level_of_theory,
        source="example",
        **labels,
    )


def _changed(message: bytes, change: Callable[[Fields], Fields]) -> bytes:
    return bytes(msgpack.packb(change(msgpack.unpackb(message))))


def _water_with(**changes: Any) -> bytes:
    return _changed(encode(water()), lambda fields: fields | changes)


def _without(*names: str) -> bytes:
    return _changed(encode(water()), lambda fields: {k: v for k, v in fields.items() if k not in names})
