"""The embedded log among processes: several at once, killed ones, forked ones, full and foreign files."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmlp_stream.broker.log import Message, Partition, TopicSpec
from lmlp_stream.broker.open import open_log
from lmlp_stream.broker.sqlite import SqliteLog
from lmlp_stream.errors import BrokerError

TOPIC = TopicSpec("t.v1")
PARTITION = Partition("t.v1", 0)

WRITER = """
import sys
from lmlp_stream.broker.log import TopicSpec
from lmlp_stream.broker.open import open_log

url, name, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
log = open_log(url, client=name)
log.ensure([TopicSpec("t.v1")])
sink = log.sink()
for number in range(int(sys.argv[4])):
    sink.send("t.v1", key=name.encode(), value=b"%d" % number + bytes(2000))
    if number % batch == batch - 1:
        sink.flush()
        print(number + 1, flush=True)
"""

FORK = """
import os, sys
from pathlib import Path
from lmlp_stream.broker.sqlite import SqliteLog
from lmlp_stream.errors import BrokerError

log = SqliteLog(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    try:
        log.partitions("t.v1")
    except BrokerError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
log.close()
"""


def start_writer(url: str, name: str, *, batch: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, url, name, str(batch), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def everything(log: SqliteLog) -> list[Message]:
    source = log.source({PARTITION: log.bounds(PARTITION).begin})
    messages = source.poll(1_000_000, 0.0)
    source.close()
    return messages


def number_of(message: Message) -> int:
    return int(message.value.rstrip(b"\x00"))


def test_a_killed_writer_loses_nothing_it_flushed(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    flushed = 0
    for run in range(4):
        writer = start_writer(f"sqlite:{path}", f"run-{run}", batch=7, count=10_000_000)
        assert writer.stdout is not None
        lines = [int(writer.stdout.readline()) for _ in range(5 + 10 * run)]
        os.kill(writer.pid, signal.SIGKILL)
        lines += [int(line) for line in writer.stdout.read().split("\n")[:-1]]
        writer.stdout.close()
        writer.wait()
        log = SqliteLog(path)
        written = [number_of(message) for message in everything(log) if message.key == b"run-%d" % run]
        log.close()
        assert written == list(range(len(written)))
        assert len(written) >= lines[-1]
        flushed += lines[-1]
    log = SqliteLog(path)
    messages = everything(log)
    assert len(messages) >= flushed
    assert [message.offset for message in messages] == list(range(len(messages)))
    log.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_several_processes_begin_write_and_read_at_once(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path}/log.db"
    writers = [start_writer(url, f"farm-{number}", batch=10, count=200) for number in range(4)]
    log = SqliteLog(tmp_path / "log.db")
    log.ensure([TOPIC])
    source = log.source({PARTITION: 0})
    messages: list[Message] = []
    deadline = time.monotonic() + 120
    while len(messages) < 800 and time.monotonic() < deadline:
        messages += source.poll(100, 0.5)
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    source.close()
    log.close()
    assert [message.offset for message in messages] == list(range(800))
    for number in range(4):
        own = [number_of(message) for message in messages if message.key == b"farm-%d" % number]
        assert own == list(range(200))


def test_a_log_carried_across_a_fork_is_refused(tmp_path: Path) -> None:
    forked = subprocess.run(
        [sys.executable, "-c", FORK, str(tmp_path / "log.db")], capture_output=True, text=True, check=False
    )
    assert forked.returncode == 0
    assert "was opened before a fork; open it again in the child process" in forked.stdout


def test_an_offset_is_never_used_again(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.ensure([TOPIC])
    sink = log.sink()
    for value in (b"0", b"1"):
        sink.send("t.v1", key=b"k", value=value)
    sink.flush()
    with sqlite3.connect(tmp_path / "log.db") as connection:
        connection.execute("DELETE FROM message")
    connection.close()
    sink.send("t.v1", key=b"k", value=b"2")
    sink.close()
    assert [(message.offset, message.value) for message in everything(log)] == [(2, b"2")]
    log.close()


@pytest.mark.parametrize(("lost", "named"), [((3, 4, 7), "3 to 4"), ((7, 8), "7 to 8"), ((8, 9), "8 to 9")])
def test_what_is_missing_in_the_middle_or_at_the_end_is_named(
    tmp_path: Path, lost: tuple[int, ...], named: str
) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.ensure([TOPIC])
    sink = log.sink()
    for number in range(10):
        sink.send("t.v1", key=b"k", value=b"%d" % number)
    sink.close()
    with sqlite3.connect(tmp_path / "log.db") as connection:
        connection.executemany("DELETE FROM message WHERE offset = ?", [(offset,) for offset in lost])
    connection.close()
    source = log.source({PARTITION: 1})
    assert [message.offset for message in source.poll(lost[0] - 1, 0.0)] == list(range(1, lost[0]))
    for max_messages in (1, 2, 100):
        with pytest.raises(BrokerError, match=rf"t\.v1\[0\] has lost the messages of offsets {named.split(' ')[0]} to"):
            source.poll(max_messages, 0.0)
    with pytest.raises(BrokerError, match=rf"offsets {named}: restore the log from a backup"):
        source.poll(100, 0.0)
    source.close()
    log.close()


def test_a_compacted_topic_takes_no_more_room_than_its_keys(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.ensure([TopicSpec("t.v1", compacted=True)])
    sink = log.sink()
    for number in range(50):
        sink.send("t.v1", key=b"k%d" % (number % 2), value=b"%d" % number)
        sink.flush()
    sink.close()
    assert [(message.offset, message.value) for message in everything(log)] == [(48, b"48"), (49, b"49")]
    log.close()


def test_every_commit_is_flushed_to_the_disk(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    with log._database.transaction("DEFERRED") as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    log.close()


def test_committed_positions_stand_in_a_table(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.commit("learner", {PARTITION: 3})
    log.commit("learner", {PARTITION: 5})
    connection = sqlite3.connect(tmp_path / "log.db")
    assert connection.execute("SELECT * FROM committed").fetchall() == [("learner", "t.v1", 0, 5)]
    connection.close()
    log.close()


def test_a_full_disk_is_a_broker_error_and_keeps_what_was_flushed(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.db")
    log.ensure([TOPIC])
    sink = log.sink()
    sink.send("t.v1", key=b"k", value=b"kept")
    sink.flush()
    sink._database._connection.execute("PRAGMA max_page_count = 20")
    sink.send("t.v1", key=b"k", value=bytes(200_000))
    with pytest.raises(BrokerError, match="disk is full"):
        sink.flush()
    sink.close()
    assert [message.value for message in everything(log)] == [b"kept"]
    log.close()


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"these are notes, not a log\n" * 100)
    with pytest.raises(BrokerError, match=r"notes\.txt cannot be used: file is not a database: choose another path"):
        open_log(f"sqlite:{path}", client="a")


def test_a_log_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "log.db") as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(BrokerError, match="version 2"):
        open_log(f"sqlite:{tmp_path}/log.db", client="a")


def test_a_path_that_cannot_be_opened_is_a_broker_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "log.db"):
        with pytest.raises(BrokerError, match="check the path"):
            open_log(f"sqlite:{path}", client="a")
