"""Checkpoints: the learner and its place in the log, private, resumable, whole or not at all.

A checkpoint is a folder `NNNNNNNNNN/` with `state.safetensors` (every array) and `checkpoint.json` (what the caller
says of it, and the digests). It is written in a temporary folder, made durable and renamed, so a reader sees all of it
or nothing. Digests: `state_sha256` of the arrays whatever the file looks like, `header_sha256` of the header itself.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lmlp_stream.config import Config
from lmlp_stream.errors import ConfigError, DamagedStoreError, FencedError, UsageError
from lmlp_stream.store.files import sync_folder

STATE_FILE = "state.safetensors"
HEADER_FILE = "checkpoint.json"
FORMAT = "lmlp-checkpoint/10"
DIGESTS = ("format", "state_sha256", "header_sha256")
MAX_HEADER_BYTES = 4 * 2**20

_NUMBERED = re.compile(r"\d{10}")
_TEMPORARY = ".saving-"


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """The newest intact checkpoint.

    Attributes:
        state: The arrays that were saved.
        header: What was said of them, with the digests.
        path: Folder of the checkpoint.
        damaged: One sentence for each newer checkpoint that was passed over; empty when the newest was intact.
    """

    state: dict[str, np.ndarray]
    header: dict[str, Any]
    path: Path
    damaged: tuple[str, ...]


def state_sha256(state: Mapping[str, np.ndarray]) -> str:
    """Hash of the names, dtypes, shapes and bytes of arrays: equal exactly for equal states, in any order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        array = _plain(state[name])
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


