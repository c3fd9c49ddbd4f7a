"""Places where the learner's process ends or falls asleep, named and counted.

The product has none of this: in the process that is to die, functions of the product, of Python and of its libraries
are wrapped before it starts.
"""

import os
import pathlib
import shutil
from collections.abc import Callable
from functools import wraps
from typing import Any

from lmlp_stream.broker import sqlite
from lmlp_stream.broker.kafka import log as kafka_log
from lmlp_stream.broker.kafka import sink as kafka_sink
from lmlp_stream.store import checkpoint

Deed = Callable[[], None]
Arrange = Callable[[Deed], None]

SINKS = (sqlite.SqliteSink, kafka_sink.KafkaSink)
LOGS = (sqlite.SqliteLog, kafka_log.KafkaLog)


def arm(point: str, occurrence: int, signal_number: int) -> None:
    """Send this process a signal at the `occurrence`-th passage (from 1) of a point."""
    passed = 0

    def deed() -> None:
        nonlocal passed
        passed += 1
        if passed == occurrence:
            os.kill(os.getpid(), signal_number)

    POINTS[point](deed)


def wrap(
    owner: Any, name: str, *, before: Callable[..., None] | None = None, after: Callable[..., None] | None = None
) -> None:
    """Have something done before or after every call of a function, with its arguments."""
    function = getattr(owner, name)

    @wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if before is not None:
            before(*arguments, **named)
        result = function(*arguments, **named)
        if after is not None:
            after(*arguments, **named)
        return result

    setattr(owner, name, wrapped)


def _half_written_state(deed: Deed) -> None:
    def halve(_tensors: object, path: pathlib.Path) -> None:
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        deed()
        path.write_bytes(whole)

    wrap(checkpoint, "save_file", after=halve)


def _pruning(deed: Deed) -> None:
    def half_removed(path: pathlib.Path, **_options: object) -> None:
        if pathlib.Path(path).name.isdigit():
            (pathlib.Path(path) / checkpoint.STATE_FILE).unlink(missing_ok=True)
            deed()

    wrap(shutil, "rmtree", before=half_removed)


def _sending(topic_part: str, when: str) -> Arrange:
    """Before or after something is handed to the sink that writes to a topic, or after it is flushed."""

    def arrange(deed: Deed) -> None:
        speakers: set[int] = set()

        def sends(sink: object, topic: str, **_message: object) -> None:
            if topic_part in topic:
                speakers.add(id(sink))
                if when != "flushed":
                    deed()

        def flushes(sink: object) -> None:
            if id(sink) in speakers:
                speakers.discard(id(sink))
                deed()

        for sink in SINKS:
            wrap(sink, "send", **{"after" if when == "sent" else "before": sends})
            if when == "flushed":
                wrap(sink, "flush", after=flushes)

    return arrange


def _around(owner: Any, name: str, when: str) -> Arrange:
    def arrange(deed: Deed) -> None:
        for each in owner if isinstance(owner, tuple) else (owner,):
            wrap(each, name, **{when: lambda *_arguments, **_named: deed()})

    return arrange


POINTS: dict[str, Arrange] = {
    "checkpoint.write": _half_written_state,
    "fsync": _around(os, "fsync", "before"),
    "fsynced": _around(os, "fsync", "after"),
    "checkpoint.rename": _around(pathlib.Path, "rename", "before"),
    "checkpoint.renamed": _around(pathlib.Path, "rename", "after"),
    "checkpoint.prune": _pruning,
    "snapshot.replace": _around(pathlib.Path, "replace", "before"),
    "snapshot.replaced": _around(pathlib.Path, "replace", "after"),
    "announce.send": _sending(".snapshots.", "send"),
    "announce.sent": _sending(".snapshots.", "sent"),
    "announce.flushed": _sending(".snapshots.", "flushed"),
    "journal.send": _sending(".journal.", "send"),
    "journal.sent": _sending(".journal.", "sent"),
    "journal.flushed": _sending(".journal.", "flushed"),
    "journal.transaction": _around(sqlite, "_append", "after"),
    "dead-letter.sent": _sending(".dead-letters.", "sent"),
    "dead-letter.flushed": _sending(".dead-letters.", "flushed"),
    "commit": _around(LOGS, "commit", "before"),
    "committed": _around(LOGS, "commit", "after"),
}
"""What each name arranges: the deed is done at every passage of the point."""

KINDS = {
    "write": ("checkpoint.write",),
    "fsync": ("fsync", "fsynced"),
    "rename": ("checkpoint.rename", "checkpoint.renamed", "snapshot.replace", "snapshot.replaced"),
    "announce": ("announce.send", "announce.sent", "announce.flushed"),
    "journal append": ("journal.send", "journal.sent", "journal.flushed", "journal.transaction"),
    "commit": ("commit", "committed"),
    "prune": ("checkpoint.prune",),
    "dead letter": ("dead-letter.sent", "dead-letter.flushed"),
}
"""Every point once, by what happens there."""

ONLY_SQLITE = ("journal.transaction",)
