"""Snapshots: a potential as it was at one moment, public, immutable, inference only.

A snapshot is a folder `<store>/<id>/` with `weights.safetensors` (every tensor of the ensemble) and `manifest.json`
(what it is, how good it is, where it comes from). The id is the hash of what the manifest says, which includes the
hash of the weights: the same potential with the same story has the same id wherever it is stored.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save as tensor_bytes

from lmlp_stream.errors import DamagedStoreError, UsageError
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.store.declared import DeclaredTensors, potential_of
from lmlp_stream.store.files import Folder
from lmlp_stream.store.signing import Sign, check_signature
from lmlp_stream.wire.announcement import SnapshotManifest

WEIGHTS_FILE = "weights.safetensors"
MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 2**20
MAX_TENSOR_HEADER_BYTES = 2**20
MIN_PREFIX = 6
CPU = torch.device("cpu")

_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a manifest says besides the potential itself; the fields are those of `SnapshotManifest`."""

    name: str
    step: int
    labels_learned: int
    journal_position: int
    level_of_theory: str
    errors: dict[str, float]
    calibration: dict[str, float]
    parent_id: str
    code_version: str
    created_at: str
    further_levels: tuple[str, ...] = ()


def publish(ensemble: Ensemble, provenance: Provenance, url: str | Path, sign: Sign | None = None) -> SnapshotManifest:
    """The manifest of a snapshot that is stored under `url`, read back and verified.

    Weights are written before the manifest, so a folder with a manifest is whole. Publishing the same potential with
    the same provenance again changes nothing and returns the manifest that is there; what is damaged is replaced, and
    what bears another signature is signed anew.

    Args:
        ensemble: The potential.
        provenance: Its story.
        url: The store.
        sign: Signs the id; None: nobody does, and a signature that is there stays.

    Raises:
        OSError: The store is full or cannot be reached.
        DamagedStoreError: What is read back is not what was written, or holds a number that is not finite.
        UsageError: The URL has a protocol that cannot be opened.
    """
    tensors = _tensors(ensemble)
    weights = tensor_bytes(tensors)
    manifest = _manifest(ensemble, provenance, hashlib.sha256(weights).hexdigest())
    DeclaredTensors.by(manifest).check(tensors, f"the ensemble of {manifest.name}")
    folder = Folder.of(url) / manifest.id
    signature = sign(manifest.id) if sign else ""
    try:
        stored = load(folder.url)[0]
    except DamagedStoreError:
        folder.write(WEIGHTS_FILE, weights)
        _write_manifest(folder, replace(manifest, weights_uri=f"{folder.url}/{WEIGHTS_FILE}", signature=signature))
    else:
        if signature in ("", stored.signature):
            return stored
        _write_manifest(folder, replace(stored, signature=signature))
    return load(folder.url)[0]


def manifest_of(ensemble: Ensemble, provenance: Provenance) -> SnapshotManifest:
    """The manifest that `publish` would write, not stored anywhere: its `weights_uri` is empty."""
    return _manifest(ensemble, provenance, hashlib.sha256(tensor_bytes(_tensors(ensemble))).hexdigest())


def load(
    where: SnapshotManifest | str | Path, *, device: torch.device = CPU, trusted_keys: tuple[str, ...] = ()
) -> tuple[SnapshotManifest, Ensemble]:
    """Manifest and potential of a snapshot, verified before a weight is used.

    Verified are the sizes of both files, the id of the manifest, its signature where keys are given, the hash of the
    weights, and that the tensors are exactly those the manifest declares, and finite.

    Args:
        where: The manifest of an announcement, or the snapshot's folder or fsspec URL.
        device: Where the potential shall live.
        trusted_keys: Public keys, one of which must have signed; none: whether it is signed does not matter.

    Raises:
        DamagedStoreError: A file is missing or cannot be read, or something is not what the manifest says.
        UntrustedError: None of the trusted keys signed it.
        UsageError: `where` is a URL with a protocol that cannot be opened.
    """
    if isinstance(where, SnapshotManifest):
        manifest, folder = where, _announced_folder(where)
    else:
        folder = Folder.of(where)
        manifest = _read_manifest(folder)
    if not _is_verified(manifest):
        raise DamagedStoreError(f"the manifest of snapshot {manifest.id!r} in {folder.url} is not what its id says")
    check_signature(manifest, trusted_keys)
    declared = DeclaredTensors.by(manifest)
    content = folder.read(WEIGHTS_FILE, declared.n_bytes + MAX_TENSOR_HEADER_BYTES)
    if hashlib.sha256(content).hexdigest() != manifest.weights_sha256:
        raise DamagedStoreError(f"{folder.url}/{WEIGHTS_FILE} is not what the manifest's weights_sha256 says")
    tensors = declared.read(content, f"{folder.url}/{WEIGHTS_FILE}")
    return manifest, declared.ensemble(tensors, device)


