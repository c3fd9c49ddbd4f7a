import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from lmlp_stream.errors import DamagedStoreError, UsageError
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.store.declared import DeclaredTensors
from lmlp_stream.store.snapshot import Provenance, find_snapshot, load, publish
from lmlp_stream.wire.announcement import SnapshotManifest, announce, read_announcement


@pytest.fixture(params=["folder", "file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield {"folder": str(tmp_path / "store"), "file": f"file://{tmp_path}/store", "memory": "memory://store"}[
        request.param
    ]
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def published(ensemble: Ensemble, provenance: Provenance, tmp_path: Path) -> tuple[SnapshotManifest, Path]:
    manifest = publish(ensemble, provenance, tmp_path / "store")
    return manifest, tmp_path / "store" / manifest.id


def equal(one: Ensemble, other: Ensemble) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_is_published_is_loaded(ensemble: Ensemble, provenance: Provenance, url: str) -> None:
    manifest = publish(ensemble, provenance, url)
    assert manifest.verified()
    assert manifest.elements == (1, 8)
    assert manifest.weights_uri.startswith(("file:///", "memory://"))
    assert manifest.errors == provenance.errors
    for where in (manifest, manifest.weights_uri.rpartition("/")[0], f"{url}/{manifest.id}"):
        loaded, potential = load(where)
        assert loaded == manifest
        assert equal(potential, ensemble)
        assert potential.spec == ensemble.spec
        assert (potential.hidden, potential.members, potential.dtype) == ((5, 4), 3, torch.float64)


def test_what_is_published_can_be_announced(ensemble: Ensemble, provenance: Provenance, tmp_path: Path) -> None:
    manifest = publish(ensemble, provenance, tmp_path)
    announced = read_announcement(announce(manifest))
    assert isinstance(announced, SnapshotManifest)
    assert equal(load(announced)[1], ensemble)


def test_publishing_again_changes_nothing(ensemble: Ensemble, provenance: Provenance, url: str) -> None:
    first = publish(ensemble, provenance, url)
    later = publish(ensemble, replace(provenance, created_at="2026-02-01T00:00:00+00:00"), url)
    assert later == first


def test_the_id_is_the_same_in_every_store(ensemble: Ensemble, provenance: Provenance, tmp_path: Path) -> None:
    one, other = (publish(ensemble, provenance, tmp_path / name) for name in ("one", "other"))
    assert one.id == other.id
    assert one.weights_uri != other.weights_uri


def test_another_weight_or_another_story_has_another_id(
    ensemble: Ensemble, provenance: Provenance, tmp_path: Path
) -> None:
    first = publish(ensemble, provenance, tmp_path)
    later = publish(ensemble, replace(provenance, labels_learned=11), tmp_path)
    with torch.no_grad():
        ensemble.parameters[1]["bias_0"] += 1e-9
    moved = publish(ensemble, provenance, tmp_path)
    assert len({first.id, later.id, moved.id}) == 3


def test_a_snapshot_without_elements_and_layers_is_one_too(provenance: Provenance, ensemble: Ensemble) -> None:
    ensemble.parameters.clear()
    ensemble.linear.features.clear()
    manifest = publish(ensemble, provenance, "memory://bare")
    assert load(manifest)[1].elements == ()
    fsspec.filesystem("memory").store.clear()


def test_the_linear_part_is_in_the_snapshot(ensemble: Ensemble, provenance: Provenance) -> None:
    manifest = publish(ensemble, provenance, "memory://linear")
    loaded = load(manifest)[1].linear
    assert manifest.potential["linear_features"] == 6
    assert loaded.share == ensemble.linear.share
    assert all(torch.equal(loaded.features[z].coefficients, ensemble.linear.features[z].coefficients) for z in (1, 8))
    fsspec.filesystem("memory").store.clear()


def test_a_manifest_from_before_linear_parts_declares_none(ensemble: Ensemble, provenance: Provenance) -> None:
    ensemble.linear = None
    manifest = publish(ensemble, provenance, "memory://networks")
    old = {name: value for name, value in manifest.potential.items() if name != "linear_features"}
    assert DeclaredTensors.by(replace(manifest, potential=old)).tensors == DeclaredTensors.by(manifest).tensors
    assert load(manifest)[1].linear is None
    fsspec.filesystem("memory").store.clear()


def test_a_snapshot_that_is_not_finite_is_not_published(
    ensemble: Ensemble, provenance: Provenance, tmp_path: Path
) -> None:
    with torch.no_grad():
        ensemble.parameters[1]["bias_0"][0] = float("nan")
    with pytest.raises(DamagedStoreError, match=r"element\.1\.bias_0 .* not finite"):
        publish(ensemble, provenance, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_half_written_snapshot_is_finished(
    ensemble: Ensemble, provenance: Provenance, published: tuple[SnapshotManifest, Path], tmp_path: Path
) -> None:
    manifest, folder = published
    (folder / "manifest.json").unlink()
    (folder / "weights.safetensors").write_bytes(b"half")
    assert publish(ensemble, provenance, tmp_path / "store") == manifest
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "weights.safetensors"]


def test_a_snapshot_that_was_moved_is_loaded_from_its_new_place(
    published: tuple[SnapshotManifest, Path], tmp_path: Path
) -> None:
    manifest, folder = published
    shutil.move(folder, tmp_path / "elsewhere")
    assert load(tmp_path / "elsewhere")[0] == manifest
    with pytest.raises(DamagedStoreError, match="cannot be read"):
        load(manifest)


def reweighed(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the tensors, and let hash and id follow, as someone who means harm would."""
    tensors = load_file(folder / "weights.safetensors")
    change(tensors)
    save_file(tensors, folder / "weights.safetensors")
    content = (folder / "weights.safetensors").read_bytes()
    rewritten(folder, weights_sha256=_sha256(content))


def rewritten(folder: Path, **fields: Any) -> None:
    """Change fields of the manifest, and let the id follow."""
    tree = json.loads((folder / "manifest.json").read_text())
    tree["potential"] |= fields.pop("potential", {})
    try:
        manifest = SnapshotManifest.from_json({**tree, **fields})
        manifest = replace(manifest, id=manifest.content_id())
    except ValueError:
        (folder / "manifest.json").write_text(json.dumps({**tree, **fields}))
        return
    (folder / "manifest.json").write_text(json.dumps(manifest.to_json()))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _drop(tensors: dict[str, Any]) -> None:
    del tensors["element.1.bias_0"]


def _add(tensors: dict[str, Any]) -> None:
    tensors["element.2.bias_0"] = torch.zeros(1)


def _reshape(tensors: dict[str, Any]) -> None:
    tensors["element.1.bias_0"] = tensors["element.1.bias_0"].reshape(-1)


def _retype(tensors: dict[str, Any]) -> None:
    tensors["element.1.bias_0"] = tensors["element.1.bias_0"].float()


def _spoil(tensors: dict[str, Any]) -> None:
    tensors["element.1.bias_0"][0] = float("inf")


def _grow(tensors: dict[str, Any]) -> None:
    tensors["element.1.bias_0"] = torch.zeros(2**20, dtype=torch.float64)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_drop, "lacks tensor"),
        (_add, "undeclared tensor"),
        (_reshape, "has shape"),
        (_retype, "dtype F32"),
        (_spoil, "not finite"),
        (_grow, "longer than"),
    ],
)
def test_tensors_that_were_not_declared_are_refused(
    published: tuple[SnapshotManifest, Path], change: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    reweighed(published[1], change)
    with pytest.raises(DamagedStoreError, match=sentence):
        load(published[1])


@pytest.mark.parametrize(
    "fields",
    [
        {"elements": [1]},
        {"elements": [1, 8, 9]},
        {"cutoff": 5.0},
        {"symmetry": {}},
        {"symmetry": {"cutoff": 4.0, "radial": [[1.0, 0.0, "os.system"]], "angular": []}},
        {"symmetry": {"cutoff": 100.0, "radial": [], "angular": []}, "cutoff": 100.0},
        {"potential": {"members": 2}},
        {"potential": {"members": -1}},
        {"potential": {"members": "3"}},
        {"potential": {"members": True}},
        {"potential": {"hidden": 5}},
        {"potential": {"hidden": [5]}},
        {"potential": {"hidden": [5, 0]}},
        {"potential": {"hidden": [2**40, 2**40]}},
        {"potential": {"hidden": [1] * 1000}},
        {"potential": {"dtype": "float32"}},
        {"potential": {"dtype": "object"}},
        {"potential": {"baseline_directions": 0}},
        {"potential": {"baseline_directions": -1}},
        {"potential": {"linear_features": 0}},
        {"potential": {"linear_features": -6}},
        {"potential": {"linear_features": 2**40}},
        {"potential": {"linear_features": "6"}},
        {"weights_sha256": "0" * 64},
        {"symmetry": {"cutoff": 4.0, "radial": [], "angular": [[1.0, 0.0, 1.0, 2**62, 2.0, "sum:1"]]}},
        {"symmetry": {"cutoff": 4.0, "radial": [], "angular": [[1.0, 0.0, 1.0, float("inf"), 2.0, "sum:1"]]}},
        {"symmetry": {"cutoff": 4.0, "radial": [[1.0, 0.001 * n, "1"] for n in range(1025)], "angular": []}},
        {"symmetry": {"cutoff": 4.0, "radial": [], "angular": [[n, 0, 1, 1, 1 + n, "sum:1"] for n in range(65)]}},
    ],
)
def test_a_manifest_that_contradicts_its_weights_is_refused(
    published: tuple[SnapshotManifest, Path], fields: dict[str, Any]
) -> None:
    rewritten(published[1], **fields)
    with pytest.raises(DamagedStoreError):
        load(published[1])


def test_a_field_that_the_id_does_not_cover_is_refused(published: tuple[SnapshotManifest, Path]) -> None:
    file = published[1] / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "labels_learned": 10**6}))
    with pytest.raises(DamagedStoreError, match="not what its id says"):
        load(published[1])


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"[" * 10**5, b"null", b" " * (2**20 + 1)])
def test_a_manifest_that_is_no_manifest_is_refused(published: tuple[SnapshotManifest, Path], content: bytes) -> None:
    (published[1] / "manifest.json").write_bytes(content)
    with pytest.raises(DamagedStoreError):
        load(published[1])


def test_bytes_do_not_choose_the_codec_of_a_manifest(published: tuple[SnapshotManifest, Path]) -> None:
    file = published[1] / "manifest.json"
    file.write_bytes(file.read_text().encode("utf-16-le"))
    with pytest.raises(DamagedStoreError, match="not a manifest"):
        load(published[1])


@pytest.mark.parametrize("content", [b"", b"\x80\x04N.", b"PK\x03\x04", b"\xff" * 8 + b"{}"])
def test_weights_that_are_no_safetensors_are_refused(published: tuple[SnapshotManifest, Path], content: bytes) -> None:
    _, folder = published
    (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(DamagedStoreError, match="weights_sha256"):
        load(folder)
    rewritten(folder, weights_sha256=_sha256(content))
    with pytest.raises(DamagedStoreError, match="not safetensors"):
        load(folder)


@pytest.mark.parametrize(
    "uri", ["", "/etc/passwd", "zip::file:///{id}/weights.safetensors", "file:///x/weights.safetensors"]
)
def test_an_announcement_that_points_elsewhere_is_refused(published: tuple[SnapshotManifest, Path], uri: str) -> None:
    with pytest.raises(DamagedStoreError, match="weights_uri"):
        load(replace(published[0], weights_uri=uri.format(id=published[0].id)))


@pytest.mark.parametrize("protocol", ["nothing", "zip", "reference", "ftp", "generic", "dir"])
def test_an_announcement_with_a_protocol_that_is_no_store_is_refused(
    published: tuple[SnapshotManifest, Path], protocol: str
) -> None:
    uri = f"{protocol}://127.0.0.1/{published[0].id}/weights.safetensors"
    with pytest.raises(DamagedStoreError, match="cannot be opened"):
        load(replace(published[0], weights_uri=uri))


def test_an_unknown_protocol_is_a_usage_error() -> None:
    for url in ("nothing://here", "data:,here", "simplecache::file:///here"):
        with pytest.raises(UsageError, match="cannot be opened"):
            load(url)


def test_weights_that_are_a_pipe_are_refused_without_waiting(published: tuple[SnapshotManifest, Path]) -> None:
    (published[1] / "weights.safetensors").unlink()
    os.mkfifo(published[1] / "weights.safetensors")
    with pytest.raises(DamagedStoreError, match="not a regular file"):
        load(published[0])


def _header(**tensor: Any) -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **tensor}}).encode()
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    "content",
    [
        _header(dtype="F4", shape=[8]) + bytes(4),
        _header(dtype="F8_E8M0", shape=[4]) + bytes(4),
        _header(shape=[0, 2**62, 2**62], data_offsets=[0, 0]),
        _header(shape=[0, 2**63], data_offsets=[0, 0]),
        _header(shape=[1] * 5000) + bytes(4),
        _header(shape=[2**62]) + bytes(4),
    ],
)
def test_tensors_that_only_a_header_can_have_are_refused(
    published: tuple[SnapshotManifest, Path], content: bytes
) -> None:
    (published[1] / "weights.safetensors").write_bytes(content)
    rewritten(published[1], weights_sha256=_sha256(content))
    with pytest.raises(DamagedStoreError):
        load(published[1])


def test_a_snapshot_is_found_by_folder_id_or_first_characters(
    published: tuple[SnapshotManifest, Path], tmp_path: Path
) -> None:
    manifest, folder = published
    store = tmp_path / "store"
    (store / "checkpoints").mkdir()
    for name in (str(folder), manifest.id, manifest.id[:8]):
        assert load(find_snapshot(store, name))[0] == manifest
    for name in ("abcdef0", "checkpoints", ""):
        with pytest.raises(UsageError, match="no snapshot"):
            find_snapshot(store, name)


def test_characters_that_fit_two_snapshots_are_refused(
    published: tuple[SnapshotManifest, Path], tmp_path: Path
) -> None:
    for last in "12":
        (tmp_path / "store" / ("a" * 63 + last)).mkdir()
    with pytest.raises(UsageError, match="fits 2 snapshots"):
        find_snapshot(tmp_path / "store", "aaaaaa")


def test_too_few_characters_of_an_id_are_told_apart_from_no_snapshot(
    published: tuple[SnapshotManifest, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="is too short an id, 6 characters are the fewest"):
        find_snapshot(tmp_path / "store", published[0].id[:5])
    with pytest.raises(UsageError, match="is no snapshot"):
        find_snapshot(tmp_path / "store", "nope")
