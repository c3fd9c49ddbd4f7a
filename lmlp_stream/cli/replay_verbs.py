"""The verb `replay`: an announced snapshot, rebuilt from the log and the journal."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmlp_stream.broker.log import Log
from lmlp_stream.broker.open import open_log
from lmlp_stream.cli.options import AsJson, ConfigPath, Settings, configured
from lmlp_stream.cli.terminal import answer, counted, counting, explain
from lmlp_stream.config import Config
from lmlp_stream.errors import DamagedStoreError, UsageError

if TYPE_CHECKING:
    from lmlp_stream.service.replay import Rebuilt, Replay
    from lmlp_stream.wire.announcement import SnapshotManifest

LATEST = "latest"
MIN_PREFIX = 6


def register(app: typer.Typer) -> None:
    """Add the verb to the command."""
    app.command()(replay)


def replay(
    config: ConfigPath,
    until: Annotated[
        str, typer.Option("--until", metavar="SNAPSHOT", help="An announced id, its first characters, or `latest`.")
    ],
    settings: Settings = None,
    store: Annotated[
        str, typer.Option("--store", metavar="FOLDER", help="Write the rebuilt snapshot there.", show_default="nowhere")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Rebuild an announced snapshot from the log and the journal, and compare; exit code 6 if they differ.

    Nothing the learner owns is touched: it may run meanwhile. Use its configuration, and a CPU if it uses one.
    """
    from lmlp_stream.potential.device import prepare_cpu
    from lmlp_stream.store.snapshot import publish

    read = configured(config, settings)
    prepare_cpu(read.potential.threads)
    with closing(open_log(read.log.url, client="lmlp-stream-replay", create=False)) as log:
        found = _replayed(read, log, until)
    target = found.target
    stored = publish(found.ensemble, target.provenance, store).weights_uri if store else ""
    _print(found, stored, as_json=as_json)
    if not target.identical:
        raise DamagedStoreError(_difference(found.chain))


def _replayed(config: Config, log: Log, until: str) -> "Replay":
    from lmlp_stream.service.replay import chain_to, replay

    announced = _announced(config, log)
    target = _chosen(until, announced, config)
    chain = chain_to(target, announced)
    explain(
        f"replaying {counted(target.labels_learned, 'label')} in {target.journal_position} journal entries "
        f"up to snapshot {target.id}"
    )
    with counting("journal entries", target.journal_position) as advance:

        def observe(rebuilt: "Rebuilt | None") -> None:
            advance()
            if rebuilt is not None:
                explain(_compared(rebuilt))

        return replay(config, log, chain, observe)


def _announced(config: Config, log: Log) -> "tuple[SnapshotManifest, ...]":
    from lmlp_stream.simulate.follower import Follower

    with closing(Follower(log, config.log.snapshots, config.name)) as follower:
        return follower.new_manifests()


def _chosen(until: str, announced: "tuple[SnapshotManifest, ...]", config: Config) -> "SnapshotManifest":
    if until == LATEST and announced:
        return max(announced, key=lambda manifest: manifest.journal_position)
    fitting = [m for m in announced if m.id.startswith(until)] if len(until) >= MIN_PREFIX else []
    if len(fitting) != 1:
        found = f"fits {len(fitting)} snapshots" if fitting else "is no snapshot"
        raise UsageError(
            f"{until!r} {found} that {config.name} announced on {config.log.snapshots} at {config.log.url}; "
            "`lmlp-stream follow CONFIG --once` prints the ids"
        )
    return fitting[0]


def _compared(rebuilt: "Rebuilt") -> str:
    verdict = "identical" if rebuilt.identical else f"differs in {', '.join(rebuilt.differing)}"
    return f"{rebuilt.announced.labels_learned} labels: {rebuilt.announced.id[:12]} {verdict}"


def _difference(chain: "tuple[Rebuilt, ...]") -> str:
    first = next(rebuilt for rebuilt in chain if not rebuilt.identical)
    return (
        f"the snapshot announced as {chain[-1].announced.id} was rebuilt as {chain[-1].manifest.id}; the first that "
        f"differs is {first.announced.id} after {first.announced.labels_learned} labels, in "
        f"{', '.join(first.differing)}; replay on the same kind of processor with the settings of that time (seed, "
        f"[wire] limits, potential.threads) and code version {first.announced.code_version}"
    )


def _print(found: "Replay", stored: str, *, as_json: bool) -> None:
    target = found.target
    figures: dict[str, Any] = {
        "announced_id": target.announced.id,
        "rebuilt_id": target.manifest.id,
        "identical": target.identical,
        "differing": list(target.differing),
        "labels_learned": target.manifest.labels_learned,
        "journal_position": target.announced.journal_position,
        "n_records": found.n_records,
        "n_snapshots": len(found.chain),
        "n_identical": sum(rebuilt.identical for rebuilt in found.chain),
        "weights_uri": stored,
    }
    answer("\n".join(f"{name:<20} {value}" for name, value in figures.items()), figures, as_json=as_json)
