"""deploy/runbook.md, typed by bash from top to bottom, on SQLite with a small learner."""

import json
import os
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import write

RUNBOOK = Path(__file__).parents[2] / "deploy" / "runbook.md"
FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
SMALL = """
[log]
url = "sqlite:lmlp-stream.db"
[store]
url = "lmlp-store"
[wire]
level_of_theory = "EMT"
max_net_force = 5.0
[potential]
members = 2
hidden = [8]
linear_features = 8
device = "cpu"
threads = 1
[learning]
records_per_tick = 8
steps_per_record = 1.0
batch_size = 6
[rehearsal]
holdout_share = 0.15
[evaluation]
max_regression = 1000.0
[quarantine]
enabled = false
[service]
tick_wait_s = 0.2
snapshot_every = 8
metrics_port = 0
"""
"""Without quarantine: the runbook counts labels, and one that waits is not learned yet."""
N_LABELS = 40
LEARNED = f"""
until grep -q '"labels_learned": {N_LABELS}, "announced": true' lmlp-store/checkpoints/lmlp/history.jsonl
do sleep 0.1; done
"""


def sections() -> dict[str, str]:
    """The text below each heading."""
    _, *parts = HEADING.split(RUNBOOK.read_text())
    return dict(zip(parts[::2], parts[1::2], strict=True))


def commands(text: str) -> str:
    return "".join(block for info, block in FENCE.findall(text) if info == "sh")


def labelled(seed: int, n_structures: int) -> list[Atoms]:
    generator = np.random.default_rng(seed)
    frames = []
    for number in range(n_structures):
        atoms = molecule(("H2O", "CH4", "NH3")[number % 3])
        atoms.positions += generator.normal(scale=0.05, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    return frames


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What bash printed below each heading."""
    folder = tmp_path_factory.mktemp("runbook")
    (folder / "lmlp.toml").write_text(SMALL)
    write(folder / "labels.extxyz", labelled(0, N_LABELS))
    write(folder / "more-labels.extxyz", labelled(1, 16))
    steps = [f"echo '== {heading}'\n{commands(text)}" for heading, text in sections().items()]
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + steps[0] + LEARNED
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    finished = subprocess.run(
        ["bash", "-c", script + "".join(steps[1:])],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    log = (folder / "learner.log").read_text() if (folder / "learner.log").exists() else ""
    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}\n{log}"
    _, *parts = re.split(r"^== (.*)$", finished.stdout, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True)) | {"stderr": finished.stderr, "folder": str(folder)}


def balances(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith('{"n_learned"')]


def test_every_block_is_executed_or_says_that_it_is_not() -> None:
    text = RUNBOOK.read_text()
    infos = [info for info, _ in FENCE.findall(text)]
    assert set(infos) == {"sh", "sh not-executed"}
    assert len(infos) * 2 == text.count("```")
    assert text.count("*Not executed") == infos.count("sh not-executed")


def test_the_runbook_has_an_answer_to_each_need() -> None:
    needs = [
        "Start",
        "Watch",
        "Stop",
        "Restore",
        "Roll back",
        "Broker lost",
        "Disk full",
        "Labels refused",
        "Sign snapshots",
    ]
    assert list(sections()) == needs


@pytest.mark.slow
def test_a_started_learner_is_seen_learning(said: dict[str, str]) -> None:
    assert "is valid" in said["Start"]
    assert re.search(r"^lmlp_\w*learned\w* [1-9]", said["Watch"], flags=re.MULTILINE)
    assert re.search(r"[0-9a-f]{64}  \d+ labels", said["Watch"])
    assert "0 dead letters" in said["Watch"]


@pytest.mark.slow
def test_a_stopped_learner_has_a_checkpoint_and_a_restored_one_has_learned_the_same(said: dict[str, str]) -> None:
    state = re.search(r"^state_sha256 +([0-9a-f]{64})$", said["Stop"], flags=re.MULTILINE)
    assert state
    (restored,) = balances(said["Restore"])
    assert restored["labels_learned"] == N_LABELS
    assert restored["state_sha256"] == state[1]


@pytest.mark.slow
def test_a_lost_snapshot_is_rebuilt_bit_for_bit(said: dict[str, str]) -> None:
    assert re.search(r"^identical +True$", said["Restore"], flags=re.MULTILINE)


@pytest.mark.slow
def test_rolling_back_takes_the_snapshot_before_or_a_learner_of_another_name(said: dict[str, str]) -> None:
    assert re.search(r"^force_rmse\S* +[0-9.]+$", said["Roll back"], flags=re.MULTILINE)
    (other,) = balances(said["Roll back"])
    assert other["labels_learned"] > 0


@pytest.mark.slow
def test_a_lost_log_stops_the_learner_and_the_backup_brings_it_back_as_it_was(said: dict[str, str]) -> None:
    assert "exit code 5" in said["Broker lost"]
    (recovered,) = balances(said["Broker lost"])
    assert (recovered["labels_learned"], recovered["n_duplicates"]) == (N_LABELS, N_LABELS)


@pytest.mark.slow
def test_with_room_made_the_learner_goes_on(said: dict[str, str]) -> None:
    assert "lmlp-store/checkpoints" in said["Disk full"]
    (balance,) = balances(said["Disk full"])
    assert balance["checkpoint"]


@pytest.mark.slow
def test_only_signed_snapshots_are_followed_with_a_trusted_key(said: dict[str, str]) -> None:
    (balance,) = balances(said["Sign snapshots"])
    followed = re.findall(r"([0-9a-f]{64})  \d+ labels", said["Sign snapshots"])
    assert followed
    assert len(followed) == balance["n_announced"]
    assert "is not signed; simulate.trusted_keys asks for a signature" in said["stderr"]


@pytest.mark.slow
def test_the_private_key_is_nowhere_but_in_its_file(said: dict[str, str]) -> None:
    folder = Path(said["folder"])
    key = (folder / "signing.key").read_text().strip()
    holding = [path.name for path in folder.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert holding == ["signing.key"]
    assert not any(key in text for text in said.values())
