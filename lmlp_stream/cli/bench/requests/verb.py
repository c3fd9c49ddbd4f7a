"""The verb `bench requests`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lmlp_stream.cli.options import AsJson, Settings
from lmlp_stream.cli.terminal import answer, counting, json_text
from lmlp_stream.errors import UsageError


def requests(
    train: Annotated[Path, typer.Option(metavar="FILE", help="The pool: structures whose labels can be asked for.")],
    test: Annotated[Path, typer.Option(metavar="FILE", help="Structures to test on.")],
    labels: Annotated[int, typer.Option(min=1, help="Labels drawn at random, and most labels of a rule.")] = 1600,
    start: Annotated[int, typer.Option(min=1, help="Labels drawn at random before the first request.")] = 32,
    candidates: Annotated[int, typer.Option(min=1, help="Structures that a round visits.")] = 256,
    asked: Annotated[int, typer.Option(min=1, help="Labels that a round asks for: where it is most unsure.")] = 16,
    every: Annotated[int, typer.Option(min=1, help="Labels between two examinations.")] = 100,
    rules: Annotated[
        str,
        typer.Option(help="forces: largest half width of a component; atom: of a force; excess: as simulations ask."),
    ] = "forces",
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0,1,2",
    config: Annotated[Path | None, typer.Option(metavar="CONFIG", help="TOML file; default: every default.")] = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON, written after each seed.")] = None,
    as_json: AsJson = False,
) -> None:
    """Labels needed for equal force RMSE: asked for by uncertainty, against drawn at random from the same pool.

    Same learner, same steps for each label. A round visits random candidates with the newest snapshot and asks for the
    labels of those it is most unsure of. Nothing is held out unless --set rehearsal.holdout_share says so.
    """
    from lmlp_stream.cli.bench.configured import SEED, bench_config, holding_nothing_out
    from lmlp_stream.cli.bench.requests.figures import markdown, needed
    from lmlp_stream.cli.bench.requests.run import Plan, Point, Rule, functions_of, learning_curve
    from lmlp_stream.cli.bench.results import check_file
    from lmlp_stream.cli.bench.stream.errors import Examination
    from lmlp_stream.cli.bench.stream.verb import numbers
    from lmlp_stream.cli.evaluate import labelled_structures
    from lmlp_stream.config import overlaid
    from lmlp_stream.potential.device import prepare_cpu

    base = holding_nothing_out(bench_config(config, settings or (), SEED), settings or ())
    plan = Plan(labels=labels, start=start, candidates=candidates, asked=asked, every=every)
    chosen = [rule for rule in Rule if rule in rules.split(",") and rule != Rule.RANDOM]
    if len(chosen) != len(rules.split(",")):
        raise UsageError(f"--rules {rules!r}: say some of forces, atom and excess, separated by commas")
    if start > labels:
        raise UsageError(f"--start {start} is more than --labels {labels}; start with at most as many")
    if asked > candidates:
        raise UsageError(f"--asked {asked} is more than --candidates {candidates}; ask for at most as many")
    if out:
        check_file(out)
    prepare_cpu(base.potential.threads)
    pool = list(labelled_structures(train))
    examination = Examination(list(labelled_structures(test)), functions_of(base))
    curves: dict[Rule, dict[int, list[Point]]] = {rule: {} for rule in (Rule.RANDOM, *chosen)}
    told: dict[str, object] = {}
    for seed in numbers(seeds):
        for rule, by_seed in curves.items():
            enough = 0.0 if rule == Rule.RANDOM else curves[Rule.RANDOM][seed][-1].force_rmse
            with counting(f"labels by {rule}, seed {seed}", labels) as advance:
                by_seed[seed] = learning_curve(
                    pool, examination, overlaid(base, [f"seed={seed}"]), plan, rule, enough=enough, advance=advance
                )
            if not by_seed[seed] and rule == Rule.RANDOM:
                raise UsageError(
                    f"an element of {test} is unknown after --labels {labels} of {train}, seed {seed}; allow more "
                    "labels, or test on elements of the pool"
                )
        told = {
            "bench": "requests",
            **asdict(plan),
            "needed": {rule: needed(curves, rule) for rule in chosen},
            "curves": {
                rule: {seed: [asdict(p) for p in c] for seed, c in found.items()} for rule, found in curves.items()
            },
        }
        if out:
            out.write_text(json_text(told, indent=1), encoding="utf-8")
    answer(markdown({rule: needed(curves, rule) for rule in chosen}), told, as_json=as_json)
