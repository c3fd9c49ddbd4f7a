"""The demo as a user starts it: real processes, a real log, GFN2-xTB, a simulation that follows."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from lmlp_stream.cli.main import main; main()"]


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes that name this folder."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            lines.append(line)
    return lines


@contextmanager
def started_demo(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A running demo, killed at the end if it still runs."""
    command = [*COMMAND, "demo", "--output", str(folder), "--plain"]
    environment = {**os.environ, "COLUMNS": "120"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as demo:
        try:
            yield demo
        finally:
            demo.kill()


@pytest.mark.slow
def test_a_small_demo_goes_the_whole_way_and_leaves_what_it_names(tmp_path: Path):
    folder = tmp_path / "demo"
    options = ["--output", str(folder), "--labels", "260", "--seconds", "50", "--json"]

    ended = subprocess.run([*COMMAND, "demo", *options], capture_output=True, text=True, timeout=280, check=False)

    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert summary == json.loads((folder / "summary.json").read_text())
    assert summary["labels_learned"] >= 180
    assert summary["elements"] >= 6
    assert summary["snapshots_announced"] >= 2
    assert summary["snapshots_used_by_simulation"] >= 1
    errors = summary["prequential_force_rmse_ev_per_angstrom"]
    quarter = len(errors) // 4
    assert sum(errors[-quarter:]) < 0.8 * sum(errors[:quarter])
    for path in summary["files"].values():
        assert Path(path).exists()
    assert processes_of(folder) == []

    evaluated = subprocess.run(
        [*COMMAND, "evaluate", "latest", summary["files"]["test"], "--config", summary["files"]["config"], "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    page = (folder / "report.html").read_text(encoding="utf-8")
    figure = json.loads(evaluated.stdout)["force_rmse_mev_per_angstrom"]
    shown = re.search(r"<b>(\d+) <small>meV/Å</small></b>", page)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(figure, abs=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_stops_every_process_and_says_what_was_reached(tmp_path: Path, number: signal.Signals):
    folder = tmp_path / "demo"
    with started_demo(folder) as demo:
        deadline = time.monotonic() + 120.0
        history = folder / "store" / "checkpoints" / "demo" / "history.jsonl"
        while not (history.exists() and history.stat().st_size):
            assert demo.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        demo.send_signal(number)
        printed, _ = demo.communicate(timeout=90)

    assert demo.returncode == 130
    assert processes_of(folder) == []
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["interrupted"]
    assert summary["labels_learned"] > 0
    assert "labels learned" in printed
    assert (folder / "report.html").exists()
