"""A learner that is stopped while it repeats what the journal decided goes on with what is left of it."""

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from lmlp_stream.broker.log import Log
from lmlp_stream.broker.open import open_log
from lmlp_stream.config import Config
from lmlp_stream.service.balance import Balance
from lmlp_stream.service.journal import JournalReader
from lmlp_stream.service.loop import serve
from lmlp_stream.service.metrics import Metrics
from lmlp_stream.store.checkpoint import Checkpoints, checkpoints_folder

Publish = Callable[[Config, Log, list[bytes]], None]


def learn(config: Config, *, n_ticks: int | None = None) -> Balance:
    """Learn to the end, or stop after so many ticks."""
    ticks: list[object] = []
    metrics = Metrics(learner=config.name, version="test")
    with closing(open_log(config.log.url, client="test")) as log:
        return serve(config, log, metrics, until_end=True, stopped=lambda: len(ticks) == n_ticks, observe=ticks.append)


def fed_piecemeal(learning: Any, publish: Publish, records: list[bytes]) -> Config:
    """Ticks of 5, 3 and 6 records, where a learner that sees all at once makes ticks of 8 and 6."""
    config: Config = learning.config
    for part in (records[:5], records[5:8], records[8:14]):
        with closing(open_log(config.log.url, client="test")) as log:
            publish(config, log, part)
        learn(config)
    return config


def test_stopped_while_catching_up_it_ends_like_one_that_never_was(
    learning: Any, publish: Publish, records: list[bytes]
) -> None:
    undisturbed = learn(fed_piecemeal(learning("undisturbed"), publish, records))

    config = fed_piecemeal(learning("disturbed"), publish, records)
    shutil.rmtree(checkpoints_folder(config))
    for n_records in (5, 3):
        stopped = learn(config, n_ticks=1)
        assert stopped.n_learned + stopped.n_held_out == n_records
    caught_up = learn(config)

    assert caught_up.state_sha256 == undisturbed.state_sha256
    with closing(open_log(config.log.url, client="test")) as log:
        numbers = [entry.number for entry in JournalReader(log, config.log.journal(config.name)).decisions()]
    assert numbers == list(range(len(numbers)))


def test_in_silence_what_was_learned_last_gets_its_checkpoint(
    learning: Any, publish: Publish, records: list[bytes]
) -> None:
    config: Config = learning(settings=("service.checkpoint_every_s=1.0", "service.tick_wait_s=0.1")).config
    deadline = time.monotonic() + 60.0
    kept: list[int] = []

    def stopped() -> bool:
        restored = Checkpoints(checkpoints_folder(config), 3).restore()
        kept.append(restored.header["journal_position"] if restored else 0)
        return kept[-1] == 1 or time.monotonic() > deadline

    with closing(open_log(config.log.url, client="test")) as log:
        publish(config, log, records[:8])
        metrics = Metrics(learner=config.name, version="test")
        serve(config, log, metrics, until_end=False, stopped=stopped, observe=lambda _: None)
    assert kept[-1] == 1
