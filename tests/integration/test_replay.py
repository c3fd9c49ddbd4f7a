"""Time travel: any announced snapshot can be rebuilt from the log and the journal alone."""

import json
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lmlp_stream.broker.log import Bounds, Log, Partition
from lmlp_stream.broker.open import open_log
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.cli.main import main
from lmlp_stream.config import Config
from lmlp_stream.potential.device import prepare_cpu
from lmlp_stream.service.balance import Balance
from lmlp_stream.service.loop import serve
from lmlp_stream.service.metrics import Metrics
from lmlp_stream.simulate.follower import Follower
from lmlp_stream.store.checkpoint import checkpoints_folder
from lmlp_stream.store.snapshot import load
from lmlp_stream.wire.announcement import SnapshotManifest

Publish = Callable[[Config, Log, list[bytes]], None]


def learn(config: Config) -> Balance:
    prepare_cpu(config.potential.threads)
    metrics = Metrics(learner=config.name, version="test")
    with closing(open_log(config.log.url, client="test")) as log:
        return serve(config, log, metrics, until_end=True, stopped=lambda: False, observe=lambda _: None)


def fed(learning: Any, publish: Publish, records: list[bytes]) -> Any:
    with closing(open_log(learning.config.log.url, client="test")) as log:
        publish(learning.config, log, records)
    return learning


def announced(config: Config) -> tuple[SnapshotManifest, ...]:
    with closing(open_log(config.log.url, client="test")) as log:
        return Follower(log, config.log.snapshots, config.name).new_manifests()


def bounds(config: Config) -> dict[Partition, Bounds]:
    with closing(open_log(config.log.url, client="test")) as log:
        specs = topic_specs(config.log, config.name)
        return {partition: log.bounds(partition) for spec in specs for partition in log.partitions(spec.name)}


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lmlp-stream", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("log", ["memory", "sqlite"])
def test_an_announced_snapshot_is_rebuilt_without_touching_anything(
    learning: Any, publish: Publish, records: list[bytes], monkeypatch: Any, capsys: Any, tmp_path: Path, log: str
) -> None:
    url = () if log == "sqlite" else (f"log.url=memory:{tmp_path}",)
    made = learning(settings=(*url, "log.partitions=3"))
    learn(fed(made, publish, [*records[:30], b"poison", *records[:4], *records[30:44]]).config)
    learn(fed(made, publish, [b"", *records[44:]]).config)
    snapshots = announced(made.config)
    before = bounds(made.config), files(checkpoints_folder(made.config))
    settings = [part for setting in made._settings for part in ("--set", setting)]

    assert len(snapshots) >= 3
    for place, snapshot in ((1, snapshots[0]), (len(snapshots), snapshots[-1])):
        assert run(monkeypatch, "replay", str(made.path), *settings, "--until", snapshot.id[:12], "--json") == 0
        figures = json.loads(capsys.readouterr().out)
        assert figures["rebuilt_id"] == figures["announced_id"] == snapshot.id
        assert figures["n_identical"] == figures["n_snapshots"] == place
    assert figures["n_records"] == len(records) + 6
    assert (bounds(made.config), files(checkpoints_folder(made.config))) == before


def test_a_lost_snapshot_is_stored_again(
    learning: Any, publish: Publish, records: list[bytes], monkeypatch: Any, capsys: Any, tmp_path: Path
) -> None:
    made = fed(learning(), publish, records[:40])
    latest = learn(made.config).snapshot_id
    lost = load(f"{made.config.store.url}/{latest}")[0]

    assert run(monkeypatch, "replay", str(made.path), "--until", "latest", "--store", str(tmp_path / "again")) == 0
    out, err = capsys.readouterr()
    assert f"{latest[:12]} identical" in err
    assert latest in out
    again, _ = load(tmp_path / "again" / latest)
    assert (again.id, again.created_at, again.weights_sha256) == (latest, lost.created_at, lost.weights_sha256)


def test_another_seed_is_found_out_at_the_first_snapshot(
    learning: Any, publish: Publish, records: list[bytes], monkeypatch: Any, capsys: Any
) -> None:
    made = fed(learning(), publish, records)
    latest = learn(made.config).snapshot_id
    first = announced(made.config)[0]

    assert run(monkeypatch, "replay", str(made.path), "--set", "seed=8", "--until", latest, "--json") == 6
    out, err = capsys.readouterr()
    figures = json.loads(out)
    assert not figures["identical"]
    assert {"weights_sha256", "parent_id"} <= set(figures["differing"])
    assert figures["n_identical"] == 0
    assert f"the first that differs is {first.id}" in " ".join(err.split())


def test_a_snapshot_nobody_announced_ends_with_code_2(
    learning: Any, publish: Publish, records: list[bytes], monkeypatch: Any, capsys: Any
) -> None:
    made = fed(learning(), publish, records[:2])
    assert run(monkeypatch, "replay", str(made.path), "--until", "0123456789") == 2
    assert "is no snapshot that lmlp announced" in capsys.readouterr().err