def find_snapshot(where: str | Path, id_or_path: str) -> str:
    """URL of a snapshot that is named by its folder, its id, or the first characters of its id (at least 6).

    Args:
        where: The store in which ids are looked up.
        id_or_path: What the user typed.

    Raises:
        UsageError: There is none, or the first characters fit several.
    """
    folder = Folder.of(id_or_path)
    if MANIFEST_FILE in folder.names():
        return folder.url
    store = Folder.of(where)
    ids = [name for name in store.names() if _ID.fullmatch(name)]
    fitting = [name for name in ids if name.startswith(id_or_path)] if len(id_or_path) >= MIN_PREFIX else []
    if len(fitting) != 1:
        found = f"fits {len(fitting)} snapshots" if fitting else "is no snapshot"
        if 0 < len(id_or_path) < MIN_PREFIX and any(name.startswith(id_or_path) for name in ids):
            found = f"is too short an id, {MIN_PREFIX} characters are the fewest that name a snapshot"
        raise UsageError(f"{id_or_path!r} {found} in {store.url}; `lmlp-stream follow CONFIG --once` prints the ids")
    return (store / fitting[0]).url


def _tensors(ensemble: Ensemble) -> dict[str, torch.Tensor]:
    return {name: tensor.cpu().contiguous() for name, tensor in ensemble.state_dict().items()}


def _manifest(ensemble: Ensemble, provenance: Provenance, weights_sha256: str) -> SnapshotManifest:
    manifest = SnapshotManifest(
        id="",
        elements=ensemble.elements,
        cutoff=ensemble.spec.cutoff,
        symmetry=ensemble.spec.to_dict(),
        potential=potential_of(ensemble),
        weights_uri="",
        weights_sha256=weights_sha256,
        **asdict(provenance),
    )
    return replace(manifest, id=manifest.content_id())


def _write_manifest(folder: Folder, manifest: SnapshotManifest) -> None:
    folder.write(MANIFEST_FILE, json.dumps(manifest.to_json(), indent=1, sort_keys=True).encode())


def _read_manifest(folder: Folder) -> SnapshotManifest:
    content = folder.read(MANIFEST_FILE, MAX_MANIFEST_BYTES)
    try:
        tree = json.loads(content.decode())
        if not isinstance(tree, dict):
            raise ValueError("it is not an object")  # noqa: TRY004, TRY301 - one handler for all that is wrong
        return SnapshotManifest.from_json(tree)
    except (ValueError, RecursionError) as error:
        raise DamagedStoreError(f"{folder.url}/{MANIFEST_FILE} is not a manifest: {error}") from error


def _is_verified(manifest: SnapshotManifest) -> bool:
    try:
        return manifest.verified()
    except ValueError:
        return False


def _announced_folder(manifest: SnapshotManifest) -> Folder:
    url, _, file = manifest.weights_uri.rpartition("/")
    if file != WEIGHTS_FILE or not url.endswith(f"/{manifest.id}") or "::" in url:
        raise DamagedStoreError(
            f"weights_uri = {manifest.weights_uri!r} does not end in {manifest.id}/{WEIGHTS_FILE}; announce it again"
        )
    try:
        return Folder.of(url)
    except UsageError as error:
        raise DamagedStoreError(f"the announced weights of snapshot {manifest.id}: {error}") from error
