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
from importlib.metadata import version
from typing import Any

from lmlp_stream.broker.log import Log, Message, Partition
from lmlp_stream.broker.topics import create_topics
from lmlp_stream.config import Config
from lmlp_stream.errors import BrokerError, DamagedStoreError
from lmlp_stream.learning.tick import TickReport
from lmlp_stream.service.balance import OUTCOMES, Balance
from lmlp_stream.service.history import History
from lmlp_stream.service.journal import Journal
from lmlp_stream.service.metrics import Metrics
from lmlp_stream.service.reader import Reader, opened, ranges_of, start_positions
from lmlp_stream.service.refusals import Refusals
from lmlp_stream.service.saver import Saver, restored_learner
from lmlp_stream.service.teller import Teller
from lmlp_stream.service.watch import Watch
from lmlp_stream.store.checkpoint import Checkpoints, Restored, checkpoints_folder
from lmlp_stream.store.lock import Hold, sole_owner
from lmlp_stream.wire.journal import Tell, Tick
from lmlp_stream.wire.limits import Limits
from lmlp_stream.wire.rejection import Reason, Rejection

logger = logging.getLogger(__name__)

Observer = Callable[[Mapping[str, Any]], None]
"""Called after each tick with its line of the history."""


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
        create_topics(log, config.log, config.name)
        checkpoints = Checkpoints(folder, config.store.keep_checkpoints)
        restored = checkpoints.restore()
        history = stack.enter_context(closing(History(folder / "history.jsonl")))
        conductor = _Conductor(config, log, metrics, hold, checkpoints, restored, history, observe, stack)
        return conductor.run(until_end=until_end, stopped=stopped, take_over=take_over)


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
        self._learner = restored_learner(config, restored)
        self._config = config
        self._metrics = metrics
        self._hold = hold
        self._history = history
        self._observe = observe
        self._limits = Limits.of(config.wire)
        self._n_ticks = int(header.get("journal_position", 0))
        self._n_records: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
        self._n_records_before = dict(header.get("records", self._n_records))
        positions = start_positions(log, config.log.structures, header.get("positions", {}))
        self._reader = stack.enter_context(closing(Reader(log, positions)))
        writer = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        place = {"position": header.get("journal_offset"), "epoch": header.get("epoch", 0)}
        journal = Journal(log, config.log.journal(config.name), writer, home=hold.home, **place)
        self._journal = stack.enter_context(closing(journal))
        self._refusals = stack.enter_context(closing(Refusals(config, log, header.get("dead_letters_offset"))))
        self._teller = stack.enter_context(closing(Teller(config, log, metrics, history, header)))
        metrics.resumed(
            checkpoint_timestamp_s=header.get("created_at", 0.0),
            snapshot_timestamp_s=header.get("told_at", 0.0),
            snapshot_labels=header.get("labels_told", 0),
        )
        self._watch = Watch(log, config.log.requests, metrics)
        self._saver = Saver(config, log, checkpoints, metrics, restored, self._n_ticks)

    def run(self, *, until_end: bool, stopped: Callable[[], bool], take_over: bool) -> Balance:
        """Replay what the journal decided, then decide and learn what comes."""
        self._hold.confirm()
        entries = self._journal.claim(take_over=take_over)
        if not entries and self._n_ticks == 0:
            self._reader.warn_of_late_begin()
        self._watch.look(self._learner, self._reader)
        if not stopped():
            self._teller.show(self._learner)
        for entry in entries:
            if stopped():
                break
            self._follow(entry)
        else:
            self._lead(until_end=until_end, stopped=stopped)
        self._keep()
        self._journal.release()
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
                if proposal.heard:
                    self._confirm()
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
        started = time.perf_counter()
        report = self._learner.process_tick(arrived.structures, observe=self._watch.stepwatch())
        self._condemn(report)
        line: dict[str, Any] = {
            "tick": self._n_ticks,
            "time": time.time(),
            "seconds": time.perf_counter() - started,
            "reservoir": self._learner.n_remembered,
            "holdout": self._learner.n_held_out,
            "n_refused": len(arrived.refused),
            "labels_learned": self._learner.labels_learned,
            **report.named(),
            "verdict": str(self._learner.ruling.verdict),
            "evidence": self._learner.ruling.evidence,
        }
        line["lag"] = self._watch.look(self._learner, self._reader)
        for outcome in OUTCOMES:
            self._n_records[outcome] += line[f"n_{outcome}"]
        self._history.append("tick", line)
        self._watch.count(line)
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

    def _keep_if_due(self) -> None:
        """Keep what is in no checkpoint when the last one is old enough.

        Where the disk is full, say so and try again later: what was learned is still here and in the log.
        """
        if not self._saver.due(self._n_ticks):
            return
        try:
            self._keep()
        except DamagedStoreError as error:
            self._saver.postpone()
            logger.warning("%s", error)

    def _keep(self) -> None:
        """Save, then commit; what was refused is in the log already.

        Raises:
            FencedError: Another learner has taken over.
            DamagedStoreError: The disk is full or fails.
        """
        positions = self._reader.positions
        self._saver.save(self._learner, self._n_ticks, positions, self._header(positions), confirm=self._confirm)

    def _header(self, positions: Mapping[Partition, int]) -> dict[str, Any]:
        """What a checkpoint says of itself, and what the next run must know."""
        learner, ruling = self._learner, self._learner.ruling
        journal_offset, epoch = self._journal.place
        replayed = journal_offset == self._journal.position
        return {
            "name": self._config.name,
            "labels_learned": learner.labels_learned,
            "quarantine": learner.n_quarantined,
            "records": {name: n + self._n_records_before[name] for name, n in self._n_records.items()},
            "steps": learner.n_steps,
            "elements": list(learner.elements),
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

    def _confirm(self) -> None:
        """Return if this learner is still the one writer.

        Raises:
            FencedError: Another learner has taken over.
        """
        self._journal.confirm()
        self._hold.confirm()

    def _balance(self) -> Balance:
        return Balance(
            n_learned=self._n_records["learned"],
            n_held_out=self._n_records["held_out"],
            n_duplicates=self._n_records["duplicates"],
            n_refused=self._n_records["refused"],
            n_unlearned=self._n_records["unlearned"],
            n_condemned=self._n_records["condemned"],
            n_waiting=self._learner.n_quarantined,
            labels_learned=self._learner.labels_learned,
            n_steps=self._learner.n_steps,
            n_announced=self._teller.n_announced,
            n_withheld=self._teller.n_withheld,
            snapshot_id=self._teller.snapshot_id,
            checkpoint=str(self._saver.path or ""),
            state_sha256=self._saver.state_sha256,
            verdict=str(self._learner.ruling.verdict),
            evidence=self._learner.ruling.evidence,
        )
