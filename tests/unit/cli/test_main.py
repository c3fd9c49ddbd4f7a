import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from lmlp_stream.cli.main import main
from lmlp_stream.config import Config, config_schema, parse_config
from lmlp_stream.errors import BrokerError, ConfigError, DamagedStoreError, DivergedError, UsageError


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lmlp-stream", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def carbon_monoxide(energy: float) -> Atoms:
    atoms = Atoms("CO", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.13]])
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((2, 3)))
    return atoms


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f'[log]\nurl = "sqlite:{tmp_path}/log.db"\n[wire]\nlevel_of_theory = "PBE"\n')
    return path


def test_the_template_is_the_default_configuration(monkeypatch, capsys):
    assert run(monkeypatch, "config", "template") == 0
    assert parse_config(tomllib.loads(capsys.readouterr().out), place="template") == Config()


def test_the_schema_is_json(monkeypatch, capsys):
    assert run(monkeypatch, "config", "schema") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(config_schema()))


def test_what_is_shown_is_what_is_in_effect(monkeypatch, capsys, config: Path):
    settings = ["--set", "seed=7", "--set", "wire.level_of_theory=wB97X/6-31G(d)"]
    settings += ["--set", "potential.atomic_energies={H = -13.6}"]
    assert run(monkeypatch, "config", "show", config, *settings) == 0
    shown = parse_config(tomllib.loads(capsys.readouterr().out), place="shown")
    assert run(monkeypatch, "config", "show", config, *settings, "--json") == 0
    as_json = parse_config(json.loads(capsys.readouterr().out), place="shown")

    assert shown == as_json
    assert (shown.seed, shown.wire.level_of_theory) == (7, "wB97X/6-31G(d)")
    assert shown.potential.atomic_energies == {"H": -13.6}


def test_a_valid_configuration_is_called_valid(monkeypatch, capsys, config: Path):
    assert run(monkeypatch, "config", "check", config) == 0
    out, err = capsys.readouterr()
    assert "is valid" in out
    assert err == ""


def test_a_wrong_configuration_ends_with_code_3_and_one_line(monkeypatch, capsys, config: Path):
    assert run(monkeypatch, "config", "check", config, "--set", "seed=-1", "--set", "log.uri=x") == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "seed = -1" in err
    assert "log.uri" in err


@pytest.mark.parametrize("url", ["sqlit:a.db", "sqlite:", "kafka://", "a.db"])
def test_a_configuration_whose_log_cannot_be_opened_is_not_called_valid(monkeypatch, capsys, config: Path, url: str):
    assert run(monkeypatch, "config", "check", config, "--set", f"log.url={url}") == 3
    assert "log.url = " in capsys.readouterr().err


def test_a_missing_configuration_ends_with_code_3(monkeypatch, capsys, tmp_path: Path):
    assert run(monkeypatch, "config", "check", tmp_path / "no.toml") == 3
    assert "config template" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError, 2), (ConfigError, 3), (DivergedError, 4), (BrokerError, 5), (DamagedStoreError, 6)],
)
def test_an_error_ends_with_its_code_and_without_a_traceback(monkeypatch, capsys, config: Path, error, code):
    def fail(*_: object) -> None:
        raise error("the sky is falling; move")

    monkeypatch.setattr("lmlp_stream.cli.config_verbs.configured", fail)

    assert run(monkeypatch, "config", "check", config) == code
    assert capsys.readouterr().err == "error: the sky is falling; move\n"


def test_ctrl_c_ends_with_code_130(monkeypatch, config: Path):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lmlp_stream.cli.config_verbs.configured", interrupt)

    assert run(monkeypatch, "config", "check", config) == 130


def test_an_unknown_verb_ends_with_code_2(monkeypatch, capsys):
    assert run(monkeypatch, "fly") == 2
    assert "fly" in capsys.readouterr().err


def test_the_version_is_printed(monkeypatch, capsys):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith("lmlp-stream ")


@pytest.mark.parametrize("arguments", [["--help"], ["feed", "--help"], ["feed", "CONFIG", "FILE", "--json"]])
def test_a_farm_imports_neither_torch_nor_a_compiler(tmp_path: Path, config: Path, arguments: list[str]):
    write(tmp_path / "a.extxyz", carbon_monoxide(1.0))
    places = {"CONFIG": str(config), "FILE": str(tmp_path / "a.extxyz")}
    program = (
        "import sys\n"
        "from lmlp_stream.cli.main import main\n"
        "import lmlp_stream.farm.publisher\n"
        f"sys.argv = {['lmlp-stream', *(places.get(word, word) for word in arguments)]!r}\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "assert not {'torch', 'numba'} & set(sys.modules)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
