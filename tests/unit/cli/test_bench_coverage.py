"""`bench coverage`: windows, switches, and one small stream from files to the table."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import write

from lmlp_stream.cli.bench.coverage.figures import RECOVERY, coverage, markdown, sliding, worst
from lmlp_stream.cli.bench.coverage.run import Examined
from lmlp_stream.learning.evaluation import ERROR_ROW
from tests.unit.cli.test_bench_verbs import run


def rows(inside: list[float]) -> np.ndarray:
    """Labels of two force components each; all or nothing of a label is inside."""
    result = np.zeros(len(inside), dtype=ERROR_ROW)
    result["energy_inside"], result["n_forces_inside"], result["n_forces"] = inside, 2 * np.array(inside), 2
    result["energy_width"], result["force_width"] = 0.01, 0.4
    return result


def test_a_window_is_the_share_inside_of_its_labels():
    found = sliding(rows([1, 1, 0, 1, 0]), "energy_inside", "energy", 2)
    np.testing.assert_allclose(found, [1.0, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(sliding(rows([1, 1, 0]), "n_forces_inside", "forces", 3), [2 / 3])


def test_a_stream_shorter_than_the_window_has_no_worst_one():
    assert np.isnan(sliding(rows([1, 1, 0]), "n_forces_inside", "forces", 4)).all()
    found = coverage(Examined(rows([1, 1, 0]), (), rows([1])), window=4)["forces"]
    assert found["worst"] is None
    assert found["raw"] == 0.0


def test_a_label_without_energy_takes_no_part():
    some = rows([1, 0, 1])
    some["energy_error"][1] = np.nan
    np.testing.assert_allclose(sliding(some, "energy_inside", "energy", 3), [1.0])


def test_the_worst_window_is_the_farthest_from_nine_in_ten_on_either_side():
    assert worst(np.array([0.88, 0.95, np.nan])) == 0.95
    assert worst(np.array([0.84, 0.95])) == 0.84


def test_labels_at_a_switch_and_past_it_are_told_apart():
    stream = rows([1] * 500 + [0] * RECOVERY + [1] * (RECOVERY + 100))
    found = coverage(Examined(stream, (500,), rows([1, 0])), window=100)["forces"]
    assert found["at_switch"] == 0.0
    assert found["past_switch"] == 1.0
    assert found["worst"] == found["worst_from_switch"] == 0.0
    assert found["tested"] == 0.5
    assert found["width"] == pytest.approx(200.0)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    paths = []
    for name in ("H2O", "CH4"):
        structures = []
        for _ in range(24):
            atoms: Atoms = molecule(name)
            atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
            atoms.calc = EMT()
            atoms.get_forces()
            structures.append(atoms)
        paths.append(tmp_path / f"{name}.extxyz")
        write(paths[-1], structures)
    return paths


def test_files_go_through_the_learner_shuffled_and_one_after_the_other(monkeypatch, capsys, files, tmp_path):
    small = (
        "learning.records_per_tick=4",
        "rehearsal.holdout_share=0.0",
        "potential.members=2",
        "potential.hidden=[4]",
        "potential.linear_features=8",
        "learning.steps_per_record=0.5",
        "symmetry.preset=published",
    )
    options = [part for setting in small for part in ("--set", setting)]
    out = tmp_path / "out"
    assert run(monkeypatch, "bench", "coverage", *files, "--window", 10, *options, "--out", out, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["arms"]) == {"shuffled", "domain after domain"}
    for by_seed in told["arms"].values():
        for figures in by_seed["0"].values():
            assert 0.0 <= figures["worst"] <= 1.0
            assert 0.0 <= figures["tested"] <= 1.0
            assert figures["width"] > 0.0
    assert json.loads((out / "coverage.json").read_text()) == told
    assert markdown(told["arms"]) == (out / "coverage.md").read_text()
    assert "an element or a composition was new, are left out" in markdown(told["arms"])
    assert "<svg" in (out / "coverage.svg").read_text()


def test_a_file_where_a_folder_is_wanted_is_a_usage_error(monkeypatch, capsys, files, tmp_path):
    (tmp_path / "file").touch()
    assert run(monkeypatch, "bench", "coverage", *files, "--out", tmp_path / "file") == 2
    assert f"error: cannot make {tmp_path / 'file'}: File exists; " in capsys.readouterr().err


def test_seeds_are_no_setting(monkeypatch, capsys, files):
    assert run(monkeypatch, "bench", "coverage", *files, "--set", "seed=3") == 2
    assert "use --seeds instead" in capsys.readouterr().err
