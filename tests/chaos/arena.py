"""Where one learner of a trial lives: its configuration, its store, its part of a log, and a look at all three."""

import json
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmlp_stream.broker.log import Log, Message, Partition
from lmlp_stream.broker.open import open_log
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.config import Config, load_config
from lmlp_stream.store.checkpoint import HEADER_FILE, STATE_FILE, checkpoints_folder
from lmlp_stream.wire.announcement import SnapshotManifest, read_announcement
from lmlp_stream.wire.dead_letter import DeadLetter, decode_dead_letter
from tests.chaos.nursery import Ambush, Child, fork, learner
from tests.chaos.stream import LEVEL

CHILD_S = 120.0
RECORDS_PER_TICK = 32

SETTINGS = """
seed = {seed}
name = "chaos"
[log]
url = "{url}"
prefix = "{prefix}"
partitions = {partitions}
[store]
url = "{folder}/store"
[wire]
level_of_theory = "{level}"
max_net_force = 5.0
[potential]
members = 1
hidden = [4]
linear_features = 8
dtype = "float64"
device = "cpu"
threads = 1
[learning]
records_per_tick = {records_per_tick}
steps_per_record = 0.05
batch_size = 4
[rehearsal]
capacity = 40
holdout_share = 0.05
holdout_capacity = 10
[evaluation]
window = 40
max_regression = 1000.0
[service]
tick_wait_s = {tick_wait_s}
checkpoint_every_s = {checkpoint_every_s}
snapshot_every = 64
metrics_port = 0
"""


@dataclass(frozen=True, slots=True)
class Cadence:
    """Silence after which a tick takes what there is, and time between checkpoints, s."""

    tick_wait_s: float
    checkpoint_every_s: float


TICK = b'{"kind": "tick"'
"""How a tick begins in the history."""
STEADY = Cadence(tick_wait_s=3600.0, checkpoint_every_s=0.02)
"""Every tick is full, whatever happens, so that another stream of the same records has the same ticks."""
RAGGED = Cadence(tick_wait_s=0.02, checkpoint_every_s=0.3)
"""Ticks take what happens to be there, and several of them lie between two checkpoints."""


