"""Snapshots are stored and read back, then announced; what is not good enough is withheld, and said so."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from lmlp_stream.broker.log import Log
from lmlp_stream.config import Config
from lmlp_stream.learning.evaluation import Errors, EvaluationReport, Withheld
from lmlp_stream.learning.learner import Learner
from lmlp_stream.service.history import History
from lmlp_stream.service.metrics import Metrics
from lmlp_stream.store.signing import signer
from lmlp_stream.store.snapshot import Provenance, publish
from lmlp_stream.wire.announcement import announce, announcement_key

logger = logging.getLogger(__name__)

WHY = {
    Withheld.FEW_LABELS: "fewer than {min_labels} labels were learned (evaluation.min_labels)",
    Withheld.NOT_FINITE: "weights or errors are not finite",
    Withheld.REGRESSION: "the force error on the hold-out is more than {max_regression:g} times that of the announced "
    "snapshot (evaluation.max_regression)",
}
"""Reasons in words."""

STORE = "store"
"""The reason of a snapshot that was good enough and could not be written."""


class Teller:
    """Announces the snapshots of one learner.

    Attributes:
        n_announced: Snapshots announced in this run.
        n_withheld: Due snapshots that were not announced.
        snapshot_id: The newest announced snapshot; empty: none.
    """

    def __init__(self, config: Config, log: Log, metrics: Metrics, history: History, header: Mapping[str, Any]) -> None:
        self._config = config
        self._metrics = metrics
        self._history = history
        self._sign = signer(os.environ)
        self._sink = log.sink()
        self._labels_examined = int(header.get("labels_examined", 0))
        self._labels_told = int(header.get("labels_told", 0))
        self._told_at = float(header.get("told_at", 0.0))
        self.snapshot_id = str(header.get("snapshot_id", ""))
        self.n_announced = 0
        self.n_withheld = 0

    def header(self) -> dict[str, Any]:
        """What the next run must know."""
        return {
            "snapshot_id": self.snapshot_id,
            "labels_examined": self._labels_examined,
            "labels_told": self._labels_told,
            "told_at": self._told_at,
        }

    def untold(self, learner: Learner) -> bool:
        """Whether the learner learned something since a snapshot was announced, or last withheld by its examination."""
        return learner.labels_learned > self._labels_examined

    def show(self, learner: Learner) -> EvaluationReport:
        """Examine the learner for the metrics; what was found."""
        report = learner.assess()
        self._metrics.retention(**figures(report.retention))
        self._metrics.parts("prequential", report.newest)
        self._metrics.parts("retention", report.kept)
        self._metrics.coverage(
            energy=report.calibration.energy_coverage_90,
            forces=report.calibration.force_coverage_90,
            raw_energy=report.calibration.raw_energy_coverage_90,
            raw_forces=report.calibration.raw_force_coverage_90,
        )
        return report

    def tell(self, learner: Learner, journal_position: int, *, confirm: Callable[[], None]) -> None:
        """Examine the learner; store and announce a snapshot if it is admissible.

        Args:
            learner: The learner.
            journal_position: Journal entries it has followed.
            confirm: Raises where another learner has taken over; asked before the snapshot is announced.
        """
        report = self.show(learner)
        learner.note_assessed(report)
        ruling = learner.ruling
        self._metrics.verdict(ruling.verdict)
        line: dict[str, Any] = {
            "tick": journal_position,
            "time": time.time(),
            "labels_learned": learner.labels_learned,
            "announced": report.admissible,
            "reasons": [str(reason) for reason in report.reasons],
            "errors": report.errors.named(),
            "calibration": {**report.calibration.named(), **report.intervals.named()},
            "newest": report.newest.named(),
            "held_out": report.kept.named(),
            "verdict": str(ruling.verdict),
            "evidence": ruling.evidence,
        }
        if report.admissible:
            learner.note_announced(report)
            try:
                self._publish(learner, report, journal_position, confirm)
                self._labels_examined = learner.labels_learned
                line["id"] = self.snapshot_id
            except OSError as error:
                self._withhold(learner, line, [STORE], f"{self._config.store.url} cannot be written: {error}")
        else:
            self._labels_examined = learner.labels_learned
            why = [WHY[reason].format(**self._config.evaluation.model_dump()) for reason in report.reasons]
            self._withhold(learner, line, line["reasons"], " and ".join(why))
        self._history.append("snapshot", line)

    def close(self) -> None:
        """Release the connection."""
        self._sink.close()

    def _withhold(self, learner: Learner, line: dict[str, Any], reasons: list[str], sentence: str) -> None:
        line |= {"announced": False, "reasons": reasons}
        self.n_withheld += 1
        for reason in reasons:
            self._metrics.snapshot_withheld(reason)
        logger.warning("the snapshot after %d labels is withheld: %s", learner.labels_learned, sentence)

    def _publish(
        self, learner: Learner, report: EvaluationReport, journal_position: int, confirm: Callable[[], None]
    ) -> None:
        provenance = provenance_of(
            self._config,
            learner,
            report,
            journal_position=journal_position,
            parent_id=self.snapshot_id,
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        manifest = publish(learner.ensemble, provenance, self._config.store.url, self._sign)
        confirm()
        self._sink.send(self._config.log.snapshots, key=announcement_key(manifest), value=announce(manifest))
        self._sink.flush()
        self.snapshot_id = manifest.id
        self.n_announced += 1
        self._labels_told, self._told_at = learner.labels_learned, time.time()
        self._metrics.snapshot_announced(timestamp_s=self._told_at, labels_learned=self._labels_told)


def provenance_of(
    config: Config,
    learner: Learner,
    report: EvaluationReport,
    *,
    journal_position: int,
    parent_id: str,
    created_at: str,
) -> Provenance:
    """What a snapshot says of a learner besides its potential.

    Args:
        config: Name and levels of theory.
        learner: The learner.
        report: What was found when it was examined now.
        journal_position: Journal entries it has followed.
        parent_id: The snapshot announced before; empty for the first.
        created_at: ISO 8601 in UTC.
    """
    return Provenance(
        name=config.name,
        step=learner.n_steps,
        labels_learned=learner.labels_learned,
        journal_position=journal_position,
        level_of_theory=config.wire.level_of_theory,
        errors=report.errors.named(),
        calibration={**report.calibration.named(), **report.intervals.named()},
        parent_id=parent_id,
        code_version=version("lmlp-stream"),
        created_at=created_at,
        further_levels=config.wire.further_levels,
    )


def figures(errors: Errors) -> dict[str, float]:
    """The errors by the names the metrics use."""
    return {
        "energy_rmse": errors.energy_rmse,
        "energy_mae": errors.energy_mae,
        "force_rmse": errors.force_rmse,
        "force_mae": errors.force_mae,
    }
