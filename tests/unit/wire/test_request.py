"""Label requests: the same geometry is one request, and hopeless geometries are refused."""

from dataclasses import replace

import msgpack
import numpy as np
import pytest

from lmlp_stream.wire.examples import EXAMPLE_LIMITS, rock_salt, water_request
from lmlp_stream.wire.record import Reason, Rejection
from lmlp_stream.wire.request import LabelRequest, decode_request, encode_request, request_id


def test_a_request_comes_back_with_its_structure() -> None:
    request = decode_request(encode_request(water_request()), EXAMPLE_LIMITS)
    assert isinstance(request, LabelRequest)
    for name in ("id", "uncertainty", "priority", "requester", "snapshot_id", "expires_at"):
        assert getattr(request, name) == getattr(water_request(), name)
    np.testing.assert_array_equal(request.structure.positions, water_request().structure.positions)
    assert request_id(request.structure) == request.id


def test_the_uncertainty_of_an_unknown_element_is_left_out() -> None:
    record = encode_request(replace(water_request(), uncertainty=float("nan")))
    assert "uncertainty" not in msgpack.unpackb(record)
    request = decode_request(record, EXAMPLE_LIMITS)
    assert isinstance(request, LabelRequest)
    assert np.isnan(request.uncertainty)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"expires_at": float("nan")}, Reason.NOT_FINITE),
        ({"expires_at": -1.0}, Reason.OUT_OF_RANGE),
        ({"uncertainty": float("inf")}, Reason.NOT_FINITE),
        ({"priority": "high"}, Reason.WRONG_TYPE),
        ({"atomic_numbers": {"d": "|u1", "s": [3], "b": b"\x08\x01\x62"}}, Reason.UNKNOWN_ELEMENT),
        ({"positions": {"d": "<f4", "s": [3, 3], "b": bytes(36)}}, Reason.OVERLAPPING_ATOMS),
        ({"schema_name": "labelled-structure"}, Reason.UNKNOWN_SCHEMA),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused(changes: dict[str, object], reason: Reason) -> None:
    tree = msgpack.unpackb(encode_request(water_request())) | changes
    rejection = decode_request(msgpack.packb(tree), EXAMPLE_LIMITS)
    assert isinstance(rejection, Rejection)
    assert rejection.reason is reason


def test_near_copies_share_a_request() -> None:
    structure = rock_salt()
    moved = replace(structure, positions=structure.positions + 2e-4)
    assert request_id(moved) == request_id(structure)
    assert request_id(replace(structure, positions=structure.positions - 1e-9)) == request_id(structure)


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": rock_salt().positions + np.array([[0.002, 0, 0], [0, 0, 0]])},
        {"atomic_numbers": np.array([11, 9])},
        {"cell": rock_salt().cell * 1.01},
        {"pbc": np.array([True, True, False])},
        {"charge": 1.0},
        {"multiplicity": 3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_everything_that_changes_the_label_changes_the_id(changes: dict[str, object]) -> None:
    assert request_id(replace(rock_salt(), **changes)) != request_id(rock_salt())
