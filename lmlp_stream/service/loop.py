"""The conductor: one learner over one log, tick by tick. Only this file knows what happens when.

The order is the guarantee. A tick is written into the journal, then learned; dead letters are flushed, then the
checkpoint is saved, then positions are committed; weights are stored and read back, then announced. Whatever
dies in between, the next start repeats exactly what the last checkpoint does not hold.
"""

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from lmlp_stream.broker.log import Log, Message, Partition
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.config import FIXED_SECTIONS, Config
from lmlp_stream.errors import BrokerError, ConfigError, DamagedStoreError
from lmlp_stream.learning.learner import Learner
from lmlp_stream.learning.tick import TickReport
from lmlp_stream.learning.trainer import StepReport
from lmlp_stream.service.history import History
from lmlp_stream.service.journal import Journal
from lmlp_stream.service.metrics import Metrics
from lmlp_stream.service.reader import Reader, opened, ranges_of, start_positions
from lmlp_stream.service.refusals import Refusals
from lmlp_stream.service.teller import Teller, figures
from lmlp_stream.store.checkpoint import Checkpoints, Restored, checkpoints_folder, describe
from lmlp_stream.store.lock import Hold, sole_owner
from lmlp_stream.wire.journal import Tell, Tick
from lmlp_stream.wire.limits import Limits
from lmlp_stream.wire.rejection import Reason, Rejection

logger = logging.getLogger(__name__)

OUTCOMES = ("learned", "held_out", "unlearned", "duplicates", "refused", "condemned")
"""What can become of a record; a checkpoint says how many of each the learner met in its life."""

MACHINE_KEYS = ("device", "threads")
"""Settings of the potential that say where it runs, not what it is."""

FIXED_WIRE_KEYS = ("level_of_theory", "forces_from")
"""Settings of the door that say what the labels are, not which of them are let in."""

Observer = Callable[[Mapping[str, Any]], None]
"""Called after each tick with its line of the history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What one run of the learner did, and what it left.

    Attributes:
        n_learned: Labels learned in this run, replayed ones included.
        n_held_out: Records that went to the hold-out.
        n_duplicates: Records whose id was known.
        n_refused: Records that became dead letters at the door.
        n_unlearned: Records that were let in and never learned: they wait, or were condemned.
        n_condemned: Records that were let in and became dead letters later, some after they had been learned.
        n_waiting: Records in quarantine at the end.
        labels_learned: Labels learned in the learner's whole life.
        n_steps: Optimizer steps in its whole life.
        n_announced: Snapshots announced in this run.
        n_withheld: Due snapshots that were not announced.
        snapshot_id: The newest announced snapshot of its life; empty: none.
        checkpoint: Folder of the last checkpoint.
        state_sha256: Hash of the state in it.
        verdict: Whether it improves, has converged, drifts or forgets.
        evidence: Why one may say so.
    """

    n_learned: int
    n_held_out: int
    n_duplicates: int
    n_refused: int
    n_unlearned: int
    n_condemned: int
    n_waiting: int
    labels_learned: int
    n_steps: int
    n_announced: int
    n_withheld: int
    snapshot_id: str
    checkpoint: str
    state_sha256: str
    verdict: str
    evidence: str


def serve(
    config: Config,
    log: Log,
    metrics: Metrics,
    *,
    until_end: bool,
    stopped: Callable[[], bool],
    observe: Observer,
    take_over: bool = False,
) -> Balance:
    """Learn from the log until it ends (`until_end`) or `stopped` says so.

    With `take_over` a learner of this name that still runs or sleeps is fenced off: it saves and tells nothing more.

    Raises:
        FencedError: Another learner of this name runs, or took over.
        ConfigError: The checkpoint was made with another configuration.
        BrokerError: The log cannot be reached, or no longer has what the journal names.
        DamagedStoreError: Every checkpoint is damaged, or the last one cannot be written.
        DivergedError: A loss was not finite.
    """
    folder = checkpoints_folder(config)
    with ExitStack() as stack:
        hold = stack.enter_context(sole_owner(folder, take_over=take_over))
        log.ensure(topic_specs(config.log, config.name))
        checkpoints = Checkpoints(folder, config.store.keep_checkpoints)
        restored = checkpoints.restore()
        history = stack.enter_context(closing(History(folder / "history.jsonl")))
        conductor = _Conductor(config, log, metrics, hold, checkpoints, restored, history, observe, stack)
        return conductor.run(until_end=until_end, stopped=stopped)


