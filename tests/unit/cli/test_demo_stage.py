import importlib.util
import io
import json
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from lmlp_stream.broker.open import open_log
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.cli.demo.children import start
from lmlp_stream.cli.demo.progress import Progress, SimulationState, Watch, read_simulation
from lmlp_stream.cli.demo.settings import DemoSettings, config_text, new_folder, require_tblite
from lmlp_stream.cli.demo.summary import summarize
from lmlp_stream.cli.demo.view import Moment, draw, next_commands, one_line, print_summary
from lmlp_stream.cli.report.history import Arrival, History, SnapshotLine, Tick
from lmlp_stream.config import load_config
from lmlp_stream.errors import UsageError


@pytest.fixture
def settings(tmp_path: Path) -> DemoSettings:
    return DemoSettings(tmp_path, labels=40, seconds=10.0, seed=3)


@pytest.fixture
def progress() -> Progress:
    arrivals = tuple(
        Arrival(
            index=index,
            time=float(index),
            domain="F⁻ + CH₃Cl",
            source="label:simulation" if index % 10 == 9 else "farm-0",
            energy_error=0.01,
            force_squared_error=18.0 / (1 + index),
            n_force_components=18,
            held_out=index == 9,
        )
        for index in range(40)
    )
    snapshots = (
        SnapshotLine("a" * 64, True, (), 10.0, 20, {"force_rmse_ev_per_angstrom": 0.3}),
        SnapshotLine("", False, ("regression",), 20.0, 30, {}),
        SnapshotLine("b" * 64, True, (), 30.0, 40, {"force_rmse_ev_per_angstrom": 0.2}),
    )
    history = History((Tick(0, 0.0, 40, 40, 0, 0, 120),), arrivals, snapshots, ("H", "C", "F"))
    simulation = SimulationState(1200, 340.0, 0.4, ("a" * 64, "b" * 64), 1)
    return Progress(history, simulation, n_published=40, n_requests=5, n_labelled=4)


