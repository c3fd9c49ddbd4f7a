"""The log in one SQLite file: the embedded form, shared by any number of processes of one machine.

WAL journal, every commit flushed to the disk (`synchronous=FULL`), offsets from 0 without gaps that are never used
twice: where one is missing in a topic that is not compacted, the file lost a message, and reading there is an error.
Not for network file systems: their locks do not hold what SQLite needs.
"""

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from lmlp_stream.broker.log import (
    Bounds,
    Headers,
    Message,
    Partition,
    TopicSpec,
    check_position,
    check_size,
    check_whole,
    in_order,
    missing_partition,
    missing_topic,
    partition_of,
)
from lmlp_stream.errors import BrokerError

logger = logging.getLogger(__name__)

LAYOUT = 1
"""Version of the tables, kept in the file's `user_version`."""

_TABLES = """
CREATE TABLE IF NOT EXISTS partition (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, number INTEGER NOT NULL, compacted INTEGER NOT NULL,
    next_offset INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, number)
);
CREATE TABLE IF NOT EXISTS message (
    partition_id INTEGER NOT NULL REFERENCES partition (id), offset INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL,
    headers TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, UNIQUE (partition_id, offset)
);
CREATE TABLE IF NOT EXISTS committed (
    consumer_group TEXT NOT NULL, topic TEXT NOT NULL, number INTEGER NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (consumer_group, topic, number)
);
"""
_BUSY_S = 30.0
_POLL_S = 0.025
_MAX_PENDING = 256
_MAX_PENDING_BYTES = 2**20


class SqliteLog:
    """A log in a file, which is made if it is not there.

    Raises:
        BrokerError: The file cannot be opened, or is something else.
    """

    def __init__(self, path: Path) -> None:
        self._database = _Database(path)
        self._database.prepare()

    def ensure(self, topics: Iterable[TopicSpec]) -> None:
        """Create the topics that do not exist yet."""
        with self._database.transaction("IMMEDIATE") as connection:
            for spec in topics:
                if not _numbers(connection, spec.name):
                    connection.executemany(
                        "INSERT INTO partition (topic, number, compacted) VALUES (?, ?, ?)",
                        [(spec.name, number, spec.compacted) for number in range(spec.n_partitions)],
                    )

    def partitions(self, topic: str) -> tuple[Partition, ...]:
        """The partitions of a topic in order."""
        with self._database.transaction("DEFERRED") as connection:
            return tuple(Partition(topic, number) for number in _numbers(connection, topic))

    def bounds(self, partition: Partition) -> Bounds:
        """Readable range of a partition at this moment."""
        with self._database.transaction("DEFERRED") as connection:
            return _bounds(connection, _find(connection, partition))

    def source(self, start: Mapping[Partition, int]) -> "SqliteSource":
        """A reader of these partitions from these next offsets, with a connection of its own."""
        return SqliteSource(self._database.path, start)

    def sink(self) -> "SqliteSink":
        """A writer with a connection of its own."""
        return SqliteSink(self._database.path)

    def commit(self, group: str, positions: Mapping[Partition, int]) -> None:
        """Write positions under a group's name into the table `committed`."""
        with self._database.transaction("IMMEDIATE") as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO committed VALUES (?, ?, ?, ?)",
                [(group, partition.topic, partition.index, at) for partition, at in positions.items()],
            )

    def close(self) -> None:
        """Close the log's own connection."""
        self._database.close()


class SqliteSource:
    """Reads a file; asks it again every 25 ms while there is nothing new."""

    def __init__(self, path: Path, start: Mapping[Partition, int]) -> None:
        self._database = _Database(path)
        self._positions = dict(start)

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        """The next messages in order of reading."""
        deadline = time.monotonic() + timeout_s
        while True:
            messages = in_order(self._next(max_messages), max_messages)
            remaining_s = deadline - time.monotonic()
            if messages or remaining_s <= 0:
                break
            time.sleep(min(_POLL_S, remaining_s))
        self._positions |= {message.partition: message.offset + 1 for message in messages}
        return messages

    def at_end(self) -> bool:
        """Whether everything in the file was polled."""
        with self._database.transaction("DEFERRED") as connection:
            return all(position >= _find(connection, partition).end for partition, position in self._positions.items())

    def close(self) -> None:
        """Close the connection."""
        self._database.close()

    def _next(self, max_messages: int) -> list[Message]:
        messages = []
        with self._database.transaction("DEFERRED") as connection:
            for partition, position in self._positions.items():
                found = _find(connection, partition)
                check_position(partition, position, _bounds(connection, found))
                rows = connection.execute(
                    "SELECT offset, key, value, headers, timestamp_ms FROM message "
                    "WHERE partition_id = ? AND offset >= ? ORDER BY offset LIMIT ?",
                    (found.id, position, max_messages),
                ).fetchall()
                if not found.compacted:
                    expected = range(position, min(found.end, position + max_messages))
                    check_whole(partition, (row[0] for row in rows), expected)
                messages += [
                    Message(partition, offset, key, value, _decode_headers(headers), timestamp_ms)
                    for offset, key, value, headers, timestamp_ms in rows
                ]
        return messages