class _Conductor:
    """The learner, its place in the log, and everyone who is told."""

    def __init__(
        self,
        config: Config,
        log: Log,
        metrics: Metrics,
        hold: Hold,
        checkpoints: Checkpoints,
        restored: Restored | None,
        history: History,
        observe: Observer,
        stack: ExitStack,
    ) -> None:
        header: Mapping[str, Any] = restored.header if restored else {}
        if restored:
            _check_config(config, header)
            for sentence in restored.damaged:
                logger.warning("%s; the previous checkpoint is used, the log replays the rest", sentence)
        self._config = config
        self._log = log
        self._metrics = metrics
        self._hold = hold
        self._checkpoints = checkpoints
        self._history = history
        self._observe = observe
        self._limits = Limits.of(config.wire)
        self._learner = Learner.restore(config, _of_learner(restored.state)) if restored else Learner(config)
        self._n_ticks = int(header.get("journal_position", 0))
        self._n_records: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        self._n_records_before = dict(header.get("records", self._n_records))
        positions = start_positions(log, config.log.structures, header.get("positions", {}))
        self._reader = stack.enter_context(closing(Reader(log, positions)))
        writer = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._journal = stack.enter_context(
            closing(
                Journal(
                    log,
                    config.log.journal(config.name),
                    writer,
                    position=header.get("journal_offset"),
                    epoch=header.get("epoch", 0),
                )
            )
        )
        self._refusals = stack.enter_context(closing(Refusals(config, log, header.get("dead_letters_offset"))))
        self._teller = stack.enter_context(closing(Teller(config, log, metrics, history, header)))
        metrics.resumed(
            checkpoint_timestamp_s=header.get("created_at", 0.0),
            snapshot_timestamp_s=header.get("told_at", 0.0),
            snapshot_labels=header.get("labels_told", 0),
        )
        self._requests = Partition(config.log.requests, 0)
        self._n_requests = 0
        self._saved_at = time.monotonic()
        self._n_ticks_saved = self._n_ticks
        self._saved = restored.path if restored else None

    def run(self, *, until_end: bool, stopped: Callable[[], bool]) -> Balance:
        """Replay what the journal decided, then decide and learn what comes."""
        self._hold.confirm()
        entries = self._journal.claim()
        self._look()
        for entry in entries:
            if stopped():
                break
            self._follow(entry)
        else:
            self._lead(until_end=until_end, stopped=stopped)
        self._keep()
        return self._balance()

    def _lead(self, *, until_end: bool, stopped: Callable[[], bool]) -> None:
        settings = self._config
        while not stopped():
            proposal = self._reader.propose(
                settings.learning.records_per_tick,
                wait_s=settings.service.tick_wait_s,
                until_end=until_end,
                stopped=stopped,
                heard=self._metrics.broker,
            )
            if proposal.messages:
                ranges = ranges_of(proposal.messages, self._reader.positions)
                self._follow(self._journal.write_tick(self._n_ticks, ranges))
            if proposal.ended:
                break
            if not proposal.messages:
                self._keep_if_due()
        if until_end and not stopped() and self._teller.untold(self._learner):
            self._follow(self._journal.write_tell(self._n_ticks))

    def _follow(self, entry: Tick | Tell) -> None:
        """Do what a journal entry decided.

        Raises:
            BrokerError: The entry is not the next one: log and checkpoint do not belong together.
        """
        if entry.number != self._n_ticks:
            raise BrokerError(
                f"the journal of {self._config.name} goes on with tick {entry.number} where the checkpoint expects "
                f"tick {self._n_ticks}: entries were lost; restore the log, or the checkpoints that belong to it"
            )
        before = self._learner.labels_learned
        if isinstance(entry, Tick):
            self._learn(self._reader.take(entry.ranges))
        self._n_ticks += 1
        self._journal.done()
        cadence = self._config.service.snapshot_every
        if isinstance(entry, Tell) or self._learner.labels_learned // cadence > before // cadence:
            self._teller.tell(self._learner, self._n_ticks, confirm=self._confirm)
        self._keep_if_due()

    def _learn(self, messages: list[Message]) -> None:
        arrived = opened(messages, self._limits)
        if arrived.refused:
            self._confirm()
        for message, rejection in arrived.refused:
            self._refusals.refuse(message, rejection)
            self._metrics.refused(rejection.reason)
        self._refusals.flush()
        n_refused = len(arrived.refused)
        started = time.perf_counter()
        report = self._learner.process_tick(arrived.structures, observe=self._stepwatch())
        self._condemn(report)
        line: dict[str, Any] = {
            "tick": self._n_ticks,
            "time": time.time(),
            "seconds": time.perf_counter() - started,
            "reservoir": self._learner.n_remembered,
            "holdout": self._learner.n_held_out,
            "n_refused": n_refused,
            "labels_learned": self._learner.labels_learned,
            **report.named(),
            "verdict": str(self._learner.ruling.verdict),
            "evidence": self._learner.ruling.evidence,
        }
        line["lag"] = self._look()
        for outcome in ("learned", "held_out", "unlearned", "duplicates", "condemned"):
            self._n_records[outcome] += line[f"n_{outcome}"]
        self._n_records["refused"] += n_refused
        self._history.append("tick", line)
        self._measure(line)
        self._observe(line)

    def _condemn(self, report: TickReport) -> None:
        """Write the dead letters of labels that do not fit, or that no step can be made with."""
        if report.inconsistent or report.diverging:
            self._confirm()
        for reason, condemned in (
            (Reason.INCONSISTENT_LABEL, report.inconsistent),
            (Reason.DIVERGING_LABEL, report.diverging),
        ):
            for one in condemned:
                self._refusals.condemn(one.structure, Rejection(reason, one.detail))
                self._metrics.refused(reason)
        self._refusals.flush()

    def _stepwatch(self) -> Callable[[StepReport], None]:
        """An observer of steps that measures the time between them."""
        last = time.perf_counter()

        def observe(step: StepReport) -> None:
            nonlocal last
            now = time.perf_counter()
            self._metrics.stepped(seconds=now - last, energy_loss=step.energy_loss, force_loss=step.force_loss)
            last = now

        return observe

    def _measure(self, line: Mapping[str, Any]) -> None:
        metrics = self._metrics
        metrics.learned(line["n_learned"])
        metrics.held_out(line["n_held_out"])
        metrics.duplicates(line["n_duplicates"])
        metrics.disagreement(
            energy=line["energy_disagreement_ev_per_atom"], force=line["force_disagreement_ev_per_angstrom"]
        )

    def _look(self) -> int:
        """How many records wait; the figures say what the learner and its log are like now."""
        metrics, learner = self._metrics, self._learner
        lag = self._reader.lag()
        for partition, n_records in lag.items():
            metrics.lag(partition, n_records)
        requests = self._log.bounds(self._requests)
        metrics.request_seen(requests.end - requests.begin - self._n_requests)
        self._n_requests = requests.end - requests.begin
        metrics.broker(up=True)
        metrics.prequential(**figures(learner.prequential))
        metrics.verdict(learner.ruling.verdict)
        metrics.state(
            labels_learned=learner.labels_learned,
            elements=len(learner.elements),
            reservoir=learner.n_remembered,
            holdout=learner.n_held_out,
            quarantine=len(learner.quarantined),
        )
        return sum(lag.values())

    def _keep_if_due(self) -> None:
        """Keep what is in no checkpoint when the last one is old enough.

        Where the disk is full, say so and try again later: what was learned is still here and in the log.
        """
        saved_ago_s = time.monotonic() - self._saved_at
        if self._n_ticks == self._n_ticks_saved or saved_ago_s <= self._config.service.checkpoint_every_s:
            return
        try:
            self._keep()
        except DamagedStoreError as error:
            self._saved_at = time.monotonic()
            logger.warning("%s", error)

    def _keep(self) -> None:
        """Save, then commit; what was refused is in the log already.

        Raises:
            FencedError: Another learner has taken over.
            DamagedStoreError: The disk is full or fails.
        """
        self._confirm()
        started = time.perf_counter()
        positions = self._reader.positions
        journal_offset, epoch = self._journal.place
        replayed = journal_offset == self._journal.position
        state = {
            **self._learner.state_dict(),
            "service.positions": np.array([positions[p] for p in sorted(positions)], dtype=np.int64),
            "service.ticks": np.array(self._n_ticks, dtype=np.int64),
        }
        ruling = self._learner.ruling
        header = {
            "name": self._config.name,
            "labels_learned": self._learner.labels_learned,
            "quarantine": len(self._learner.quarantined),
            "records": {name: n + self._n_records_before[name] for name, n in self._n_records.items()},
            "steps": self._learner.n_steps,
            "elements": list(self._learner.elements),
            "positions": {str(p.index): position for p, position in sorted(positions.items())},
            "journal_position": self._n_ticks,
            "journal_offset": journal_offset,
            "epoch": epoch,
            "dead_letters_offset": self._refusals.position if replayed else self._refusals.start,
            **self._teller.header(),
            "config": self._config.model_dump(mode="json"),
            "verdict": str(ruling.verdict),
            "evidence": ruling.evidence,
            "code_version": version("lmlp-stream"),
            "created_at": time.time(),
        }
        try:
            path = self._checkpoints.save(state, header, confirm=self._confirm)
        except OSError as error:
            self._confirm()
            raise DamagedStoreError(
                f"no checkpoint can be saved after {self._learner.labels_learned} labels: {error}; make room and start "
                "again: the last checkpoint is whole and the log replays the rest"
            ) from error
        self._log.commit(self._config.name, positions)
        self._saved_at, self._n_ticks_saved = time.monotonic(), self._n_ticks
        self._saved = path
        self._metrics.checkpoint_saved(timestamp_s=time.time(), seconds=time.perf_counter() - started)

    def _confirm(self) -> None:
        """Return if this learner is still the one writer.

        Raises:
            FencedError: Another learner has taken over.
        """
        self._journal.confirm()
        self._hold.confirm()

    def _balance(self) -> Balance:
        digest = describe(self._saved)["state_sha256"] if self._saved else ""
        return Balance(
            n_learned=self._n_records["learned"],
            n_held_out=self._n_records["held_out"],
            n_duplicates=self._n_records["duplicates"],
            n_refused=self._n_records["refused"],
            n_unlearned=self._n_records["unlearned"],
            n_condemned=self._n_records["condemned"],
            n_waiting=len(self._learner.quarantined),
            labels_learned=self._learner.labels_learned,
            n_steps=self._learner.n_steps,
            n_announced=self._teller.n_announced,
            n_withheld=self._teller.n_withheld,
            snapshot_id=self._teller.snapshot_id,
            checkpoint=str(self._saved or ""),
            state_sha256=digest,
            verdict=str(self._learner.ruling.verdict),
            evidence=self._learner.ruling.evidence,
        )


def _of_learner(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in state.items() if not name.startswith("service.")}


def _check_config(config: Config, header: Mapping[str, Any]) -> None:
    """Nothing, if the checkpoint was made with the same fixed settings.

    Raises:
        ConfigError: It was not; the message names the keys.
    """
    then, now = dict(header["config"]), config.model_dump(mode="json")
    for settings in (then, now):
        settings["potential"] = {k: v for k, v in settings["potential"].items() if k not in MACHINE_KEYS}
    differing = [section for section in FIXED_SECTIONS if then.get(section) != now[section]]
    differing += [f"wire.{key}" for key in FIXED_WIRE_KEYS if then["wire"].get(key) != now["wire"][key]]
    if differing:
        raise ConfigError(
            f"the learner {config.name!r} was started with another {', '.join(differing)}; "
            "use the old settings, or another `name` for a new learner"
        )