class Checkpoints:
    """The checkpoints of one learner in a local folder; the newest `keep` stay."""

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def save(
        self,
        state: Mapping[str, np.ndarray],
        header: Mapping[str, Any],
        *,
        confirm: Callable[[], None] = lambda: None,
    ) -> Path:
        """Folder of a new checkpoint, durable when this returns; the oldest ones are removed.

        Args:
            state: Arrays by name; any layout and byte order, of a dtype that safetensors knows.
            header: Plain JSON values; the names in `DIGESTS` are taken.
            confirm: Asked when all is written, before it counts; what it raises leaves everything as it was.

        Raises:
            OSError: The disk is full or fails; earlier checkpoints are untouched and nothing is left behind.
            FencedError: A checkpoint of this number appeared meanwhile.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        saved = _numbered(self._folder)
        path = self._folder / f"{int(saved[-1].name) + 1 if saved else 1:010d}"
        with _temporary_folder(self._folder, path.name) as temporary:
            _write_state(temporary / STATE_FILE, state)
            _write_header(temporary / HEADER_FILE, _sealed(header, state))
            sync_folder(temporary)
            confirm()
            _rename(temporary, path)
        sync_folder(self._folder)
        for old in (*saved, path)[: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)
        return path

    def restore(self) -> Restored | None:
        """The newest intact checkpoint, or None where none was ever saved.

        Raises:
            DamagedStoreError: There are checkpoints, and every one of them is damaged.
        """
        return _newest_intact(self._folder)


def checkpoints_folder(config: Config) -> Path:
    """Folder of the checkpoints of the learner that `config` describes.

    Raises:
        ConfigError: Snapshots go to a URL and no local folder is given for the checkpoints.
    """
    if config.store.checkpoints:
        return Path(config.store.checkpoints) / config.name
    if "://" in config.store.url:
        raise ConfigError(
            f"store.checkpoints is empty and store.url = {config.store.url!r} is not a local folder; "
            "set store.checkpoints to a local folder"
        )
    return Path(config.store.url) / "checkpoints" / config.name


def describe(path: Path) -> dict[str, Any]:
    """What the newest intact checkpoint at `path` says of itself, its `path`, and the newer ones that are `damaged`.

    Args:
        path: A checkpoint, a folder of checkpoints, or a store with the checkpoints of one learner.

    Raises:
        UsageError: There is no checkpoint at `path`, or there are those of several learners.
        DamagedStoreError: The checkpoint is damaged, or all of them are.
    """
    if (path / HEADER_FILE).exists() or _NUMBERED.fullmatch(path.name):
        try:
            return {**_intact(path).header, "path": str(path), "damaged": []}
        except DamagedStoreError as error:
            raise DamagedStoreError(
                f"{error}; `lmlp-stream inspect {path.parent}` names the newest intact one, with which "
                "`lmlp-stream learn` goes on by itself"
            ) from error
    found = _newest_intact(_one_learner(path))
    if found is None:
        raise UsageError(f"there is no checkpoint in {path}; name a checkpoint, a folder of checkpoints or a store")
    return {**found.header, "path": str(found.path), "damaged": list(found.damaged)}


def _one_learner(path: Path) -> Path:
    within = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    if _numbered(within) or not within.is_dir():
        return within
    learners = sorted(folder for folder in within.iterdir() if folder.is_dir() and _numbered(folder))
    if len(learners) > 1:
        names = ", ".join(folder.name for folder in learners)
        raise UsageError(f"{within} holds the checkpoints of {names}; name one of these folders")
    return learners[0] if learners else within


def _newest_intact(folder: Path) -> Restored | None:
    damaged: list[str] = []
    for path in reversed(_numbered(folder)):
        try:
            return _intact(path, tuple(damaged))
        except DamagedStoreError as error:
            damaged.append(str(error))
    if damaged:
        raise DamagedStoreError(
            f"every checkpoint in {folder} is damaged ({'; '.join(damaged)}); "
            "restore the folder from a backup, or move it away to learn from the beginning of the log"
        )
    return None


def _numbered(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NUMBERED.fullmatch(path.name) and path.is_dir())


def _plain(array: np.ndarray) -> np.ndarray:
    """The array in C order and little-endian, its shape kept (also of a scalar)."""
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _sealed(header: Mapping[str, Any], state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    taken = sorted(set(DIGESTS) & set(header))
    if taken:
        raise ValueError(f"the header of a checkpoint may not name {', '.join(taken)}")
    sealed = {**header, "format": FORMAT, "state_sha256": state_sha256(state)}
    return {**sealed, "header_sha256": _header_sha256(sealed)}


def _header_sha256(header: Mapping[str, Any]) -> str:
    text = json.dumps({key: header[key] for key in header if key != "header_sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _intact(path: Path, damaged: tuple[str, ...] = ()) -> Restored:
    """A checkpoint whose two files are what their digests say; `damaged` is said of newer ones.

    Raises:
        DamagedStoreError: They are not, or cannot be read.
    """
    header = _read_header(path / HEADER_FILE)
    if header.get("format") != FORMAT:
        raise DamagedStoreError(f"{path} is {header.get('format')!r}; this version reads {FORMAT}")
    file = path / STATE_FILE
    try:
        state = load_file(file)
    except OSError as error:
        raise DamagedStoreError(f"{file} cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise DamagedStoreError(f"{file} is not what its digest says: {error}") from error
    if header.get("state_sha256") != state_sha256(state):
        raise DamagedStoreError(f"{file} is not what its digest says")
    return Restored(state, header, path, damaged)


def _read_header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(MAX_HEADER_BYTES).decode())
        if not isinstance(header, dict) or header.get("header_sha256") != _header_sha256(header):
            raise DamagedStoreError(f"{path} is not what its digest says")
    except OSError as error:
        raise DamagedStoreError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedStoreError(f"{path} is not JSON: {error}") from error
    return header


@contextmanager
def _temporary_folder(folder: Path, name: str) -> Iterator[Path]:
    for left_by_a_crash in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(left_by_a_crash, ignore_errors=True)
    temporary = folder / f"{_TEMPORARY}{name}-{os.getpid()}"
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_state(path: Path, state: Mapping[str, np.ndarray]) -> None:
    try:
        save_file({name: _plain(array) for name, array in state.items()}, path)
    except SafetensorError as error:
        raise OSError(f"cannot write {path}: {error}") from error
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_header(path: Path, header: Mapping[str, Any]) -> None:
    with path.open("x", encoding="utf-8") as file:
        json.dump(header, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())


def _rename(temporary: Path, path: Path) -> None:
    try:
        temporary.rename(path)
    except OSError as error:
        if not path.exists():
            raise
        raise FencedError(
            f"{path} exists already: this learner was taken over by another that writes here; stop one of the two"
        ) from error