class SqliteSink:
    """Appends to a file: up to 256 messages or 1 MiB in one transaction. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self._database = _Database(path)
        self._lock = threading.RLock()
        self._known: set[str] = set()
        self._pending: list[tuple[str, bytes, bytes, Headers, int]] = []
        self._pending_bytes = 0

    def send(self, topic: str, *, key: bytes, value: bytes, headers: Headers = ()) -> None:
        """Append to the partition of the key."""
        size = check_size(topic, key, value, headers)
        with self._lock:
            self._check_topic(topic)
            self._pending.append((topic, key, value, headers, int(time.time() * 1000)))
            self._pending_bytes += size
            if len(self._pending) >= _MAX_PENDING or self._pending_bytes >= _MAX_PENDING_BYTES:
                self.flush()

    def flush(self) -> None:
        """Return when everything sent is on the disk."""
        with self._lock:
            pending, self._pending, self._pending_bytes = self._pending, [], 0
            if pending:
                with self._database.transaction("IMMEDIATE") as connection:
                    _append(connection, pending)

    def close(self) -> None:
        """Flush and close the connection."""
        try:
            self.flush()
        finally:
            self._database.close()

    def _check_topic(self, topic: str) -> None:
        if topic not in self._known:
            with self._database.transaction("DEFERRED") as connection:
                if not _numbers(connection, topic):
                    raise missing_topic(topic)
            self._known.add(topic)


class _Database:
    """A connection that belongs to one process, speaks in transactions and fails in plain words."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pid = os.getpid()
        self._lock = threading.RLock()
        with _plainly(path):
            if not path.parent.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                logger.warning("made the folder %s, which was not there, for a new log (log.url)", path.parent)
            self._connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA synchronous = FULL")

    def prepare(self) -> None:
        """Make the tables, unless they are there."""
        with _plainly(self.path):
            _switch_to_wal(self._connection)
            (layout,) = self._connection.execute("PRAGMA user_version").fetchone()
        if layout not in (0, LAYOUT):
            raise BrokerError(
                f"{self.path} has tables of version {layout} and this lmlp_stream reads version {LAYOUT}: use the "
                f"version that wrote it, or another file"
            )
        if layout == 0:
            with self.transaction("IMMEDIATE") as connection:
                for statement in _TABLES.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {LAYOUT}")

    @contextmanager
    def transaction(self, mode: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[sqlite3.Connection]:
        """One transaction: DEFERRED to read one state of the file, IMMEDIATE to write."""
        if os.getpid() != self._pid:
            raise BrokerError(f"the log {self.path} was opened before a fork; open it again in the child process")
        with self._lock, _plainly(self.path), self._connection:
            self._connection.execute(f"BEGIN {mode}")
            yield self._connection

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait for the lock that this switch needs, so two processes that begin together retry here."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
        else:
            return


def _numbers(connection: sqlite3.Connection, topic: str) -> list[int]:
    rows = connection.execute("SELECT number FROM partition WHERE topic = ? ORDER BY number", (topic,)).fetchall()
    return [number for (number,) in rows]


class _Found(NamedTuple):
    """A partition in the file."""

    id: int
    end: int
    compacted: bool


def _find(connection: sqlite3.Connection, partition: Partition) -> _Found:
    row = connection.execute(
        "SELECT id, next_offset, compacted FROM partition WHERE topic = ? AND number = ?",
        (partition.topic, partition.index),
    ).fetchone()
    if row is None:
        raise missing_partition(partition)
    return _Found(row[0], row[1], bool(row[2]))


def _bounds(connection: sqlite3.Connection, found: _Found) -> Bounds:
    """From the oldest row that is there; a compacted partition begins at 0 whatever rows it lost."""
    if found.compacted:
        return Bounds(0, found.end)
    (oldest,) = connection.execute("SELECT min(offset) FROM message WHERE partition_id = ?", (found.id,)).fetchone()
    return Bounds(found.end if oldest is None else oldest, found.end)


def _append(connection: sqlite3.Connection, pending: Iterable[tuple[str, bytes, bytes, Headers, int]]) -> None:
    n_partitions: dict[str, int] = {}
    for topic, key, value, headers, timestamp_ms in pending:
        if topic not in n_partitions:
            n_partitions[topic] = len(_numbers(connection, topic))
        partition_id, offset, compacted = connection.execute(
            "UPDATE partition SET next_offset = next_offset + 1 WHERE topic = ? AND number = ? "
            "RETURNING id, next_offset - 1, compacted",
            (topic, partition_of(key, n_partitions[topic])),
        ).fetchone()
        if compacted:
            connection.execute("DELETE FROM message WHERE partition_id = ? AND key = ?", (partition_id, key))
        connection.execute(
            "INSERT INTO message (partition_id, offset, timestamp_ms, headers, key, value) VALUES (?, ?, ?, ?, ?, ?)",
            (partition_id, offset, timestamp_ms, _encode_headers(headers), key, value),
        )


def _encode_headers(headers: Headers) -> str:
    return json.dumps([[name, content.hex()] for name, content in headers])


def _decode_headers(text: str) -> Headers:
    return tuple((name, bytes.fromhex(content)) for name, content in json.loads(text))


@contextmanager
def _plainly(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system say into one sentence."""
    remedies = {
        sqlite3.SQLITE_BUSY: f"another process has held it for {_BUSY_S:.0f} s; stop that process or wait",
        sqlite3.SQLITE_FULL: "the disk is full; free some space and start again: what was flushed is there",
        sqlite3.SQLITE_NOTADB: "choose another path in log.url",
        sqlite3.SQLITE_CANTOPEN: "check the path in log.url and its permissions",
        sqlite3.SQLITE_READONLY: "check its permissions",
        sqlite3.SQLITE_CORRUPT: "restore it from a backup",
    }
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        remedy = remedies.get(code, "is it a file that lmlp_stream wrote?")
        raise BrokerError(f"the log {path} cannot be used: {error}: {remedy}") from error
    except OSError as error:
        raise BrokerError(f"the log {path} cannot be used: {error.strerror}: check the path in log.url") from error
