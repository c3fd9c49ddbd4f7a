"""`bench corruption` and `bench exactly-once`: what is made wrong is what is said, and the figures follow from it."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmlp_stream.cli.bench.corrupting import CORRUPTIONS, corrupted
from lmlp_stream.cli.main import main
from tests.unit.cli.test_bench_accuracy import SMALL, waters
from tests.unit.learning.structures import AMMONIA, labelled


def answered(monkeypatch: pytest.MonkeyPatch, capsys: Any, *arguments: str) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["lmlp-stream", "bench", *arguments, "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    figures: dict[str, Any] = json.loads(capsys.readouterr().out)
    return figures


def test_a_share_of_the_stream_is_made_wrong_in_equal_parts() -> None:
    clean = [labelled(index, AMMONIA) for index in range(100)]
    stream, kinds = corrupted(clean, 0.2, 3)
    changed = [one.id for one, before in zip(stream, clean, strict=True) if one is not before]
    assert sorted(changed) == sorted(kinds)
    assert {kind: list(kinds.values()).count(kind) for kind in CORRUPTIONS} == dict.fromkeys(CORRUPTIONS, 4)
    assert corrupted(clean, 0.2, 3)[1] == kinds


def test_each_corruption_changes_what_its_name_says() -> None:
    clean = labelled(0, AMMONIA)
    shifts = np.full(119, 0.3)
    wrong = {kind: make(clean, np.random.default_rng(0), shifts) for kind, make in CORRUPTIONS.items()}
    assert wrong["hartree"].energy == pytest.approx(clean.energy / 27.2114, rel=1e-5)
    np.testing.assert_allclose(wrong["hartree"].forces * 51.4221, clean.forces, rtol=1e-5)
    np.testing.assert_array_equal(wrong["gradient_sign"].forces, -clean.forces)
    assert (wrong["swapped_atoms"].atomic_numbers != clean.atomic_numbers).sum() == 2
    assert sorted(wrong["swapped_atoms"].atomic_numbers) == sorted(clean.atomic_numbers)
    assert wrong["other_level_of_theory"].energy == pytest.approx(clean.energy + 4 * 0.3)
    assert abs(wrong["unconverged"].forces.sum()) > 0.01
    assert wrong["unconverged"].energy != clean.energy


def test_the_table_holds_every_run_and_every_kind(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    train, test = waters(tmp_path / "train.extxyz", 40, seed=0), waters(tmp_path / "test.extxyz", 5, seed=1)
    settings = [part for setting in (*SMALL, "learning.steps_per_record=1.0") for part in ("--set", setting)]
    figures = answered(
        monkeypatch, capsys, "corruption", "--train", str(train), "--test", str(test), "--share", "0.25", *settings
    )
    assert (figures["n_train"], figures["n_test"], figures["n_corrupted"]) == (40, 5, 10)
    assert figures["caught"].keys() == {"all", *CORRUPTIONS}
    rmses = figures["force_rmse_mev_per_angstrom"]
    assert figures["ratio_guarded"] == rmses["guarded"] / rmses["clean"]
    assert figures["new_chemistry"] is None


def test_elements_that_are_never_learned_are_not_predicted(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    train, test = waters(tmp_path / "train.extxyz", 20, seed=0), waters(tmp_path / "test.extxyz", 5, seed=1)
    test.write_text(test.read_text().replace("\nO ", "\nS ", 1))
    settings = [part for setting in (*SMALL, "learning.steps_per_record=1.0") for part in ("--set", setting)]
    files = ("--train", str(train), "--test", str(test))
    figures = answered(monkeypatch, capsys, "corruption", *files, "--every", "2", "--labels", "8", *settings)
    assert (figures["n_train"], figures["n_test"]) == (8, 4)


def test_exactly_once_reports_what_it_costs_and_how_soon_learning_goes_on(monkeypatch: Any, capsys: Any) -> None:
    figures = answered(monkeypatch, capsys, "exactly-once", "--labels", "16", "--remembered", "20", "--kills", "1")
    assert figures["overhead_wall"] == pytest.approx(figures["exactly_once_wall_s"] / figures["learning_wall_s"] - 1.0)
    assert figures["imports_s"] > 0
    assert 0 < figures["recovery_s"] == figures["longest_recovery_s"]
    assert 0 < figures["n_remembered"] <= 20
