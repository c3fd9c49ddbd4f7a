"""The verbs around a learner: `learn`, `follow`, `evaluate`, `inspect`."""

import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmlp_stream.broker.open import open_log
from lmlp_stream.cli.options import AsJson, ConfigPath, Settings, configured
from lmlp_stream.cli.stopping import stopping
from lmlp_stream.cli.terminal import answer, counting, explain, listed
from lmlp_stream.errors import DamagedStoreError, UsageError

if TYPE_CHECKING:
    from lmlp_stream.simulate.follower import Follower
    from lmlp_stream.wire.announcement import SnapshotManifest

LATEST = "latest"
FOLLOW_PAUSE_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    app.command()(learn)
    app.command()(follow)
    app.command()(evaluate)
    app.command()(inspect)


def learn(
    config: ConfigPath,
    settings: Settings = None,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="Stop at the end of the log, with a last snapshot.")
    ] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Fence off a learner of this name that hangs or sleeps.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Follow the log and learn; SIGTERM or Ctrl-C stops after the running tick, with a checkpoint.

    Started again, it goes on where it was, however it ended.
    """
    from lmlp_stream.cli.learn import run_learner

    run_learner(configured(config, settings), until_end=until_end, as_json=as_json, take_over=take_over)


def follow(
    config: ConfigPath,
    settings: Settings = None,
    once: Annotated[bool, typer.Option("--once", help="Print what is announced now, then end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print each announced snapshot as soon as it is loaded and verified; with --json, one object a line."""
    from lmlp_stream.simulate.follower import Follower

    read = configured(config, settings)
    with (
        stopping("the verification") as stopped,
        closing(open_log(read.log.url, client="lmlp-stream-follow", create=not once)) as log,
    ):
        follower = Follower(log, read.log.snapshots, read.name, read.simulate.trusted_keys)
        n_printed = _print_new(follower, as_json)
        if once and not n_printed:
            explain(f"no snapshot of {read.name} is announced on {read.log.snapshots} at {read.log.url} yet")
        while not once and not stopped():
            _print_new(follower, as_json)
            time.sleep(FOLLOW_PAUSE_S)


def evaluate(
    snapshot: Annotated[str, typer.Argument(metavar="SNAPSHOT", help="A folder, an id, or `latest` with --config.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Labelled structures that ASE reads; .xz and .gz too.")],
    config: Annotated[Path | None, typer.Option("--config", metavar="CONFIG", help="Where ids are looked up.")] = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Errors of a snapshot on labelled structures it did not learn."""
    from lmlp_stream.cli.evaluate import evaluate as errors_of
    from lmlp_stream.cli.evaluate import explain_missing
    from lmlp_stream.potential.uncertainty import Intervals
    from lmlp_stream.store.snapshot import load

    trusted_keys = configured(config, settings).simulate.trusted_keys if config else ()
    manifest, ensemble = load(_found(snapshot, config, settings), trusted_keys=trusted_keys)
    with counting(f"evaluating {manifest.id[:12]} on {file.name}") as advance:
        errors = errors_of(ensemble, Intervals.read(manifest.calibration), file, advance)
    explain_missing(errors)
    figures = {"snapshot_id": manifest.id, "labels_learned": manifest.labels_learned, **errors}
    answer(listed(figures), figures, as_json=as_json)


def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A checkpoint, a store, or a snapshot folder.")],
    as_json: AsJson = False,
) -> None:
    """What a checkpoint or a snapshot says of itself, once its digests are checked."""
    from lmlp_stream.store.checkpoint import describe
    from lmlp_stream.store.snapshot import MANIFEST_FILE, load

    if not path.exists():
        raise UsageError(f"there is nothing at {path}; name a checkpoint, a store or a snapshot folder")
    figures = asdict(load(str(path))[0]) if (path / MANIFEST_FILE).exists() else describe(path)
    answer(listed(figures), figures, as_json=as_json)


def _print_new(follower: "Follower", as_json: bool) -> int:
    n_printed = 0
    untrusted_before = set(follower.untrusted)
    manifests = follower.new_manifests()
    for snapshot_id in follower.untrusted.keys() - untrusted_before:
        explain(follower.untrusted[snapshot_id])
    for manifest in manifests:
        try:
            follower.load(manifest)
        except DamagedStoreError as error:
            explain(f"{manifest.id[:12]} is announced but not usable: {error}")
            continue
        answer(_line(manifest), asdict(manifest), as_json=as_json)
        n_printed += 1
    return n_printed


def _line(manifest: "SnapshotManifest") -> str:
    energy = manifest.errors.get("energy_rmse_ev_per_atom")
    forces = manifest.errors.get("force_rmse_ev_per_angstrom")
    errors = [
        f"{1000 * error:.1f} {unit}" for error, unit in ((energy, "meV/atom"), (forces, "meV/Å")) if error is not None
    ]
    return f"{manifest.created_at}  {manifest.id}  {manifest.labels_learned} labels  {', '.join(errors)}"


def _found(snapshot: str, config: Path | None, settings: list[str] | None) -> "SnapshotManifest | str":
    from lmlp_stream.simulate.follower import Follower
    from lmlp_stream.store.snapshot import find_snapshot

    if config is None:
        if snapshot == LATEST:
            raise UsageError("`latest` needs --config CONFIG, which says where snapshots are announced")
        return find_snapshot(".", snapshot)
    read = configured(config, settings)
    if snapshot != LATEST:
        return find_snapshot(read.store.url, snapshot)
    with closing(open_log(read.log.url, client="lmlp-stream-evaluate", create=False)) as log:
        latest = Follower(log, read.log.snapshots, read.name, read.simulate.trusted_keys).latest()
    if latest is None:
        raise UsageError(
            f"no snapshot of {read.name} is announced on {read.log.snapshots} at {read.log.url}; "
            f"`lmlp-stream learn {config} --until-end` makes one"
        )
    return latest
