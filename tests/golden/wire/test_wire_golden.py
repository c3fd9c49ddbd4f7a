"""Bytes of version 1 as they were first released: every later reader reads them, and today's writer writes them.

The files are never regenerated. A change that breaks this test needs a new major version and topics of its own.
"""

from pathlib import Path

import numpy as np

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.wire.announcement import SnapshotManifest, announce, read_announcement
from lmlp_stream.wire.dead_letter import DeadLetter, decode_dead_letter, encode_dead_letter
from lmlp_stream.wire.examples import EXAMPLE_LIMITS
from lmlp_stream.wire.record import decode, encode
from lmlp_stream.wire.request import LabelRequest, decode_request, encode_request, request_id

WATER_ID = "5b8590eeb924d5c15d7cd3d2ed4be197acab7c9756fb2a765800e8ad37dc92c3"
SNAPSHOT_ID = "9f71b751073fd048c71399bdef086bdcaf0e9e7b68522b87f88ce71367960768"
WATER_POSITIONS = [[0.0, 0.0, 0.119], [0.0, 0.763, -0.477], [0.0, -0.763, -0.477]]


def golden(name: str) -> bytes:
    return (Path(__file__).parent / f"{name}.msgpack").read_bytes()


def test_a_molecule_of_version_1() -> None:
    structure = decode(golden("labelled-structure-1-water"), EXAMPLE_LIMITS)
    assert isinstance(structure, LabelledStructure)
    assert (structure.id, structure.group, structure.domain) == ("water-1", "water", "molecule")
    assert (structure.level_of_theory, structure.source, structure.weight) == ("GFN2-xTB", "example", 1.0)
    assert (structure.energy, structure.charge, structure.multiplicity) == (-137.5, 0.0, 1)
    assert structure.atomic_numbers.tolist() == [8, 1, 1]
    assert structure.positions.tolist() == WATER_POSITIONS
    assert structure.forces.tolist() == [[0.0, 0.0, 0.25], [0.0, -0.5, -0.125], [0.0, 0.5, -0.125]]
    assert structure.stress is None
    assert encode(structure) == golden("labelled-structure-1-water")


def test_a_crystal_of_version_1() -> None:
    structure = decode(golden("labelled-structure-1-rock-salt"), EXAMPLE_LIMITS)
    assert isinstance(structure, LabelledStructure)
    assert structure.pbc.tolist() == [True, True, True]
    assert structure.cell.tolist() == [[0.0, 2.82, 2.82], [2.82, 0.0, 2.82], [2.82, 2.82, 0.0]]
    np.testing.assert_array_equal(structure.stress, 0.125 * np.eye(3))
    assert encode(structure) == golden("labelled-structure-1-rock-salt")


def test_a_label_request_of_version_1() -> None:
    request = decode_request(golden("label-request-1"), EXAMPLE_LIMITS)
    assert isinstance(request, LabelRequest)
    assert request.id == WATER_ID == request_id(request.structure)
    assert (request.uncertainty, request.priority, request.requester) == (0.75, 2.5, "md-1")
    assert (request.snapshot_id, request.expires_at) == ("0" * 64, 1.8e9)
    assert request.structure.positions.tolist() == WATER_POSITIONS
    assert encode_request(request) == golden("label-request-1")


def test_an_announcement_of_version_1() -> None:
    manifest = read_announcement(golden("snapshot-announcement-1"))
    assert isinstance(manifest, SnapshotManifest)
    assert manifest.id == SNAPSHOT_ID == manifest.content_id()
    assert (manifest.name, manifest.step, manifest.labels_learned) == ("lmlp", 4000, 500)
    assert (manifest.elements, manifest.cutoff) == ((1, 8), 5.2)
    assert announce(manifest) == golden("snapshot-announcement-1")


def test_a_dead_letter_of_version_1() -> None:
    letter = decode_dead_letter(golden("dead-letter-1"))
    assert isinstance(letter, DeadLetter)
    assert (letter.reason, letter.topic, letter.partition, letter.offset) == (
        "not_msgpack",
        "lmlp.structures.v1",
        0,
        17,
    )
    assert (letter.timestamp_ms, letter.key, letter.value) == (1_790_000_000_000, b"water", b"\xc1\xc1\xc1")
    assert encode_dead_letter(letter) == golden("dead-letter-1")
