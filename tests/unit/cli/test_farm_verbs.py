import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from lmlp_stream.broker.open import open_log
from lmlp_stream.cli.main import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lmlp-stream", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def carbon_monoxide(energy: float, **info: object) -> Atoms:
    atoms = Atoms("CO", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.13]], info=info)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((2, 3)))
    return atoms


def n_messages(url: str) -> int:
    log = open_log(url, client="test")
    return sum(log.bounds(partition).end for partition in log.partitions("lmlp.structures.v1"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f'[log]\nurl = "sqlite:{tmp_path}/log.db"\n[wire]\nlevel_of_theory = "PBE"\n')
    return path


def test_feed_says_what_it_took_and_how_many(monkeypatch, capsys, tmp_path: Path, config: Path):
    write(tmp_path / "a.extxyz", [carbon_monoxide(1.0), carbon_monoxide(2.0)])

    assert run(monkeypatch, "feed", config, tmp_path / "a.extxyz") == 0

    out, err = capsys.readouterr()
    assert out == f"published 2 labelled structures of 1 file to lmlp.structures.v1 at sqlite:{tmp_path}/log.db\n"
    assert err == (
        f"{tmp_path}/a.extxyz: 2 structures; energy from 'energy', forces from 'forces'; "
        f"domain from the chemical formula; group from segments of 10 consecutive structures\n"
    )
    assert n_messages(f"sqlite:{tmp_path}/log.db") == 2


def test_feed_says_what_it_passed_over(monkeypatch, capsys, tmp_path: Path, config: Path):
    write(tmp_path / "a.extxyz", [Atoms("CO", [[0, 0, 0], [0, 0, 1.1]])])

    assert run(monkeypatch, "feed", config, tmp_path / "a.extxyz", "--skip-unlabelled") == 0

    assert f"{tmp_path}/a.extxyz: 1 structure; 1 without labels are passed over, the first: structure 1 lacks" in (
        capsys.readouterr().err
    )


def test_feed_answers_in_json(monkeypatch, capsys, tmp_path: Path, config: Path):
    write(tmp_path / "a.extxyz", [carbon_monoxide(1.0, phase="gas", run=1), carbon_monoxide(2.0, phase="gas", run=1)])
    write(tmp_path / "b.extxyz", [carbon_monoxide(3.0, phase="gas", run=2)])

    options = ["--json", "--domain-key", "phase", "--group-key", "phase", "--group-key", "run"]
    assert run(monkeypatch, "feed", config, tmp_path / "a.extxyz", tmp_path / "b.extxyz", *options) == 0

    figures = json.loads(capsys.readouterr().out)
    assert (figures["n_published"], figures["n_refused"], figures["level_of_theory"]) == (3, 0, "PBE")
    assert [file["n_accepted"] for file in figures["files"]] == [2, 1]
    assert figures["files"][0]["energy_key"] == "energy"
    assert figures["files"][0]["groups_from"] == {"info 'phase' and 'run'": 2}


def test_feed_publishes_nothing_of_files_of_which_one_is_refused(monkeypatch, capsys, tmp_path: Path, config: Path):
    write(tmp_path / "a.extxyz", [carbon_monoxide(1.0)])
    write(tmp_path / "b.extxyz", [carbon_monoxide(1.0, REF_energy=2.0)])

    assert run(monkeypatch, "feed", config, tmp_path / "a.extxyz", tmp_path / "b.extxyz") == 2

    assert "--energy-key" in capsys.readouterr().err
    assert n_messages(f"sqlite:{tmp_path}/log.db") == 0


def test_feed_warns_where_no_level_of_theory_is_named(monkeypatch, capsys, tmp_path: Path, config: Path):
    write(tmp_path / "a.extxyz", [carbon_monoxide(1.0)])

    assert run(monkeypatch, "feed", config, tmp_path / "a.extxyz", "--set", "wire.level_of_theory=") == 0
    assert "warning: wire.level_of_theory is empty" in capsys.readouterr().err


def test_feed_of_a_missing_file_ends_with_code_2(monkeypatch, capsys, tmp_path: Path, config: Path):
    assert run(monkeypatch, "feed", config, tmp_path / "no.extxyz") == 2
    assert "there is no file" in capsys.readouterr().err


def test_feed_to_a_log_that_is_none_ends_with_code_5(monkeypatch, capsys, tmp_path: Path, config: Path):
    write(tmp_path / "a.extxyz", [carbon_monoxide(1.0)])

    assert run(monkeypatch, "feed", config, tmp_path / "a.extxyz", "--set", f"log.url=sqlite:{tmp_path}/a.extxyz") == 5
    assert "error: " in capsys.readouterr().err


def test_label_without_requests_ends_when_idle(monkeypatch, capsys, config: Path):
    settings = ["--set", "label.calculator=ase.calculators.lj:LennardJones", "--set", "label.arguments={}"]

    assert run(monkeypatch, "label", config, *settings, "--until-idle", "0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["n_labelled"] == 0


def test_label_refuses_a_wrong_worker(monkeypatch, capsys, config: Path):
    assert run(monkeypatch, "label", config, "--worker", "3/2") == 2
    assert "NUMBER/OF" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_label_stops_in_order(config: Path, number: signal.Signals, code: int):
    settings = ["--set", "label.calculator=ase.calculators.lj:LennardJones", "--set", "label.arguments={}"]
    command = [sys.executable, "-c", "from lmlp_stream.cli.main import main; main()", "label", str(config), *settings]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "answering lmlp.requests.v1" in process.stderr.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)

    assert process.returncode == code, err
    assert out.startswith("labelled 0 structures")
    assert "Traceback" not in err