class Arena:
    """One learner's place, in a folder of its own.

    Args:
        folder: Where its files go.
        url: Its log; empty: an SQLite file in the folder.
        prefix: First part of its topics.
        partitions: Of the structures topic.
        cadence: Of ticks and checkpoints.
        seed: Of the learner.
    """

    def __init__(self, folder: Path, *, url: str, prefix: str, partitions: int, cadence: Cadence, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file = folder / "lmlp.toml"
        self._file.write_text(
            SETTINGS.format(
                seed=seed,
                url=url or f"sqlite:{folder}/log.db",
                prefix=prefix,
                partitions=partitions,
                folder=folder,
                level=LEVEL,
                tick_wait_s=cadence.tick_wait_s,
                checkpoint_every_s=cadence.checkpoint_every_s,
                records_per_tick=RECORDS_PER_TICK,
            )
        )
        self.config: Config = load_config(self._file)
        self._n_children = 0
        self._fed: list[tuple[int, int]] = []

    @property
    def checkpoints(self) -> list[Path]:
        """Folders of checkpoints, the oldest first."""
        folder = checkpoints_folder(self.config)
        return sorted(path for path in folder.glob("*") if path.name.isdigit()) if folder.is_dir() else []

    @property
    def history(self) -> Path:
        return checkpoints_folder(self.config) / "history.jsonl"

    @property
    def history_size(self) -> int:
        """Bytes of the history so far; 0 without one."""
        return self.history.stat().st_size if self.history.exists() else 0

    def learner(self, *arguments: str, ambush: Ambush | None = None) -> Child:
        """A learner that was just born."""
        return learner([str(self._file), *arguments], self._new_file("learner"), ambush)

    def learn_to_the_end(self, *arguments: str, timeout_s: float) -> dict[str, Any]:
        """The balance of a learner that nobody disturbs.

        Raises:
            RuntimeError: It did not reach the end.
        """
        child = self.learner("--until-end", "--json", *arguments)
        if child.wait(timeout_s):
            raise RuntimeError(f"the learner ended with exit code {child.status}:\n{child.said.read_text()}")
        balance: dict[str, Any] = json.loads(child.said.read_text().splitlines()[-1])
        return balance

    def feed(self, records: tuple[tuple[bytes, bytes], ...]) -> None:
        """Append records to the stream, in a process of their own as a farm does."""
        self._fed.append((self.history_size, len(records)))

        def send(log: Log) -> None:
            sink = log.sink()
            for key, value in records:
                sink.send(self.config.log.structures, key=key, value=value)
            sink.close()

        self._beside(send)

    def idle(self, n_fed: int) -> bool:
        """Whether less than a tick is left in the log: of what the last tick saw left, and of what was fed since."""
        if n_fed < RECORDS_PER_TICK:
            return True
        if not self.history.exists():
            return False
        with self.history.open("rb") as file:
            start = max(0, self.history_size - 200_000)
            file.seek(start)
            text = file.read()
        place = text.rfind(TICK)
        if place < 0:
            return False
        try:
            lag = int(json.loads(text[place:].splitlines()[0])["lag"])
        except ValueError:
            return False
        return lag + sum(n for size, n in self._fed if size > start + place) < RECORDS_PER_TICK

    def look(self) -> dict[str, Any]:
        """What stands in the log: ids of announced snapshots, the number of announcements, refused addresses."""
        seen = self._new_file("seen")

        def read(log: Log) -> None:
            announced = [read_announcement(message.value) for message in _all(log, self.config.log.snapshots)]
            letters = [decode_dead_letter(message.value) for message in _all(log, self.config.log.dead_letters)]
            ids = [each.id for each in announced if isinstance(each, SnapshotManifest)]
            refused = sorted([each.partition, each.offset] for each in letters if isinstance(each, DeadLetter))
            ends = [log.bounds(Partition(self.config.log.snapshots, 0)).end, len(refused)]
            seen.write_text(json.dumps({"announced": sorted(set(ids)), "ends": ends, "refused": refused}))

        self._beside(read)
        found: dict[str, Any] = json.loads(seen.read_text())
        return found

    def possessions(self) -> set[tuple[str, int]]:
        """Everything that a fenced learner must not add to: what is announced, refused and saved."""
        saved = {(str(path), path.stat().st_mtime_ns) for folder in self.checkpoints for path in folder.iterdir()}
        return saved | {(str(number), end) for number, end in enumerate(self.look()["ends"])}

    def put_to_sleep(self, child: Child) -> None:
        """Suspend a learner; not within a transaction of SQLite, where everybody else would wait for it."""
        child.suspend()
        while self._locked():
            child.send(signal.SIGCONT)
            time.sleep(0.001)
            child.suspend()

    def _locked(self) -> bool:
        """Whether somebody holds the file of an SQLite log for writing."""
        kind, _, path = self.config.log.url.partition(":")

        def begin(_window: object) -> int:
            with closing(sqlite3.connect(path, timeout=0.0, isolation_level=None)) as database:
                try:
                    database.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    return 1
                return 0

        return kind == "sqlite" and fork(begin, self._new_file("lock")).wait(CHILD_S) != 0

    def damage(self, how: int) -> None:
        """Spoil the newest checkpoint: flip a bit, cut it short, or lose a file."""
        newest = self.checkpoints[-1]
        state = newest / STATE_FILE
        match how % 3:
            case 0:
                content = bytearray(state.read_bytes())
                content[how % len(content)] ^= 1 << how % 8
                state.write_bytes(content)
            case 1:
                state.write_bytes(state.read_bytes()[: how % state.stat().st_size])
            case _:
                (newest / HEADER_FILE).unlink()

    def _beside(self, deed: Callable[[Log], None]) -> None:
        def open_and_do(_window: object) -> int:
            with closing(open_log(self.config.log.url, client="chaos")) as log:
                log.ensure(topic_specs(self.config.log, self.config.name))
                deed(log)
            return 0

        child = fork(open_and_do, self._new_file("beside"))
        if child.wait(CHILD_S):
            raise RuntimeError(child.said.read_text())

    def _new_file(self, kind: str) -> Path:
        self._n_children += 1
        return self._folder / f"{self._n_children:04d}-{kind}.txt"


def _all(log: Log, topic: str) -> list[Message]:
    partition = Partition(topic, 0)
    bounds = log.bounds(partition)
    source = log.source({partition: bounds.begin})
    messages: list[Message] = []
    while arrived := source.poll(1000, 0.5):
        messages += arrived
        if messages[-1].offset + 1 >= bounds.end:
            break
    source.close()
    return messages
