"""Errors of a snapshot on a file, and what is said of labels that are not there."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from lmlp_stream.cli.main import main
from lmlp_stream.store.snapshot import publish
from tests.unit.simulate.conftest import a_provenance, an_ensemble

FORCES = np.zeros((3, 3))
ONE_LESS = np.vstack([FORCES[:2], [[np.nan] * 3]])


def water(**labels: object) -> Atoms:
    return labelled("H2O", **labels)


def labelled(name: str, **labels: object) -> Atoms:
    atoms = molecule(name)
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    manifest = publish(an_ensemble(0), a_provenance(10), tmp_path / "store")
    return tmp_path / "store" / manifest.id


def evaluated(monkeypatch, capsys, snapshot: Path, structures: list[Atoms], *options: str) -> tuple[int, str, str]:
    write(snapshot.parent / "test.extxyz", structures)
    arguments = ["lmlp-stream", "evaluate", str(snapshot), str(snapshot.parent / "test.extxyz"), *options]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_structures_without_a_label_are_counted_and_one_sentence_says_so(monkeypatch, capsys, snapshot: Path):
    structures = [water(energy=-14.0, forces=FORCES), water(energy=-14.0), water(energy=-14.0, forces=ONE_LESS)]
    structures += [water(forces=FORCES)]
    code, out, err = evaluated(monkeypatch, capsys, snapshot, structures, "--json")
    figures = json.loads(out)
    assert code == 0
    assert (figures["n_structures"], figures["n_without_energy"], figures["n_without_forces"]) == (4, 1, 2)
    assert "of 4 structures, 1 without the energy and 2 without forces on some or all atoms" in err
    assert figures["force_rmse_mev_per_angstrom"] > 0.0


def test_where_every_label_is_there_nothing_is_said(monkeypatch, capsys, snapshot: Path):
    code, out, err = evaluated(monkeypatch, capsys, snapshot, [water(energy=-14.0, forces=FORCES)] * 2)
    assert code == 0
    assert err == ""
    assert "n_without_forces" in out


def test_what_no_label_tells_is_left_out(monkeypatch, capsys, snapshot: Path):
    _, out, _ = evaluated(monkeypatch, capsys, snapshot, [water(energy=-14.0)] * 2, "--json")
    figures = json.loads(out, parse_constant=lambda name: pytest.fail(name))
    assert "force_rmse_mev_per_angstrom" not in figures
    assert figures["energy_rmse_mev_per_atom"] > 0.0


def test_a_structure_without_any_label_is_refused_by_its_number(monkeypatch, capsys, snapshot: Path):
    code, _, err = evaluated(monkeypatch, capsys, snapshot, [water(energy=-14.0, forces=FORCES), molecule("H2O")])
    assert code == 2
    assert "structure 2 lacks energy" in err


def test_an_energy_that_no_learned_composition_fixes_is_counted_and_left_out(monkeypatch, capsys, snapshot: Path):
    structures = [water(energy=-14.0, forces=FORCES), labelled("H2", energy=-7.0, forces=FORCES[:2])]
    _, out, err = evaluated(monkeypatch, capsys, snapshot, [*structures, labelled("H2", forces=FORCES[:2])], "--json")
    figures = json.loads(out)
    assert (figures["n_structures"], figures["n_without_energy"], figures["n_energy_undetermined"]) == (3, 1, 1)
    assert "of 3 structures, 1 of a composition whose energy does not follow from those that were learned" in err
    _, out, _ = evaluated(monkeypatch, capsys, snapshot, structures[:1], "--json")
    assert figures["energy_mae_mev_per_atom"] == json.loads(out)["energy_mae_mev_per_atom"]
