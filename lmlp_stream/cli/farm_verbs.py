"""The verbs of a job farm: `feed` and `label`. They never import torch."""

import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import IO, Annotated

import typer

from lmlp_stream.broker.open import open_log
from lmlp_stream.broker.topics import create_topics
from lmlp_stream.cli.options import AsJson, ConfigPath, Settings, configured
from lmlp_stream.cli.stopping import stopping
from lmlp_stream.cli.terminal import answer, counted, counting, explain
from lmlp_stream.config import Config
from lmlp_stream.farm.feeding import FeedOptions, FileChecker, FileReport, publish
from lmlp_stream.farm.labeller import Labeller, LabelReport, Worker


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command()(feed)
    app.command()(label)


def feed(
    config: ConfigPath,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Structure files that ASE reads; .xz, .gz and .bz2 too.")
    ],
    settings: Settings = None,
    energy_key: Annotated[
        str, typer.Option(metavar="KEY", help="Where the energy stands; none: there is none.", show_default="found")
    ] = "",
    forces_key: Annotated[
        str, typer.Option(metavar="KEY", help="Where the forces stand; none: there are none.", show_default="found")
    ] = "",
    domain_key: Annotated[
        str, typer.Option(metavar="KEY", help="Info key that errors are reported by.", show_default="found")
    ] = "",
    group_key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY", help="Info key of the trajectory segment; several name it together.", show_default="found"
        ),
    ] = None,
    skip_unlabelled: Annotated[
        bool, typer.Option("--skip-unlabelled", help="Pass over unlabelled structures.")
    ] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Pass over structures that the learner would refuse.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Publish the labelled structures of files (eV, Å), in order.

    Every structure is checked before the first is published; a label fed twice is learned once.
    """
    read = configured(config, settings)
    options = FeedOptions(
        energy_key=energy_key,
        forces_key=forces_key,
        domain_key=domain_key,
        group_keys=tuple(group_key or ()),
        skip_unlabelled=skip_unlabelled,
        keep_going=keep_going,
    )
    _warn_of_nameless_labels(read)
    with tempfile.TemporaryFile() as spool:
        reports = [_check(path, options, read, spool) for path in files]
        n_published = _publish(spool, read, sum(report.n_accepted for report in reports))
    answer(
        f"published {counted(n_published, 'labelled structure')} of {counted(len(files), 'file')} "
        f"to {read.log.structures} at {read.log.url}",
        {
            "n_published": n_published,
            "n_unlabelled": sum(report.n_unlabelled for report in reports),
            "n_refused": sum(report.n_refused for report in reports),
            "topic": read.log.structures,
            "log_url": read.log.url,
            "level_of_theory": read.wire.level_of_theory,
            "files": [asdict(report) for report in reports],
        },
        as_json=as_json,
    )


def _warn_of_nameless_labels(config: Config) -> None:
    if not config.wire.level_of_theory:
        explain("warning: wire.level_of_theory is empty; the records will not say which method made the labels")


def _check(path: Path, options: FeedOptions, config: Config, spool: IO[bytes]) -> FileReport:
    with counting(f"checking {path.name}") as advance:
        report = FileChecker(path, options, config, spool).check(advance)
    explain(_found(report))
    return report


def _found(report: FileReport) -> str:
    labels = ", ".join(
        f"{kind} from {key!r}"
        for kind, key in (("energy", report.energy_key), ("forces", report.forces_key), ("stress", report.stress_key))
        if key
    )
    passed_over = [
        f"{n} {what}, the first: {first}"
        for n, what, first in (
            (report.n_unlabelled, "without labels are passed over", report.first_unlabelled),
            (report.n_refused, "that would be refused are passed over", report.first_refusal),
        )
        if n
    ]
    names = [f"{name} from {_sources(sources)}" for name, sources in _named(report) if sources]
    parts = (f"{report.path}: {counted(report.n_structures, 'structure')}", labels, *names, *passed_over)
    return "; ".join(part for part in parts if part)


def _named(report: FileReport) -> tuple[tuple[str, dict[str, int]], ...]:
    return ("domain", report.domains_from), ("group", report.groups_from)


def _sources(sources: dict[str, int]) -> str:
    return " and ".join(source if len(sources) == 1 else f"{source} ({n})" for source, n in sources.items())


def _publish(spool: IO[bytes], config: Config, total: int) -> int:
    with closing(open_log(config.log.url, client="lmlp-stream-feed")) as log:
        create_topics(log, config.log)
        with closing(log.sink()) as sink, counting("publishing", total) as advance:
            return publish(spool, sink, config.log.structures, advance)


def label(
    config: ConfigPath,
    settings: Settings = None,
    worker: Annotated[
        str, typer.Option(metavar="NUMBER/OF", help="Share the requests with others by lot, such as 1/4.")
    ] = "1/1",
    until_idle: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.0, help="Stop after this time without a request.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Answer label requests with the calculator that the section `label` names.

    Each request is answered once, however often workers are restarted; what fails becomes a dead letter.
    """
    read = configured(config, settings)
    share = Worker.parse(worker)
    _warn_of_nameless_labels(read)
    with (
        stopping("the running calculation") as stopped,
        closing(open_log(read.log.url, client="lmlp-stream-label")) as log,
        closing(Labeller(read, log, share)) as labeller,
    ):
        explain(f"answering {read.log.requests} at {read.log.url} with {read.label.calculator}, worker {worker}")
        with counting("labelled") as advance:
            report = labeller.run(stopped, until_idle_s=until_idle, observe=_observer(advance))
        answer(
            f"labelled {counted(report.n_labelled, 'structure')}; {report.n_failed} failed, {report.n_expired} "
            f"requests had expired, {report.n_settled_before} were settled before",
            asdict(report),
            as_json=as_json,
        )


def _observer(advance: Callable[[], None]) -> Callable[[LabelReport], None]:
    seen = LabelReport()

    def observe(report: LabelReport) -> None:
        if report.n_failed > seen.n_failed:
            explain(f"failed: {report.last_failure}")
        if report.n_labelled > seen.n_labelled:
            advance()
        seen.n_failed, seen.n_labelled = report.n_failed, report.n_labelled

    return observe
