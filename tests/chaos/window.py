"""Whether a learner stands between asking whether it is still the one writer and doing what it asked for."""

import mmap
import os
import pathlib
from collections.abc import Callable

from lmlp_stream.learning.learner import Learner
from lmlp_stream.service.reader import Reader
from lmlp_stream.store import checkpoint
from lmlp_stream.store.lock import Hold
from tests.chaos.failpoints import SINKS, wrap


class Window:
    """One byte that a learner's process shares with its parent: set from the asking to the deed.

    The last thing that is asked is whether the lock is still one's own. What a learner reads, learns, writes or makes
    durable after that, except the deed itself, ends the window: it should have asked again.
    """

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def __bool__(self) -> bool:
        return self._shared[0] == 1

    def watch(self) -> None:
        """Follow what this process does from now on; called in the learner's process before it starts."""
        wrap(Hold, "confirm", before=self._set(1))
        for owner, name in (
            (Reader, "propose"),
            (Learner, "process_tick"),
            (checkpoint.Checkpoints, "save"),
            (checkpoint, "save_file"),
            (os, "fsync"),
            (pathlib.Path, "replace"),
        ):
            wrap(owner, name, before=self._set(0))
        wrap(pathlib.Path, "rename", after=self._set(0))
        for sink in SINKS:
            wrap(sink, "flush", after=self._set(0))

    def _set(self, value: int) -> Callable[..., None]:
        def change(*_arguments: object, **_named: object) -> None:
            self._shared[0] = value

        return change
