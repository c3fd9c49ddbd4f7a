"""One learner per folder of checkpoints."""

import fcntl
import os
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

from lmlp_stream.errors import DamagedStoreError, FencedError

LONGEST_NAME = 200
"""Characters of a folder's name, from its end, that are told."""

_ID = re.compile("[0-9a-f]{32}")


class Hold:
    """A process's hold on a folder: the kernel's lock on the file that stands there under the name `lock`.

    Args:
        path: Where that file stands.
        file: The file that this process locked.
        home: Two names of the folder: an id that lies in it and moves with it, and host and path.
    """

    def __init__(self, path: Path, file: IO[str], home: tuple[str, str]) -> None:
        self._path = path
        self._file = file
        self.home = home

    def confirm(self) -> None:
        """Return if the locked file still stands there.

        Raises:
            FencedError: Another process put its own in the place.
        """
        if not _stands_at(self._path, self._file):
            raise FencedError(
                f"another learner has taken over {self._path.parent}; this one stops without saving or telling"
            )


@contextmanager
def sole_owner(folder: Path, *, take_over: bool = False) -> Iterator[Hold]:
    """Hold a folder for this process; the hold ends with the process, however it ends.

    Args:
        folder: Made if it is not there.
        take_over: Put a lock of one's own in the place of another process's. A process that is suspended cannot be
            asked to let go; it finds out by `Hold.confirm`.

    Raises:
        FencedError: Another process holds it.
        DamagedStoreError: It cannot be made or written.
    """
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _replaced(path) if take_over else _locked(path)
        home = (_id_in(folder), f"{socket.gethostname()}:{quote(os.fsencode(folder.resolve()))}"[-LONGEST_NAME:])
    except OSError as error:
        raise DamagedStoreError(
            f"{folder} cannot be written: {error.strerror}; name a folder that can in store.url or store.checkpoints"
        ) from error
    with lock as file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield Hold(path, file, home)


def _id_in(folder: Path) -> str:
    path = folder / "id"
    found = path.read_bytes().decode("ascii", "replace") if path.is_file() else ""
    if _ID.fullmatch(found):
        return found
    drawn = uuid.uuid4().hex
    mine = path.with_name(f"id-{os.getpid()}")
    mine.write_text(drawn, encoding="ascii")
    mine.replace(path)
    return drawn


def _locked(path: Path) -> IO[str]:
    while True:
        file = path.open("a+", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise FencedError(
                f"{path.parent} belongs to a running learner (process {owner}); stop it first, or give this one another"
                " `name`; if it hangs or sleeps, `lmlp-stream learn --take-over` fences it off"
            ) from error
        if _stands_at(path, file):
            return file
        file.close()


def _replaced(path: Path) -> IO[str]:
    mine = path.with_name(f"lock-{os.getpid()}")
    file = mine.open("w", encoding="ascii")
    fcntl.flock(file, fcntl.LOCK_EX)
    mine.replace(path)
    return file


def _stands_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
