"""All arms and seeds of a stream: what is finished is kept, so that a stopped bench goes on where it was."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from math import nan
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from lmlp_stream.cli.bench.results import make_folder
from lmlp_stream.cli.bench.stream.arms import Arm
from lmlp_stream.cli.bench.stream.domains import Domain
from lmlp_stream.cli.bench.stream.errors import SquaredErrors
from lmlp_stream.cli.bench.stream.figures import accuracies, ended, labels_until_near, matrix, summary
from lmlp_stream.cli.bench.stream.plots import draw_curves, draw_matrix
from lmlp_stream.cli.bench.stream.run import Moment, Quarter, Run, run_stream, run_together
from lmlp_stream.cli.bench.stream.table import report
from lmlp_stream.cli.terminal import json_text
from lmlp_stream.config import Config
from lmlp_stream.potential.device import prepare_cpu

KEY_LENGTH = 12
KEPT = [field.name for kind in (Run, Moment, Quarter, SquaredErrors) for field in fields(kind)]
"""What is kept of a run; runs of which something else was kept are not read."""


@dataclass(frozen=True, slots=True)
class Task:
    """One run that is wanted."""

    arm: Arm
    seed: int
    config: Config
    path: Path


def bench_stream(
    domains: Sequence[Domain],
    config: Config,
    arms: Sequence[Arm],
    *,
    seeds: Sequence[int],
    memory: float,
    processes: int,
    out: Path,
    advance: Callable[[], None],
) -> dict[str, Any]:
    """Figures of all arms, written to `out` as JSON, Markdown and SVG; `advance` is called after each run.

    Args:
        domains: The stream.
        config: What every arm has in common.
        arms: What is compared.
        seeds: Of each arm.
        memory: Share of the stream that is remembered where an arm does not say otherwise.
        processes: Runs side by side, each in a process of its own with one thread.
        out: Folder of the results; finished runs in it are not repeated.
        advance: Called after each run.

    Raises:
        UsageError: The folder cannot be made.
    """
    make_folder(out / "runs")
    tasks = list(_tasks(domains, config, arms, seeds, memory, out))
    missing = [task for task in tasks if not task.path.exists()]
    for _ in range(len(tasks) - len(missing)):
        advance()
    # A process for each run: its peak memory is its own.
    with ProcessPoolExecutor(processes, get_context("spawn"), max_tasks_per_child=1) as pool:
        for done in as_completed([pool.submit(_measure, domains, task) for task in missing]):
            done.result()
            advance()
    runs: dict[str, dict[int, Run]] = {}
    for task in tasks:
        runs.setdefault(task.arm.name, {})[task.seed] = _read(task.path)
    figures = _figures(domains, arms, runs, memory)
    _write(out, domains, runs, figures)
    return figures


def _tasks(
    domains: Sequence[Domain], config: Config, arms: Sequence[Arm], seeds: Sequence[int], memory: float, out: Path
) -> Iterator[Task]:
    n_labels = sum(len(domain.learned) for domain in domains)
    ids = [[structure.id for structure in (*domain.learned, *domain.tested)] for domain in domains]
    for arm in arms:
        for seed in seeds:
            told = arm.config(config, seed=seed, n_labels=n_labels, memory=memory)
            what = json.dumps([KEPT, ids, told.model_dump(mode="json"), arm.together])
            key = hashlib.sha256(what.encode()).hexdigest()[:KEY_LENGTH]
            yield Task(arm, seed, told, out / "runs" / f"{key}.json")


def _measure(domains: Sequence[Domain], task: Task) -> None:
    prepare_cpu(1)
    run = (run_together if task.arm.together else run_stream)(domains, task.config)
    unfinished = task.path.with_suffix(".unfinished")
    unfinished.write_text(json_text(asdict(run)), encoding="utf-8")
    unfinished.replace(task.path)


def _read(path: Path) -> Run:
    tree = json.loads(path.read_text(encoding="utf-8"))
    return Run(
        label_force_rms=_numbers(tree["label_force_rms"]),
        before=tuple(map(_moment, tree["before"])),
        curves=tuple(tuple(map(_moment, curve)) for curve in tree["curves"]),
        boundaries=tuple(map(_moment, tree["boundaries"])),
        quarters=tuple(Quarter(**quarter) for quarter in tree["quarters"]),
        labels_learned=tree["labels_learned"],
    )


def _moment(tree: Mapping[str, Any]) -> Moment:
    errors = [
        None
        if one is None
        else SquaredErrors(**one | {"energy": _numbers(one["energy"]), "force": _numbers(one["force"])})
        for one in tree["errors"]
    ]
    return Moment(**{**tree, "errors": tuple(errors)})


def _numbers(values: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(nan if value is None else value for value in values)


def _figures(
    domains: Sequence[Domain], arms: Sequence[Arm], runs: Mapping[str, Mapping[int, Run]], memory: float
) -> dict[str, Any]:
    known: set[int] = set()
    newcomers = []
    for place, domain in enumerate(domains):
        if place and domain.elements - known:
            newcomers.append(place)
        known |= domain.elements
    told, reference = summary(runs, newcomers), ended(runs[arms[0].name])
    for arm in arms:
        by_seed = runs[arm.name]
        told[arm.name] |= {
            "meaning": arm.meaning,
            "settings": arm.settings,
            "force_rmse_matrix_mev_per_angstrom": matrix(by_seed, lambda errors: errors.force_rmse),
            "energy_rmse_matrix_mev_per_atom": matrix(
                by_seed, lambda errors: errors.named("ensemble")["energy_rmse_mev_per_atom"]
            ),
            "labels_until_near_by_domain": labels_until_near(by_seed),
            "accuracies": {seed: accuracies(run, reference) for seed, run in by_seed.items()},
            "quarters": {seed: [asdict(quarter) for quarter in run.quarters] for seed, run in by_seed.items()},
        }
    return {
        "bench": "stream",
        "memory": memory,
        "domains": [
            {"name": domain.name, "learned": len(domain.learned), "tested": len(domain.tested)} for domain in domains
        ],
        "domains_with_new_elements": [domains[place].name for place in newcomers],
        "arms": told,
    }


def _write(
    out: Path, domains: Sequence[Domain], runs: Mapping[str, Mapping[int, Run]], figures: Mapping[str, Any]
) -> None:
    (out / "stream.json").write_text(json_text(figures, indent=1), encoding="utf-8")
    (out / "stream.md").write_text(report(figures), encoding="utf-8")
    draw_curves(out / "curves.svg", runs)
    for place, (name, by_seed) in enumerate(runs.items()):
        draw_matrix(out / f"matrix-{place}.svg", name, by_seed, [domain.name for domain in domains])
