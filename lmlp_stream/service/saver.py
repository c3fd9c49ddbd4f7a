"""The learner is restored from its newest whole checkpoint, and saved into the next one."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lmlp_stream.broker.log import Log, Partition
from lmlp_stream.config import FIXED_SECTIONS, Config
from lmlp_stream.errors import ConfigError, DamagedStoreError
from lmlp_stream.learning.learner import Learner
from lmlp_stream.service.metrics import Metrics
from lmlp_stream.store.checkpoint import Checkpoints, Restored, describe

logger = logging.getLogger(__name__)

MACHINE_KEYS = ("potential.device", "potential.threads")
"""Settings of the potential that say where it runs, not what it is."""

SOONEST_S = 2.5
"""No sooner than this after a checkpoint another one is due, unless the settings say so."""
SAVING_SHARE = 0.04
"""Share of the time that saving may take where checkpoints come sooner than the settings demand."""

FIXED_WIRE_KEYS: dict[str, Any] = {"level_of_theory": "", "further_levels": [], "forces_from": []}
"""Settings of the door that say what the labels are, not which of them are let in, and what they are where a checkpoint
does not say. The last one is no setting any more: what was learned by it is not what is learned now."""


def restored_learner(config: Config, restored: Restored | None) -> Learner:
    """The learner of a checkpoint, or a new one.

    Raises:
        ConfigError: The checkpoint was made with another configuration.
    """
    if restored is None:
        return Learner(config)
    check_config(config, restored.header)
    for sentence in restored.damaged:
        logger.warning("%s; the previous checkpoint is used, the log replays the rest", sentence)
    return Learner.restore(config, _of_learner(restored.state))


class Saver:
    """Saves a learner whose last checkpoint is old enough.

    Args:
        config: Name of the learner and cadence of its checkpoints.
        log: Where positions are committed once they are saved.
        checkpoints: Where checkpoints lie.
        metrics: Hears of every checkpoint.
        restored: The checkpoint the learner goes on from; None: it is new.
        n_ticks: Journal entries in that checkpoint.

    Attributes:
        path: Folder of the last checkpoint, of this run or an earlier one.
    """

    def __init__(
        self,
        config: Config,
        log: Log,
        checkpoints: Checkpoints,
        metrics: Metrics,
        restored: Restored | None,
        n_ticks: int,
    ) -> None:
        self._config = config
        self._log = log
        self._checkpoints = checkpoints
        self._metrics = metrics
        self._saved_at = time.monotonic()
        self._saving_s = 0.0
        self._n_ticks_saved = n_ticks
        self.path: Path | None = restored.path if restored else None

    @property
    def state_sha256(self) -> str:
        """Hash of the state in the last checkpoint; empty without one."""
        return str(describe(self.path)["state_sha256"]) if self.path else ""

    def due(self, n_ticks: int) -> bool:
        """Whether there is something to save after so many journal entries, and the last checkpoint is old enough.

        What came after the last checkpoint is learned again after a crash, so checkpoints are as frequent as they are
        cheap.
        """
        interval_s = min(self._config.service.checkpoint_every_s, max(SOONEST_S, self._saving_s / SAVING_SHARE))
        return n_ticks != self._n_ticks_saved and time.monotonic() - self._saved_at > interval_s

    def postpone(self) -> None:
        """Try again when a checkpoint made now would be old enough."""
        self._saved_at = time.monotonic()

    def save(
        self,
        learner: Learner,
        n_ticks: int,
        positions: Mapping[Partition, int],
        header: Mapping[str, Any],
        *,
        confirm: Callable[[], None],
    ) -> None:
        """Save, then commit.

        Args:
            learner: The learner.
            n_ticks: Journal entries it has followed.
            positions: Where it goes on in each partition.
            header: What the next run must know besides.
            confirm: Raises where another learner has taken over; asked before the checkpoint is named the newest.

        Raises:
            FencedError: Another learner has taken over.
            DamagedStoreError: The disk is full or fails.
        """
        confirm()
        started = time.perf_counter()
        state = {
            **learner.state_dict(),
            "service.positions": np.array([positions[p] for p in sorted(positions)], dtype=np.int64),
            "service.ticks": np.array(n_ticks, dtype=np.int64),
        }
        try:
            path = self._checkpoints.save(state, header, confirm=confirm)
        except OSError as error:
            confirm()
            raise DamagedStoreError(
                f"no checkpoint can be saved after {learner.labels_learned} labels: {error}; make room and start "
                "again: the last checkpoint is whole and the log replays the rest"
            ) from error
        self._log.commit(self._config.name, dict(positions))
        self._saved_at, self._n_ticks_saved = time.monotonic(), n_ticks
        self._saving_s = time.perf_counter() - started
        self.path = path
        self._metrics.checkpoint_saved(timestamp_s=time.time(), seconds=self._saving_s)


def _of_learner(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in state.items() if not name.startswith("service.")}


def check_config(config: Config, header: Mapping[str, Any]) -> None:
    """Nothing, if the checkpoint was made with the same fixed settings.

    Raises:
        ConfigError: It was not; the message names the keys and their old values.
    """
    then, now = _fixed(header["config"]), _fixed(config.model_dump(mode="json"))
    differing = [f"{key} = {then.get(key)!r}" for key in {**now, **then} if then.get(key) != now.get(key)]
    if differing:
        raise ConfigError(
            f"the learner {config.name!r} was started with {', '.join(differing)}; "
            "use the old settings, or another `name` for a new learner"
        )


def _fixed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a checkpoint holds a learner to, by dotted name."""
    fixed = {f"wire.{key}": settings["wire"].get(key, absent) for key, absent in FIXED_WIRE_KEYS.items()}
    for section in FIXED_SECTIONS:
        value = settings.get(section)
        fixed |= (
            {f"{section}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {section: value}
        )
    return {key: value for key, value in fixed.items() if key not in MACHINE_KEYS}