def rendered(renderable: object, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(renderable)
    return console.export_text().splitlines()


def test_the_default_folder_is_numbered_where_one_is_there_already(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    for name in ("lmlp-demo", "lmlp-demo-2", "lmlp-demo-3"):
        folder = new_folder(None)
        assert folder == tmp_path / name
        (folder / "something").touch()


def test_a_folder_that_was_asked_for_must_be_empty(tmp_path: Path):
    assert new_folder(tmp_path / "new" / "folder").is_dir()
    (tmp_path / "file").touch()

    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(UsageError, match="--output"):
            new_folder(taken)


def test_without_tblite_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(UsageError, match=r"pip install 'lmlp-stream\[demo\]'"):
        require_tblite()


def test_the_configuration_is_one_that_every_verb_reads(settings: DemoSettings):
    settings.config.write_text(config_text(settings), encoding="utf-8")

    config = load_config(settings.config)

    assert config.seed == 3
    assert config.log.url == f"sqlite:{settings.log}"
    assert config.wire.level_of_theory == "GFN2-xTB"


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_view_fits_the_terminal(settings: DemoSettings, progress: Progress, width: int):
    lines = rendered(draw(Moment("streaming", 75.0, progress), settings), width)

    assert max(map(len, lines)) <= width
    assert len(lines) <= 28
    text = "\n".join(lines)
    assert "1:15" in text
    assert "● in use" in text
    assert "F⁻ + CH₃Cl" in text
    assert "5 → 4 → 3" in text


def test_before_anything_happened_there_is_a_view_too(settings: DemoSettings):
    text = "\n".join(rendered(draw(Moment("streaming", 0.0, Progress()), settings), 100))

    assert "waiting for predictions" in text
    assert "waits for a snapshot" in text


def test_without_a_terminal_one_line_says_it_all(progress: Progress):
    line = one_line(Moment("streaming", 75.0, progress))

    assert "40 learned" in line
    assert "2 snapshots (2 used by the simulation)" in line
    assert "5 requests (4 labelled)" in line


def test_the_summary_holds_the_figures_by_their_names(settings: DemoSettings, progress: Progress):
    summary = summarize(progress, settings, seconds=12.34, interrupted=False)

    assert summary["labels_learned"] == 40
    assert summary["snapshots_announced"] == 2
    assert summary["snapshots_withheld"] == 1
    assert summary["snapshots_used_by_simulation"] == 2
    assert summary["requests_labelled"] == 4
    assert summary["requests_learned"] == 3
    assert summary["requests_held_out"] == 1
    assert summary["elements"] == 3
    errors = summary["prequential_force_rmse_ev_per_angstrom"]
    assert errors == sorted(errors, reverse=True)
    assert json.loads(json.dumps(summary)) == summary


def test_the_closing_table_names_only_files_that_are_there(settings: DemoSettings, progress: Progress):
    settings.report.touch()
    console = Console(width=100, file=io.StringIO(), record=True)

    print_summary(console, summarize(progress, settings, seconds=1.0, interrupted=False), settings)

    text = console.export_text()
    assert str(settings.report) in text
    assert str(settings.trajectory) not in text
    assert "lmlp-stream evaluate latest" in text


def test_the_next_commands_survive_folders_with_blanks(tmp_path: Path):
    settings = DemoSettings(tmp_path / "my demo", 1, 1.0, 0)

    for command, _ in next_commands(settings):
        words = shlex.split(command)
        assert words[0] == "lmlp-stream"
        assert str(settings.config) in words


def test_lines_of_the_simulation_are_read_even_while_one_is_being_written(tmp_path: Path):
    path = tmp_path / "simulation.jsonl"
    lines = [
        {"kind": "snapshot", "id": "a", "step": 0},
        {"kind": "status", "step": 10, "temperature": 300.0, "uncertainty": 0.5},
        {"kind": "restart", "step": 20, "reason": "two atoms overlap"},
        {"kind": "snapshot", "id": "b", "step": 20},
        {"kind": "status", "step": 30, "temperature": 310.0, "uncertainty": 0.4},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"kind": "sta')

    assert read_simulation(path) == SimulationState(30, 310.0, 0.4, ("a", "b"), 1)
    assert read_simulation(tmp_path / "missing") == SimulationState()


def test_the_watch_counts_what_is_in_the_log_and_only_once(settings: DemoSettings):
    settings.config.write_text(config_text(settings), encoding="utf-8")
    config = load_config(settings.config)
    log = open_log(config.log.url, client="test")
    log.ensure(topic_specs(config.log))
    sink = log.sink()
    watch = Watch(log, config, settings.simulation_lines)

    for _ in range(2):
        sink.send(config.log.structures, key=b"a", value=b"a")
        sink.send(config.log.structures, key=b"b", value=b"b", headers=(("lmlp.request", b"id"),))
        sink.send(config.log.requests, key=b"c", value=b"c")
        refused = (("__connect.errors.topic", config.log.requests.encode()),)
        sink.send(config.log.dead_letters, key=b"d", value=b"d", headers=refused)
        sink.flush()
        seen = watch.look()

    assert (seen.n_published, seen.n_requests, seen.n_labelled, seen.n_failed, seen.n_refused) == (4, 2, 2, 2, 2)
    sink.close()
    watch.close()
    log.close()


def test_a_child_is_stopped_and_its_last_words_are_kept(tmp_path: Path):
    code = "import time\nfor n in range(30): print('line', n)\ntime.sleep(60)"
    child = start("child", ["-c", code], output=tmp_path / "child.txt", niceness=1)
    while "line 29" not in child.output.read_text():
        assert child.running

    assert child.stop() == -15
    assert child.last_words(2) == "line 28\nline 29"
    assert not child.running


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path):
    code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf')\ntime.sleep(60)"
    child = start("child", ["-c", code], output=tmp_path / "child.txt")
    while "deaf" not in child.output.read_text():
        assert child.running

    assert child.stop(timeout_s=0.2) == -9
