import json
import subprocess
import sys
from pathlib import Path

import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import write

SCRIPT = Path(__file__).with_name("against_torchani.py")


def stub_python(folder: Path, program: str) -> Path:
    """An executable in the place of the Python that has TorchANI; its arguments are written to `arguments.json`."""
    path = folder / "python"
    path.write_text(
        f"#!{sys.executable}\nimport json, pathlib, sys\n"
        f"pathlib.Path({str(folder / 'arguments.json')!r}).write_text(json.dumps(sys.argv[1:]))\n{program}\n"
    )
    path.chmod(0o755)
    return path


def labelled_water() -> Atoms:
    atoms = molecule("H2O")
    atoms.calc = EMT()
    atoms.get_forces()
    return atoms


@pytest.fixture
def structures(tmp_path: Path) -> Path:
    path = tmp_path / "water.extxyz"
    write(path, labelled_water())
    return path


def run(python: Path, structures: Path) -> "subprocess.CompletedProcess[str]":
    options = ["--rounds", "1", "--repeats", "1", "--seconds", "0", "--members", "1", "--batch", "8"]
    return subprocess.run(
        [sys.executable, SCRIPT, "--python", python, "--structures", structures, *options],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_ratio_is_ours_over_theirs_on_the_same_structures(tmp_path: Path, structures: Path):
    python = stub_python(tmp_path, "print('a warning')\nprint(json.dumps({'structures_per_cpu_s': 4.0}))")

    done = run(python, structures)

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["torchani_structures_per_cpu_s"] == 4.0
    assert figures["ratio"] == figures["ratio_median"] == figures["lmlp_stream_structures_per_cpu_s"] / 4.0
    assert figures["n_rounds"] == 1
    script, *arguments = json.loads((tmp_path / "arguments.json").read_text())
    assert Path(script) == SCRIPT.with_name("ani_train.py")
    assert arguments == ["--structures", str(structures), "--batch", "8", "--repeats", "1", "--seconds", "0.0"]


def test_a_failing_torchani_is_named(tmp_path: Path, structures: Path):
    done = run(stub_python(tmp_path, "sys.exit(3)"), structures)
    assert done.returncode != 0
    assert "ani_train.py" in done.stderr
    assert "ended with code 3" in done.stderr


def test_a_python_that_is_not_there_is_named(tmp_path: Path, structures: Path):
    done = run(tmp_path / "nowhere", structures)
    assert done.returncode != 0
    assert done.stderr.startswith(f"{tmp_path / 'nowhere'} cannot be run (No such file or directory); give --python")
    assert len(done.stderr.splitlines()) == 1
