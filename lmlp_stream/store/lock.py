"""One learner per folder of checkpoints."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmlp_stream.errors import FencedError


@contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; the hold ends with the process, however it ends.

    Raises:
        FencedError: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise FencedError(
                f"{folder} belongs to a running learner (process {lock.read().strip() or 'unknown'}); "
                "stop it first, or give this one another `name`"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
