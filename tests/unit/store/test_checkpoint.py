import json
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from lmlp_stream.config import Config, StoreConfig
from lmlp_stream.errors import ConfigError, DamagedStoreError, UsageError
from lmlp_stream.store import checkpoint
from lmlp_stream.store.checkpoint import Checkpoints, checkpoints_folder, describe, state_sha256

HEADER = {
    "labels_learned": 7,
    "positions": {"lmlp.structures.v1:0": 12},
    "journal_position": 3,
    "steps": 56,
    "elements": [1, 6],
    "config": {"seed": 0},
    "created": "2026-01-01T00:00:00+00:00",
}


def state(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        "weights": generator.normal(size=(3, 4)),
        "columns": np.asfortranarray(generator.normal(size=(4, 3)).astype(np.float32)),
        "slice": generator.normal(size=(6, 4))[::2, 1:3],
        "steps": np.array(56, dtype=np.int64),
        "big_endian": np.arange(4, dtype=">f8"),
        "ids": np.frombuffer(b"methane-1", dtype=np.uint8),
        "flags": np.array([True, False]),
        "empty": np.zeros((0, 3)),
    }


def test_what_is_saved_is_restored(tmp_path: Path) -> None:
    path = Checkpoints(tmp_path, keep=3).save(state(), HEADER)
    restored = Checkpoints(tmp_path, keep=3).restore()
    assert restored is not None
    assert restored.path == path
    assert restored.damaged == ()
    assert set(restored.state) == set(state())
    for name, array in state().items():
        np.testing.assert_array_equal(restored.state[name], array)
        assert restored.state[name].shape == array.shape
    assert HEADER.items() <= restored.header.items()
    assert restored.header["state_sha256"] == state_sha256(state()) == state_sha256(restored.state)


