"""What learning each label exactly once costs: time beside the learning, and time until a killed learner goes on."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.broker.open import open_log
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.cli.bench.timing import Elapsed, timed
from lmlp_stream.cli.report.reading import HistoryReader, history_path
from lmlp_stream.config import Config, config_toml, parse_config
from lmlp_stream.errors import BrokerError
from lmlp_stream.farm.door import labelled
from lmlp_stream.farm.labels import calculated_labels
from lmlp_stream.farm.naming import Naming
from lmlp_stream.learning.learner import Learner
from lmlp_stream.potential.device import prepare_cpu
from lmlp_stream.service.loop import serve
from lmlp_stream.service.metrics import Metrics
from lmlp_stream.store.checkpoint import Checkpoints, checkpoints_folder
from lmlp_stream.wire.record import encode

MOLECULE = "CH3COCH3"
"""Ten atoms of three elements."""
DISPLACEMENT = 0.04
"""Standard deviation of the displacement of each coordinate, Å."""
LOOK_S = 0.02
PATIENCE_S = 300.0
BACKLOG = 320
"""Labels that wait for each life of the learner that is killed; twenty ticks."""
KILLED_WITHIN_S = 20.0
"""A life ends at a random moment within this time after it learned something new."""
QUICKLY = {"steps_per_record": 0.1}


def overhead(n_labels: int, threads: int) -> dict[str, float]:
    """Time of journal, checkpoints, metrics and history beside the learning, in one run at the default cadence.

    A bare learner learns each tick again right after the real one did, so that both meet the same machine.
    """
    with tempfile.TemporaryDirectory(prefix="lmlp-stream-") as folder:
        config = _config(Path(folder), threads)
        prepare_cpu(config.potential.threads)
        structures = _molecules(n_labels)
        _publish(config, structures)
        bare, clock = Learner(config), _Clock()
        ticks = iter(range(0, n_labels, config.learning.records_per_tick))

        def learn_again(_: Mapping[str, Any]) -> None:
            first = next(ticks)
            tick = structures[first : first + config.learning.records_per_tick]
            clock.leave_out(lambda: bare.process_tick(tick))

        with closing(open_log(config.log.url, client="bench")) as log:
            metrics = Metrics(learner=config.name, version="bench")
            whole = timed(
                lambda: serve(config, log, metrics, until_end=True, stopped=lambda: False, observe=learn_again)
            )
    return {
        "learning_cpu_s": clock.left_out.cpu_s,
        "learning_wall_s": clock.left_out.wall_s,
        "exactly_once_cpu_s": whole.cpu_s - clock.left_out.cpu_s,
        "exactly_once_wall_s": whole.wall_s - clock.left_out.wall_s,
        "overhead_cpu": whole.cpu_s / clock.left_out.cpu_s - 2.0,
        "overhead_wall": whole.wall_s / clock.left_out.wall_s - 2.0,
    }


def recovery(n_remembered: int, threads: int, kills: int, advance: Callable[[], None]) -> dict[str, float]:
    """Time from the start of a learner's process until it learned what no life before had learned, s.

    A learner whose reservoir holds about `n_remembered` structures of ten atoms is killed at random moments while it
    learns at the default cadence; each time it finds its checkpoint and replays what came after it. `imports_s` is the
    time of the imports alone.
    """
    with tempfile.TemporaryDirectory(prefix="lmlp-stream-") as folder:
        config = _config(Path(folder), threads)
        prepare_cpu(config.potential.threads)
        structures = _molecules(n_remembered + BACKLOG * (kills + 1))
        _publish(config, structures)
        n_kept = _save_learner(config, structures[:n_remembered], advance)
        path = Path(folder) / "lmlp.toml"
        path.write_text(config_toml(config), encoding="utf-8")
        imports = timed(_import).wall_s
        random = np.random.default_rng(0)
        history = HistoryReader(history_path(config))
        recovered = []
        for _ in range(kills + 1):
            known, started = _last_tick(history), time.perf_counter()
            with _running(path) as process:
                _wait_for_more(history, known, process)
                recovered.append(time.perf_counter() - started - imports)
                time.sleep(random.uniform(0.0, KILLED_WITHIN_S))
    return {
        "n_remembered": n_kept,
        "kills": kills,
        "imports_s": imports,
        "recovery_s": median(recovered[1:]),
        "longest_recovery_s": max(recovered[1:]),
    }


def _save_learner(config: Config, structures: Sequence[LabelledStructure], advance: Callable[[], None]) -> int:
    """Save the checkpoint of a learner that has learned these, in few steps; how many it remembers."""
    learner = Learner(config.model_copy(update={"learning": config.learning.model_copy(update=QUICKLY)}))
    n_records = config.learning.records_per_tick
    for first in range(0, len(structures), n_records):
        some = structures[first : first + n_records]
        learner.process_tick([replace(one, record=(0, first + place)) for place, one in enumerate(some)])
        advance()
    header = {
        "config": config.model_dump(mode="json"),
        "labels_learned": learner.labels_learned,
        "positions": {"0": len(structures)},
    }
    Checkpoints(checkpoints_folder(config), config.store.keep_checkpoints).save(
        {**learner.state_dict(), "service.positions": np.array([len(structures)], dtype=np.int64)}, header
    )
    return learner.n_remembered


def _last_tick(history: HistoryReader) -> int:
    ticks = history.read().ticks
    return ticks[-1].number if ticks else -1


def _wait_for_more(history: HistoryReader, known: int, process: "subprocess.Popen[bytes]") -> None:
    """Return when the learner has learned a tick newer than the known ones.

    Raises:
        BrokerError: It ended, or noted nothing for long.
    """
    deadline = time.monotonic() + PATIENCE_S
    while _last_tick(history) <= known:
        if process.poll() is not None or time.monotonic() > deadline:
            raise BrokerError("the learner learned nothing after its restart; run it by hand to see why")
        time.sleep(LOOK_S)


@contextmanager
def _running(path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A learner's process, killed at the end."""
    command = [sys.executable, "-m", "lmlp_stream.cli.main", "learn", str(path)]
    with subprocess.Popen(  # noqa: S603 - our own modules
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class _Clock:
    """The time of work that is left out of something else's."""

    def __init__(self) -> None:
        self.left_out = Elapsed(cpu_s=0.0, wall_s=0.0)

    def leave_out(self, work: Callable[[], object]) -> None:
        more = timed(work)
        self.left_out = Elapsed(self.left_out.cpu_s + more.cpu_s, self.left_out.wall_s + more.wall_s)


def _config(folder: Path, threads: int) -> Config:
    return parse_config(
        {
            "log": {"url": f"sqlite:{folder}/log.db"},
            "store": {"url": f"{folder}/store"},
            "potential": {"device": "cpu", "threads": threads},
            "service": {"metrics_port": 0},
        },
        place="bench",
    )


def _molecules(n_structures: int) -> list[LabelledStructure]:
    """Displaced copies of acetone with the energies and forces of ASE's effective medium theory."""
    random, naming, structures = np.random.default_rng(0), Naming(), []
    shape = molecule(MOLECULE)
    for _ in range(n_structures):
        displaced = shape.positions + random.normal(scale=DISPLACEMENT, size=shape.positions.shape)
        atoms = Atoms(numbers=shape.numbers, positions=displaced)
        atoms.calc = EMT()
        labels = calculated_labels(atoms)
        structures.append(labelled(atoms, labels, naming, place=MOLECULE, level_of_theory="", source="bench"))
    return structures


def _publish(config: Config, structures: Sequence[LabelledStructure]) -> None:
    with closing(open_log(config.log.url, client="bench")) as log:
        log.ensure(topic_specs(config.log, config.name))
        with closing(log.sink()) as sink:
            for structure in structures:
                sink.send(config.log.structures, key=b"", value=encode(structure))
            sink.flush()


def _import() -> None:
    subprocess.run([sys.executable, "-c", "import lmlp_stream.cli.learn"], check=True)
