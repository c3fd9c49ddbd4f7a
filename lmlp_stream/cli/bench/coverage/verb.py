"""The verb `bench coverage`."""

from pathlib import Path
from typing import Annotated

import typer

from lmlp_stream.cli.options import AsJson, Settings
from lmlp_stream.cli.terminal import answer, counting, explain, json_text


def coverage(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Labelled structures; each file is a domain.")],
    by: Annotated[str, typer.Option(metavar="KEY", help="Domains by this info key instead of by file.")] = "",
    order: Annotated[str, typer.Option(help="Of the domains: given, shuffled, or symbols as they enter: F,O,N.")] = (
        "given"
    ),
    per_domain: Annotated[int, typer.Option(min=0, help="Structures of a domain that arrive; 0: all.")] = 0,
    test_share: Annotated[float, typer.Option(min=0, max=1, help="Share of groups to test the snapshot on.")] = 0.1,
    window: Annotated[int, typer.Option(min=1, help="Labels of a window.")] = 1000,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0",
    config: Annotated[Path | None, typer.Option(metavar="CONFIG", help="TOML file; default: every default.")] = None,
    settings: Settings = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Results.")] = Path("bench-coverage"),
    as_json: AsJson = False,
) -> None:
    """Shares of labels inside 90 % intervals: a shuffled stream, and domain after domain.

    Every label is examined before it is learned. Writes coverage.json, coverage.md and a picture of the first seed.
    """
    from lmlp_stream.cli.bench.configured import SEED, bench_config
    from lmlp_stream.cli.bench.coverage import figures
    from lmlp_stream.cli.bench.coverage.plot import draw
    from lmlp_stream.cli.bench.coverage.run import examine, shuffled
    from lmlp_stream.cli.bench.results import make_folder
    from lmlp_stream.cli.bench.stream.domains import Cut, read_domains
    from lmlp_stream.cli.bench.stream.verb import numbers
    from lmlp_stream.config import overlaid
    from lmlp_stream.potential.device import prepare_cpu

    base, chosen = bench_config(config, settings or (), SEED), numbers(seeds)
    prepare_cpu(base.potential.threads)
    with counting("reading structures") as advance:
        domains = read_domains(
            files, (), Cut(by=by, order=order, per_domain=per_domain, test_share=test_share), advance
        )
    streams = {"shuffled": (shuffled(domains),)} | ({"domain after domain": domains} if len(domains) > 1 else {})
    explain(f"{len(domains)} domains, {sum(len(domain.learned) for domain in domains)} labels; results in {out}")
    make_folder(out)
    arms: dict[str, dict[int, dict[str, dict[str, float | None]]]] = {name: {} for name in streams}
    for seed in chosen:
        examined = {}
        for name, stream in streams.items():
            with counting(f"ticks of {name}, seed {seed}") as advance:
                examined[name] = examine(stream, overlaid(base, [f"seed={seed}"]), advance)
            arms[name][seed] = figures.coverage(examined[name], window)
        if seed == chosen[0]:
            draw(out / "coverage.svg", examined, window)
    told = {"bench": "coverage", "window": window, "arms": arms}
    (out / "coverage.json").write_text(json_text(told, indent=1), encoding="utf-8")
    (out / "coverage.md").write_text(figures.markdown(arms), encoding="utf-8")
    answer(figures.markdown(arms), told, as_json=as_json)
