"""Bytes of the log and of the store never import, compile, run, unpickle or start anything: Python itself watches."""

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from lmlp_stream.atoms.symmetry import RadialFunction, SymmetrySpec
from lmlp_stream.broker.log import TopicSpec
from lmlp_stream.broker.sqlite import SqliteLog
from lmlp_stream.potential.baseline import Baseline
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.store.checkpoint import Checkpoints
from lmlp_stream.store.snapshot import Provenance, publish
from lmlp_stream.wire.announcement import announce
from lmlp_stream.wire.examples import invalid_examples, manifest, valid_examples

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot, two checkpoints, and a log in which it is announced among damaged and false announcements."""
    folder = tmp_path_factory.mktemp("outside")
    spec = SymmetrySpec(cutoff=3.0, radial=(RadialFunction(1.0, 0.0, "1"),), angular=())
    ensemble = Ensemble(
        spec, hidden=(2,), members=2, dtype=torch.float32, device=torch.device("cpu"), baseline=Baseline({1: -13.6})
    )
    ensemble.add_element(1, torch.linspace(0.0, 1.0, 4)[:, None], torch.Generator().manual_seed(0))
    provenance = Provenance(
        name="hydrogen",
        step=1,
        labels_learned=10**6,
        journal_position=1,
        level_of_theory="HF",
        errors={},
        calibration={},
        parent_id="",
        code_version="0.1.0",
        created_at="2026-01-01T00:00:00+00:00",
    )
    published = publish(ensemble, provenance, folder / "snapshots")
    for labels in (1, 2):
        Checkpoints(folder / "checkpoints", keep=2).save({"a": np.full(5, float(labels))}, {"labels_learned": labels})
    with closing(SqliteLog(folder / "log.db")) as log:
        log.ensure([TopicSpec("snapshots")])
        with closing(log.sink()) as sink:
            for value in (announce(published), announce(manifest()), *valid_examples().values()):
                sink.send("snapshots", key=b"", value=value)
                sink.send("snapshots", key=b"", value=value[:-3])
            for value in invalid_examples().values():
                sink.send("snapshots", key=b"", value=value)
    return folder


def watched(folder: Path, *misbehaviour: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.fuzz.audited", str(folder), *misbehaviour]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_no_byte_from_outside_becomes_code(folder: Path) -> None:
    process = watched(folder)
    assert (process.returncode, process.stdout.strip(), process.stderr) == (0, "", "")


def test_the_watch_sees_what_it_watches_for(folder: Path) -> None:
    process = watched(folder, "misbehave")
    assert process.returncode == 1, process.stderr
    assert all(event in process.stdout for event in ("pickle.find_class", "exec", "compile", "os.system"))
