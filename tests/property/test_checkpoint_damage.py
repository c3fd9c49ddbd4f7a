"""Whatever happens to the bytes of the newest checkpoint: what is restored was once saved, bit for bit."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lmlp_stream.store.checkpoint import Checkpoints, state_sha256

DTYPES = st.sampled_from(["<f4", "<f8", "<i8", "<i4", "|u1", "|b1", "<u8", ">f8"])
STATES = st.dictionaries(
    st.text("abc._0", min_size=1, max_size=5),
    arrays.arrays(DTYPES, arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
    max_size=4,
)
FILES = ("state.safetensors", "checkpoint.json")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    for labels in (1, 2):
        Checkpoints(folder, keep=2).save({"a": np.full(5, float(labels))}, {"labels_learned": labels})
    return folder


@settings(max_examples=200, deadline=None)
@given(file=st.sampled_from(FILES), share=st.floats(0, 1, exclude_max=True), patch=st.binary(max_size=4))
def test_a_mutated_newest_is_never_restored_as_something_else(two: Path, file: str, share: float, patch: bytes) -> None:
    newest = two / "0000000002"
    content = (newest / file).read_bytes()
    place = int(share * len(content))
    (newest / file).write_bytes(content[:place] + patch + (content[place + len(patch) :] if patch else b""))
    try:
        restored = Checkpoints(two, keep=2).restore()
    finally:
        (newest / file).write_bytes(content)
    assert restored is not None
    labels = restored.header["labels_learned"]
    np.testing.assert_array_equal(restored.state["a"], np.full(5, float(labels)))
    assert labels == (1 if restored.damaged else 2)


@settings(max_examples=100, deadline=None)
@given(state=STATES)
def test_every_state_comes_back_with_its_hash(tmp_path_factory: pytest.TempPathFactory, state: dict) -> None:
    folder = tmp_path_factory.mktemp("state")
    Checkpoints(folder, keep=1).save(state, {})
    restored = Checkpoints(folder, keep=1).restore()
    shutil.rmtree(folder)
    assert restored is not None
    assert restored.header["state_sha256"] == state_sha256(state) == state_sha256(restored.state)
    assert {name: array.shape for name, array in restored.state.items()} == {n: a.shape for n, a in state.items()}
