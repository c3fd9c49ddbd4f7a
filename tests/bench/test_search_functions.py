import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import write

from lmlp_stream.atoms.symmetry_spec import shifted, spec_of
from lmlp_stream.config import SymmetryConfig, parse_config

SCRIPT = Path(__file__).with_name("search_functions.py")
DEFAULT = spec_of(SymmetryConfig())

loaded = importlib.util.spec_from_file_location("search_functions", SCRIPT)
assert loaded
assert loaded.loader
search = importlib.util.module_from_spec(loaded)
loaded.loader.exec_module(search)


def rattled(path: Path, *, seed: int) -> Path:
    random, structures = np.random.default_rng(seed), []
    for _ in range(8):
        atoms = molecule("H2O")
        atoms.rattle(0.03, rng=random)
        atoms.calc = EMT()
        atoms.get_forces()
        structures.append(atoms)
    write(path, structures)
    return path


@pytest.fixture
def waters(tmp_path: Path) -> Path:
    return rattled(tmp_path / "waters.extxyz", seed=0)


def learned(waters: Path, output: Path, *choices: str, more: tuple[object, ...] = ()) -> list[dict[str, object]]:
    options = ["--train", waters, "--test", waters, "--steps", 1, "--members", 1, "--output", output, *more]
    search.main([*map(str, options), "--only", *choices])
    return json.loads(output.with_name(f"{output.name}.json").read_text())


def test_every_choice_of_functions_is_another_list_than_the_default() -> None:
    specs = {choice: shifted(DEFAULT.cutoff, **changed) for choice, changed in search.FUNCTIONS.items()}
    assert len({*specs.values(), DEFAULT}) == len(specs) + 1


def test_every_choice_of_settings_is_one_the_configuration_knows() -> None:
    for settings in search.SETTINGS.values():
        for setting in settings:
            section, key = setting.split("=")[0].split(".")
            assert key in type(getattr(parse_config({}, place="search"), section)).model_fields


def test_a_choice_is_learned_with_its_functions_and_written(waters: Path, tmp_path: Path) -> None:
    rows = learned(waters, tmp_path / "found", "default", "radial shells 10")
    assert [row["settings"] for row in rows] == [["default", "seed 0"], ["radial shells 10", "seed 0"]]
    assert [row["n_functions"] for row in rows] == [DEFAULT.n_functions, shifted(5.2, radial_shells=10).n_functions]
    assert "| `radial shells 10` `seed 0` |" in (tmp_path / "found.md").read_text()


def test_what_was_learned_before_is_kept(waters: Path, tmp_path: Path) -> None:
    (earlier,) = learned(waters, tmp_path / "found", "default")
    rows = learned(waters, tmp_path / "found", "networks 61-44", "default")
    assert rows[0] == earlier
    assert [row["settings"][0] for row in rows] == ["default", "networks 61-44"]


def test_what_was_learned_with_another_seed_is_kept(waters: Path, tmp_path: Path) -> None:
    (earlier,) = learned(waters, tmp_path / "found", "default")
    rows = learned(waters, tmp_path / "found", "default", more=("--seeds", 1))
    assert rows[0] == earlier
    assert [row["settings"] for row in rows] == [["default", "seed 0"], ["default", "seed 1"]]


@pytest.mark.parametrize("other", ["train", "test", "atomic energies", "steps", "members", "functions", "settings"])
def test_lines_of_another_search_are_refused_and_stay(
    waters: Path, tmp_path: Path, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (earlier,) = learned(waters, tmp_path / "found", "radial shells 10")
    (tmp_path / "atoms.json").write_text('{"H": -3.0, "O": -4.0}')
    (tmp_path / "elsewhere").mkdir()
    changed = rattled(tmp_path / "elsewhere" / "waters.extxyz", seed=1)
    if other == "functions":
        monkeypatch.setitem(search.FUNCTIONS, "radial shells 10", {"radial_shells": 11})
    if other == "settings":
        monkeypatch.setattr(search, "ALIKE", (*search.ALIKE, "learning.batch_size=4"))
    options = {
        "train": ("--train", changed),
        "test": ("--test", changed),
        "atomic energies": ("--atomic-energies", tmp_path / "atoms.json"),
        "steps": ("--steps", 2),
        "members": ("--members", 2),
    }
    with pytest.raises(SystemExit, match=r"found\.json holds lines of other structures, steps or settings; remove it"):
        learned(waters, tmp_path / "found", "radial shells 10", more=options.get(other, ()))
    assert json.loads((tmp_path / "found.json").read_text()) == [earlier]


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--train", tmp_path / "missing"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert done.stderr == f"error: there is no file {tmp_path / 'missing'}; give the path of a structure file\n"
