"""One learner under pressure: everything is fed at once, its memory is read while it works the backlog off."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lmlp_stream.broker.open import open_log
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.config import Config, load_config
from tests.pressure.labels import LEVEL, records

RECORDS_PER_TICK = 64
SAMPLE_S = 0.25
START_S = 120.0
MIB = 2**20
PAGE = os.sysconf("SC_PAGE_SIZE")

SETTINGS = """
seed = 3
[log]
url = "sqlite:{folder}/log.db"
[store]
url = "{folder}/store"
[wire]
level_of_theory = "{level}"
[symmetry]
cutoff = 2.0
[potential]
members = 1
hidden = [4]
linear_features = 8
device = "cpu"
threads = 1
[learning]
records_per_tick = {records_per_tick}
steps_per_record = 0.01
remembered_ids = {remembered_ids}
[rehearsal]
capacity = 500
holdout_capacity = 50
[service]
snapshot_every = 10000
checkpoint_every_s = 10.0
metrics_port = 0
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory at one moment.

    Attributes:
        seconds: Since the learner learned its first tick.
        n_records: Records it had read.
        resident_mib: Its resident memory, MiB.
    """

    seconds: float
    n_records: int
    resident_mib: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run under pressure showed.

    Attributes:
        n_labels: Labels fed.
        n_read: Records the learner's balance names: learned, held out, duplicates, refused and let in but not learned.
        fed_per_s: Labels per second while they were fed.
        read_per_s: Labels per second that the learner sustained.
        burst: Ratio of the two.
        warm_records: Records that had been read when memory was first compared.
        median_mib: Median resident memory from there on, MiB.
        lowest: Lowest resident memory from there on, as a share of the median.
        highest: Highest resident memory from there on, as a share of the median.
        slope_mib_per_100k: Slope of a straight line through resident memory, MiB per 100,000 labels.
        samples: Everything that was measured.
    """

    n_labels: int
    n_read: int
    fed_per_s: float
    read_per_s: float
    burst: float
    warm_records: int
    median_mib: float
    lowest: float
    highest: float
    slope_mib_per_100k: float
    samples: tuple[Sample, ...]

    def named(self) -> dict[str, Any]:
        """The figures but not the samples."""
        return {name: value for name, value in asdict(self).items() if name != "samples"}


def press(n_labels: int, folder: Path, seed: int = 0, remembered_ids: int = 200_000, warm: float = 0.1) -> Outcome:
    """Feed `n_labels` as fast as the log takes them to a learner that is running.

    Args:
        n_labels: How many.
        folder: An empty folder.
        seed: Of the labels.
        remembered_ids: Ids the learner knows before it forgets the oldest.
        warm: Share of the labels after which memory is compared.
    """
    settings = folder / "lmlp.toml"
    settings.write_text(
        SETTINGS.format(folder=folder, level=LEVEL, records_per_tick=RECORDS_PER_TICK, remembered_ids=remembered_ids)
    )
    config = load_config(settings, ())
    history = folder / "store" / "checkpoints" / config.name / "history.jsonl"
    command = [sys.executable, "-m", "lmlp_stream.cli.main", "learn", str(settings), "--json"]
    said = folder / "said.txt"
    fed = _Feeding(config, n_labels, seed)
    with said.open("wb") as errors:
        learner = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        try:
            _first_tick(learner, config, history, seed)
            fed.start()
            samples = _watch(learner, history, n_labels)
            fed.join()
            learner.send_signal(signal.SIGTERM)
            balance = json.loads(learner.communicate(timeout=120)[0])
        except BaseException:
            learner.kill()
            print(said.read_text(), file=sys.stderr)
            raise
    places = ("n_learned", "n_held_out", "n_duplicates", "n_refused", "n_unlearned")
    n_read = sum(balance[name] for name in places)
    return _outcome(n_labels, n_read - 1, n_labels / fed.seconds, samples, int(warm * n_labels))


class _Feeding(threading.Thread):
    """Writes labels as fast as the log takes them.

    Attributes:
        seconds: How long it took.
    """

    def __init__(self, config: Config, n_labels: int, seed: int) -> None:
        super().__init__()
        self._config = config
        self._n_labels = n_labels
        self._seed = seed
        self.seconds = 0.0

    def run(self) -> None:
        started = time.perf_counter()
        _feed(self._config, self._n_labels, self._seed)
        self.seconds = time.perf_counter() - started


def _feed(config: Config, n_labels: int, seed: int) -> None:
    with closing(open_log(config.log.url, client="farm")) as log:
        log.ensure(topic_specs(config.log, config.name))
        with closing(log.sink()) as sink:
            for key, value in records(n_labels, seed):
                sink.send(config.log.structures, key=key, value=value)


def _first_tick(learner: "subprocess.Popen[bytes]", config: Config, history: Path, seed: int) -> None:
    """Return when the learner has learned one label of its own: what it imports and builds once is there."""
    _feed(config, 1, seed + 1)
    deadline = time.monotonic() + START_S
    while not (history.exists() and history.stat().st_size):
        if learner.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError("the learner did not begin")
        time.sleep(0.05)


def _watch(learner: "subprocess.Popen[bytes]", history: Path, n_labels: int) -> tuple[Sample, ...]:
    """Samples until the learner has read one record more than `n_labels`."""
    samples = []
    started = time.perf_counter()
    n_records, place = 0, 0
    while n_records <= n_labels:
        if learner.poll() is not None:
            raise RuntimeError(f"the learner ended with exit code {learner.returncode}")
        time.sleep(SAMPLE_S)
        with history.open("rb") as lines:
            lines.seek(place)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                place += len(line)
                tick = json.loads(line)
                if tick["kind"] == "tick":
                    n_records += tick["n_new"] + tick["n_duplicates"] + tick["n_refused"]
        samples.append(Sample(time.perf_counter() - started, n_records, _resident_mib(learner.pid)))
    return tuple(samples)


def _resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / MIB


def _outcome(n_labels: int, n_read: int, fed_per_s: float, samples: tuple[Sample, ...], warm: int) -> Outcome:
    compared = [sample for sample in samples if sample.n_records >= warm]
    resident = np.array([sample.resident_mib for sample in compared])
    median = float(np.median(resident))
    slope = float(np.polyfit([sample.n_records for sample in compared], resident, 1)[0]) if len(compared) > 1 else 0.0
    read_per_s = samples[-1].n_records / samples[-1].seconds
    return Outcome(
        n_labels=n_labels,
        n_read=n_read,
        fed_per_s=fed_per_s,
        read_per_s=read_per_s,
        burst=fed_per_s / read_per_s,
        warm_records=compared[0].n_records,
        median_mib=median,
        lowest=float(resident.min()) / median,
        highest=float(resident.max()) / median,
        slope_mib_per_100k=slope * 1e5,
        samples=samples,
    )
