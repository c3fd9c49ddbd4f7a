"""The laws of the door: nothing raises, what is let in can be computed with, what goes out comes back."""

from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.wire.announcement import SnapshotManifest, announce, read_announcement
from lmlp_stream.wire.dead_letter import DeadLetter, decode_dead_letter, encode_dead_letter
from lmlp_stream.wire.examples import EXAMPLE_LIMITS, manifest, valid_examples
from lmlp_stream.wire.record import Rejection, decode, encode
from lmlp_stream.wire.request import LabelRequest, decode_request

READERS: dict[str, tuple[Callable[[bytes], object], type]] = {
    "labelled-structure": (lambda value: decode(value, EXAMPLE_LIMITS), LabelledStructure),
    "label-request": (lambda value: decode_request(value, EXAMPLE_LIMITS), LabelRequest),
    "snapshot-announcement": (read_announcement, SnapshotManifest),
    "dead-letter": (decode_dead_letter, DeadLetter),
}
EXAMPLES = sorted(valid_examples().items())

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=100),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | st.binary(max_size=4), inner),
    max_leaves=6,
)


def every_reader_answers(value: bytes) -> None:
    for reader, kind in READERS.values():
        answer = reader(value)
        assert isinstance(answer, kind | Rejection)
        if isinstance(answer, Rejection):
            assert 0 < len(answer.detail) < 500
            assert answer.detail.isprintable()


@given(st.binary(max_size=300))
def test_no_reader_raises_on_random_bytes(value: bytes) -> None:
    every_reader_answers(value)


@settings(max_examples=300)
@given(st.sampled_from(EXAMPLES), st.data())
def test_no_reader_raises_on_flipped_or_lost_bytes(example: tuple[str, bytes], data: st.DataObject) -> None:
    value = bytearray(example[1])
    for _ in range(data.draw(st.integers(1, 3))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    every_reader_answers(bytes(value[: data.draw(st.integers(0, len(value)) | st.just(len(value)))]))


@settings(max_examples=500)
@given(st.sampled_from(EXAMPLES), st.data())
def test_no_reader_raises_on_any_value_in_any_place(example: tuple[str, bytes], data: st.DataObject) -> None:
    tree: dict[str, Any] = msgpack.unpackb(example[1])
    branch: Any = tree
    key = data.draw(st.sampled_from(sorted(branch)))
    while isinstance(branch[key], dict) and branch[key] and data.draw(st.booleans()):
        branch = branch[key]
        key = data.draw(st.sampled_from(sorted(branch)))
    branch[key] = data.draw(anything)
    every_reader_answers(msgpack.packb(tree))


@settings(max_examples=300)
@given(st.sampled_from(["atomic_numbers", "positions", "forces", "cell", "pbc", "stress"]), st.data())
def test_whatever_is_let_in_can_be_computed_with(field: str, data: st.DataObject) -> None:
    tree = msgpack.unpackb(dict(EXAMPLES)["labelled-structure--crystal-with-stress"])
    size = len(tree[field]["b"])
    tree[field]["b"] = data.draw(st.binary(min_size=size, max_size=size))
    answer = decode(msgpack.packb(tree), EXAMPLE_LIMITS)
    if isinstance(answer, LabelledStructure):
        assert np.isfinite(answer.positions).all()
        assert np.isfinite(answer.cell).all()
        assert np.isfinite(answer.forces).all()
        assert answer.stress is not None
        assert np.isfinite(answer.stress).all()
        assert ((answer.atomic_numbers >= 1) & (answer.atomic_numbers <= 54)).all()


@st.composite
def structures(draw: st.DrawFn) -> LabelledStructure:
    n_atoms = draw(st.integers(1, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    grid = np.stack(np.meshgrid(*3 * [np.arange(3.0)]), axis=-1).reshape(-1, 3)[:n_atoms] * 2.0
    forces = generator.normal(size=(n_atoms, 3))
    pbc = np.array(draw(st.tuples(*3 * [st.booleans()])))
    text = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=256)
    has_energy, has_forces = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
    return LabelledStructure(
        atomic_numbers=generator.integers(1, 55, n_atoms),
        positions=grid + generator.uniform(-0.5, 0.5, (n_atoms, 3)),
        cell=8.0 * np.eye(3) + generator.uniform(-0.5, 0.5, (3, 3)) if pbc.any() else np.zeros((3, 3)),
        pbc=pbc,
        charge=draw(st.integers(-3, 3)),
        multiplicity=draw(st.integers(0, 5)),
        id=draw(text),
        group=draw(text),
        domain=draw(text),
        energy=draw(st.floats(-1e4, 1e4)) if has_energy else np.nan,
        forces=forces - forces.mean(axis=0) if has_forces else np.full((n_atoms, 3), np.nan),
        stress=generator.normal(size=(3, 3)) if draw(st.booleans()) else None,
        level_of_theory=EXAMPLE_LIMITS.level_of_theory,
        source=draw(text),
        weight=draw(st.floats(0.0, 1e3, exclude_min=True)),
    )


@given(structures())
def test_a_structure_comes_back_bit_by_bit(structure: LabelledStructure) -> None:
    answer = decode(encode(structure), EXAMPLE_LIMITS)
    assert isinstance(answer, LabelledStructure), answer
    for name in ("atomic_numbers", "positions", "cell", "pbc", "forces"):
        np.testing.assert_array_equal(getattr(answer, name), getattr(structure, name))
        assert getattr(answer, name).dtype == getattr(structure, name).dtype
    np.testing.assert_equal(answer.stress, structure.stress)
    np.testing.assert_equal(answer.energy, structure.energy)
    for name in ("id", "group", "domain", "charge", "multiplicity", "level_of_theory", "source", "weight"):
        assert getattr(answer, name) == getattr(structure, name)
    assert encode(answer) == encode(structure)


@given(
    key=st.binary(max_size=100),
    value=st.binary(max_size=300),
    offset=st.integers(0, 2**63 - 1),
    timestamp_ms=st.integers(-1, 2**63 - 1),
)
def test_a_dead_letter_carries_its_message_byte_by_byte(
    key: bytes, value: bytes, offset: int, timestamp_ms: int
) -> None:
    letter = DeadLetter(
        reason="not_msgpack",
        detail="no",
        topic="lmlp.structures.v1",
        partition=3,
        offset=offset,
        timestamp_ms=timestamp_ms,
        key=key,
        value=value,
    )
    assert decode_dead_letter(encode_dead_letter(letter)) == letter


@given(
    errors=st.dictionaries(st.from_regex("[a-z_]{1,20}", fullmatch=True), st.floats(-1e9, 1e9)),
    elements=st.sets(st.integers(1, 54)).map(lambda numbers: tuple(sorted(numbers))),
    cutoff=st.integers(1, 20) | st.floats(0.5, 20.0),
)
def test_a_manifest_keeps_its_id_through_announcement_and_json(
    errors: dict[str, float], elements: tuple[int, ...], cutoff: float
) -> None:
    original = manifest(errors=errors, elements=elements, cutoff=cutoff)
    assert read_announcement(announce(original)) == original
    assert SnapshotManifest.from_json(original.to_json()) == original
