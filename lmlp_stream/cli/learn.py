"""Running the learner for a person: signals, metrics endpoint, progress, the balance at the end."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from math import nan, sqrt
from typing import Any

from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lmlp_stream.broker.open import open_log
from lmlp_stream.cli.stopping import stopping
from lmlp_stream.cli.terminal import answer, console, explain
from lmlp_stream.config import Config
from lmlp_stream.potential.device import prepare_cpu
from lmlp_stream.service.balance import Balance
from lmlp_stream.service.loop import serve
from lmlp_stream.service.metrics import Metrics

logger = logging.getLogger("lmlp_stream")

SHOWN_ARRIVALS = 100
"""Newest arrivals whose prequential error the progress line shows."""


def run_learner(config: Config, *, until_end: bool, as_json: bool, take_over: bool = False) -> None:
    """Learn, and print the balance: a table, or JSON."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(message)s",
        handlers=[RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")],
    )
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    prepare_cpu(config.potential.threads)
    metrics = Metrics(learner=config.name, version=version("lmlp-stream"))
    with stopping("this tick") as stopped, closing(open_log(config.log.url, client=config.name)) as log:
        address, close_metrics = metrics.serve(config.service.metrics_host, config.service.metrics_port)
        logger.info("learner %s follows %s; metrics: %s", config.name, config.log.url, address)
        try:
            with _progress() as observe:
                balance = serve(
                    config, log, metrics, until_end=until_end, stopped=stopped, observe=observe, take_over=take_over
                )
        finally:
            close_metrics()
        if not balance.labels_learned:
            explain(f"nothing is learned yet; `lmlp-stream feed` publishes labels to {config.log.structures}")
        answer(_lines(balance), asdict(balance), as_json=as_json)


@contextmanager
def _progress() -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """An observer that shows labels, steps and the prequential force error."""
    newest: deque[tuple[float, int]] = deque(maxlen=SHOWN_ARRIVALS)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[labels]} labels"),
        BarColumn(bar_width=20),
        TextColumn(
            "{task.fields[steps]} steps  force error before learning {task.fields[error]:.3f} eV/Å"
            "  {task.fields[verdict]}"
        ),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("learning", total=None, labels=0, steps=0, error=nan, verdict="")
        n_steps = 0

        def observe(line: Mapping[str, Any]) -> None:
            nonlocal n_steps
            n_steps += line["steps"]
            newest.extend(
                (arrival["force_squared_error_sum"], arrival["n_force_components"])
                for arrival in line["arrivals"]
                if arrival["n_force_components"]
            )
            n_components = sum(count for _, count in newest)
            error = sqrt(sum(squared for squared, _ in newest) / n_components) if n_components else nan
            waiting = line["lag"]
            total = line["labels_learned"] + waiting
            progress.update(
                task,
                total=total,
                completed=line["labels_learned"],
                labels=line["labels_learned"],
                steps=n_steps,
                error=error,
                verdict=line["verdict"],
            )

        yield observe


def _dead_letters(n_records: int) -> str:
    return f"{n_records} (`lmlp-stream dead-letters list` says why)" if n_records else "0"


def _lines(balance: Balance) -> str:
    rows = {
        "labels learned": f"{balance.n_learned} in this run, {balance.labels_learned} in all",
        "held out": str(balance.n_held_out),
        "duplicates": str(balance.n_duplicates),
        "refused": _dead_letters(balance.n_refused),
        "condemned": _dead_letters(balance.n_condemned),
        "in quarantine": str(balance.n_waiting),
        "optimizer steps": str(balance.n_steps),
        "snapshots": f"{balance.n_announced} announced, {balance.n_withheld} withheld",
        "newest snapshot": balance.snapshot_id or "none yet",
        "checkpoint": balance.checkpoint or "none yet",
        "state": balance.state_sha256,
        "verdict": f"{balance.verdict}: {balance.evidence}",
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())
