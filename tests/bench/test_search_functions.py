import importlib.util
import json
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


@pytest.fixture
def waters(tmp_path: Path) -> Path:
    random, structures = np.random.default_rng(0), []
    for _ in range(8):
        atoms = molecule("H2O")
        atoms.rattle(0.03, rng=random)
        atoms.calc = EMT()
        atoms.get_forces()
        structures.append(atoms)
    path = tmp_path / "waters.extxyz"
    write(path, structures)
    return path


def learned(waters: Path, output: Path, *choices: str) -> list[dict[str, object]]:
    options = ["--train", waters, "--test", waters, "--steps", 1, "--members", 1, "--output", output]
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