def test_nothing_is_restored_where_nothing_was_saved(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "none", keep=3).restore() is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for seed in range(4):
        checkpoints.save(state(seed), HEADER)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000000003", "0000000004"]


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["state.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_a_damaged_newest_is_passed_over_with_a_word_for_it(tmp_path: Path, name: str, damage: str) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    older = checkpoints.save(state(0), HEADER)
    file = checkpoints.save(state(1), HEADER) / name
    match damage:
        case "flip":
            _flip(file, len(file.read_bytes()) // 2)
        case "truncate":
            file.write_bytes(file.read_bytes()[:-3])
        case "empty":
            file.write_bytes(b"")
        case _:
            file.unlink()
    restored = checkpoints.restore()
    assert restored is not None
    assert restored.path == older
    assert restored.header["state_sha256"] == state_sha256(state(0))
    assert len(restored.damaged) == 1
    assert str(file.parent) in restored.damaged[0]
    assert describe(tmp_path)["damaged"] == list(restored.damaged)
    with pytest.raises(DamagedStoreError):
        describe(file.parent)


def test_a_position_edited_by_hand_is_damage(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    file = checkpoints.save(state(), HEADER) / "checkpoint.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "journal_position": 4}))
    with pytest.raises(DamagedStoreError, match=r"every checkpoint in .* is damaged"):
        checkpoints.restore()


def test_a_checkpoint_of_another_version_says_which_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(checkpoint, "FORMAT", "lmlp-checkpoint/1")
        Checkpoints(tmp_path, keep=3).save(state(), HEADER)
    with pytest.raises(DamagedStoreError, match=r"'lmlp-checkpoint/1'; this version reads lmlp-checkpoint/10"):
        Checkpoints(tmp_path, keep=3).restore()


def test_a_learner_with_only_damaged_checkpoints_does_not_begin_anew(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    for seed in range(2):
        (checkpoints.save(state(seed), HEADER) / "checkpoint.json").write_text("[]")
    with pytest.raises(DamagedStoreError, match="restore the folder from a backup"):
        checkpoints.restore()


def test_the_number_goes_on_after_a_damaged_newest(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=3)
    (checkpoints.save(state(), HEADER) / "checkpoint.json").unlink()
    assert checkpoints.save(state(), HEADER).name == "0000000002"


@contextmanager
def _files_end_at(n_bytes: int) -> Iterator[None]:
    """Every write past `n_bytes` of a file fails with EFBIG, as a full disk fails with ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("n_bytes", [0, 300, 900])
def test_a_full_disk_keeps_the_old_checkpoint_and_leaves_no_garbage(tmp_path: Path, n_bytes: int) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    older = checkpoints.save({"a": np.zeros(3)}, HEADER)
    with _files_end_at(n_bytes), pytest.raises(OSError, match=r"too large|write"):
        checkpoints.save({"a": np.zeros(8)}, {**HEADER, "config": "x" * 1000})
    assert list(tmp_path.iterdir()) == [older]
    restored = checkpoints.restore()
    assert restored is not None
    assert restored.path == older


def test_what_a_crash_left_half_written_is_invisible_and_swept(tmp_path: Path) -> None:
    (tmp_path / ".saving-0000000001").mkdir(parents=True)
    (tmp_path / ".saving-0000000001" / "state.safetensors").write_bytes(b"half")
    checkpoints = Checkpoints(tmp_path, keep=3)
    assert checkpoints.restore() is None
    saved = checkpoints.save(state(), HEADER)
    assert list(tmp_path.iterdir()) == [saved]


def test_the_hash_does_not_see_order_layout_or_byte_order() -> None:
    array = np.arange(6.0).reshape(2, 3)
    same = {"b": np.asfortranarray(array), "a": array.astype(">f8")}
    assert state_sha256({"a": array, "b": array}) == state_sha256(same)


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.arange(6.0)},
        {"b": np.arange(6.0).reshape(2, 3)},
        {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3)},
        {"a": np.arange(6.0).reshape(2, 3) + 1e-15},
        {},
    ],
)
def test_the_hash_sees_name_dtype_shape_and_bits(other: dict[str, np.ndarray]) -> None:
    assert state_sha256({"a": np.arange(6.0).reshape(2, 3)}) != state_sha256(other)


def test_a_header_may_not_name_a_digest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="state_sha256"):
        Checkpoints(tmp_path, keep=1).save(state(), {**HEADER, "state_sha256": "0"})
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_described_from_any_folder_above_it(tmp_path: Path) -> None:
    config = Config(name="water", store=StoreConfig(url=str(tmp_path)))
    checkpoints = Checkpoints(checkpoints_folder(config), keep=3)
    checkpoints.save(state(0), HEADER)
    newest = checkpoints.save(state(1), HEADER)
    for place in (tmp_path, tmp_path / "checkpoints", tmp_path / "checkpoints" / "water", newest):
        said = describe(place)
        assert said["path"] == str(newest)
        assert said["state_sha256"] == state_sha256(state(1))
        assert HEADER.items() <= said.items()
        json.dumps(said)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (lambda path: (path / "state.safetensors").write_bytes(b""), "state.safetensors is not what its digest says"),
        (lambda path: (path / "checkpoint.json").unlink(), "checkpoint.json cannot be read: No such file"),
    ],
)
def test_a_damaged_checkpoint_says_where_an_intact_one_is_looked_for(
    tmp_path: Path, damage: Callable[[Path], object], fault: str
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    intact, damaged = checkpoints.save(state(0), HEADER), checkpoints.save(state(1), HEADER)
    damage(damaged)
    with pytest.raises(DamagedStoreError, match=fault) as caught:
        describe(damaged)
    assert f"`lmlp-stream inspect {tmp_path}` names the newest intact one" in str(caught.value)
    assert describe(tmp_path)["path"] == str(intact)


def test_a_store_of_two_learners_asks_which(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Checkpoints(tmp_path / "checkpoints" / name, keep=1).save(state(), HEADER)
    with pytest.raises(UsageError, match="checkpoints of a, b"):
        describe(tmp_path)


def test_a_folder_without_checkpoints_is_said_to_have_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no checkpoint"):
        describe(tmp_path / "none")


def test_checkpoints_need_a_local_folder() -> None:
    with pytest.raises(ConfigError, match=r"store\.checkpoints"):
        checkpoints_folder(Config(store=StoreConfig(url="s3://bucket/lmlp")))
    local = Config(store=StoreConfig(url="s3://bucket/lmlp", checkpoints="/scratch/lmlp"))
    assert checkpoints_folder(local) == Path("/scratch/lmlp/lmlp")
