"""The verb `bench stream`."""

from pathlib import Path
from typing import Annotated

import typer

from lmlp_stream.cli.options import AsJson, Settings
from lmlp_stream.cli.terminal import answer, counting, explain
from lmlp_stream.errors import UsageError


def stream(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Labelled structures; each file is a domain.")],
    by: Annotated[str, typer.Option(metavar="KEY", help="Domains by this info key instead of by file.")] = "",
    sort: Annotated[str, typer.Option(metavar="KEY", help="Order within a domain by this info key.")] = "",
    order: Annotated[str, typer.Option(help="Of the domains: given, shuffled, or symbols as they enter: F,O,N.")] = (
        "given"
    ),
    per_domain: Annotated[int, typer.Option(min=0, help="Structures of a domain that arrive; 0: all.")] = 0,
    test: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Test structures; by KEY, or one file for each FILE.")
    ] = None,
    test_share: Annotated[float, typer.Option(min=0, max=1, help="Share of groups to test on without --test.")] = 0.1,
    memory: Annotated[float, typer.Option(min=0, max=1, help="Share of the stream that is remembered.")] = 0.1,
    arms: Annotated[str, typer.Option(help="all, or some of the arms.")] = ("stationary,stream,no-rehearsal,unlimited"),
    vary: Annotated[
        list[str] | None, typer.Option(metavar="'SECTION.KEY=VALUE ...'", help="One more arm: the stream with these.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0,1,2",
    config: Annotated[Path | None, typer.Option(metavar="CONFIG", help="TOML file; default: every default.")] = None,
    settings: Settings = None,
    processes: Annotated[int, typer.Option(min=1, help="Runs side by side, one thread each.")] = 1,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Results; finished runs there are kept.")] = Path(
        "bench-stream"
    ),
    as_json: AsJson = False,
) -> None:
    """A stream seen once against everything from the start: errors, forgetting, transfer, cost.

    Nothing is held out unless --set rehearsal.holdout_share says so. Writes stream.json, stream.md and SVG pictures;
    after a change of the code, name another folder.
    """
    from lmlp_stream.cli.bench.configured import bench_config, holding_nothing_out
    from lmlp_stream.cli.bench.stream.arms import GOVERNED, chosen_arms
    from lmlp_stream.cli.bench.stream.bench import bench_stream
    from lmlp_stream.cli.bench.stream.domains import Cut, read_domains
    from lmlp_stream.cli.bench.stream.table import markdown

    chosen = chosen_arms([name.strip() for name in arms.split(",")], vary or ())
    base = holding_nothing_out(bench_config(config, settings or (), GOVERNED), settings or ())
    cut = Cut(by=by, sort=sort, order=order, per_domain=per_domain, test_share=test_share)
    with counting("reading structures") as advance:
        domains = read_domains(files, test or (), cut, advance)
    n_labels = sum(len(domain.learned) for domain in domains)
    chosen_seeds = numbers(seeds)
    explain(
        f"{len(domains)} domains, {n_labels} labels; {len(chosen)} arms of {len(chosen_seeds)} runs; results in {out}"
    )
    with counting("runs", len(chosen) * len(chosen_seeds)) as advance:
        figures = bench_stream(
            domains, base, chosen, seeds=chosen_seeds, memory=memory, processes=processes, out=out, advance=advance
        )
    answer(markdown(figures["arms"]), figures, as_json=as_json)


def numbers(text: str) -> list[int]:
    """The whole numbers that an option lists.

    Raises:
        UsageError: There is something else between the commas.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--seeds {text!r} are not whole numbers; separate them by commas: 0,1,2") from None
