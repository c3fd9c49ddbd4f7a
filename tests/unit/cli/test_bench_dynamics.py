import json
import sys
from dataclasses import replace
from math import isfinite, isnan
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

from lmlp_stream.atoms.structure import LabelledStructure, Structure, unlabelled
from lmlp_stream.cli.bench.dynamics import (
    LEAST_STEPS,
    Dynamics,
    _degrees_of_freedom,
    _energies,
    _moving,
    dynamics,
    snapshot_potential,
    trained_potential,
)
from lmlp_stream.cli.main import main
from lmlp_stream.errors import UsageError
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.store.snapshot import Provenance, publish


def nothing() -> None:
    pass


@pytest.fixture(scope="module")
def potential() -> Ensemble:
    return trained_potential(None, 1, 3, nothing)


def runs(timestep: float, n_steps: int, n_runs: int = 1) -> Dynamics:
    return Dynamics(temperature=3000.0, timestep=timestep, picoseconds=n_steps * timestep / 1000, n_runs=n_runs)


def test_a_drift_is_found_in_what_a_real_run_prints(monkeypatch, capsys):
    options = ["--members", "1", "--train-steps", "2", "--picoseconds", "0.005", "--runs", "2", "--json"]
    monkeypatch.setattr(sys, "argv", ["lmlp-stream", "bench", "dynamics", *options])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    figures = json.loads(capsys.readouterr().out)
    assert (figures["n_runs"], figures["n_exploded"], figures["n_steps"]) == (2, 0, 10)
    assert isfinite(figures["drift_ev_per_atom_per_ns"])


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"picoseconds": 0.001}, "--picoseconds 0.001 at --timestep 0.5 fs is 2 steps"),
        ({"picoseconds": -1.0}, "--picoseconds -1.0 of bench dynamics is not above 0"),
        ({"timestep": 0.0}, "--timestep 0.0 of bench dynamics is not above 0"),
        ({"temperature": -3.0}, "--temperature -3.0 of bench dynamics is not above 0"),
        ({"temperature": float("nan")}, "--temperature nan of bench dynamics is not above 0"),
    ],
)
def test_numbers_that_make_no_run_are_refused(changed: dict[str, float], sentence: str):
    with pytest.raises(UsageError, match=sentence):
        replace(Dynamics(temperature=300.0, timestep=0.5, picoseconds=1.0, n_runs=1), **changed)


def test_numbers_that_make_no_run_are_refused_before_anything_is_learned(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lmlp-stream", "bench", "dynamics", "--picoseconds", "0.001"])
    monkeypatch.setattr(
        "lmlp_stream.cli.bench.dynamics.trained_potential", lambda *_: pytest.fail("it learns before it checks")
    )
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "too few for a drift" in capsys.readouterr().err


def test_the_shortest_run_has_a_drift(potential: Ensemble):
    figures = dynamics(potential, None, runs(0.5, LEAST_STEPS), nothing)
    assert isfinite(figures["drift_standard_error_ev_per_atom_per_ns"])


def test_a_smaller_step_keeps_the_energy_better(potential: Ensemble):
    spreads = [
        dynamics(potential, None, runs(timestep, round(4 / timestep)), nothing)["total_energy_std_mev_per_atom"]
        for timestep in (0.5, 0.25)
    ]
    assert spreads[1] < 0.5 * spreads[0]


def test_a_run_of_steps_much_too_long_explodes(potential: Ensemble):
    figures = dynamics(potential, None, runs(200.0, 100), nothing)
    assert figures["n_exploded"] == 1
    assert isnan(figures["drift_ev_per_atom_per_ns"])


def test_the_modified_hamiltonian_of_an_oscillator_is_kept_better_than_the_plain_one():
    dt, x, v, position, velocity = 0.1, 1.0, 0.3, [], []
    for _ in range(500):
        position.append(x)
        velocity.append(v)
        v -= 0.5 * dt * x
        x += dt * v
        v -= 0.5 * dt * x
    x_, v_ = np.array(position).reshape(-1, 1, 1), np.array(velocity).reshape(-1, 1, 1)
    total, shadow = _energies(0.5 * x_.ravel() ** 2, v_, -x_, np.ones((1, 1)), dt)
    assert shadow.std() < 0.01 * total.std()


def structure(name: str, *, pbc: bool = False) -> LabelledStructure:
    atoms = molecule(name, cell=[9.0, 9.0, 9.0], pbc=pbc)
    return unlabelled(
        Structure(atomic_numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc)
    )


def labelled_file(path: Path, atoms: Atoms) -> Path:
    atoms.info["energy"] = -1.0
    atoms.arrays["forces"] = np.zeros((len(atoms), 3))
    atoms.write(path)
    return path


@pytest.mark.parametrize(
    ("name", "pbc", "n_freedoms"),
    [("N2", False, 1), ("CO2", False, 4), ("H2O", False, 3), ("CH4", False, 9), ("H2O", True, 6)],
)
def test_what_is_left_without_translation_and_rotation_has_the_temperature(name: str, pbc: bool, n_freedoms: int):
    start = structure(name, pbc=pbc)
    assert _degrees_of_freedom(start) == n_freedoms
    energies = [_moving(start, 300.0, seed).get_kinetic_energy() for seed in range(1000)]
    assert np.mean(energies) == pytest.approx(n_freedoms * units.kB * 300.0 / 2, rel=0.2)


def test_nothing_moves_or_turns_as_a_whole():
    atoms = _moving(structure("H2O"), 300.0, 0)
    assert atoms.get_momenta().sum(axis=0) == pytest.approx(0.0, abs=1e-12)
    assert atoms.get_angular_momentum() == pytest.approx(0.0, abs=1e-12)


def test_the_mean_temperature_is_that_of_the_initial_velocities_in_a_short_run(potential: Ensemble, tmp_path: Path):
    path = labelled_file(tmp_path / "water.extxyz", molecule("H2O"))
    figures = dynamics(potential, path, runs(0.001, 5, n_runs=100), nothing)
    assert figures["mean_temperature_k"] == pytest.approx(3000.0, rel=0.3)


def test_a_single_atom_is_refused(potential: Ensemble, tmp_path: Path):
    path = labelled_file(tmp_path / "atom.extxyz", Atoms("H"))
    with pytest.raises(UsageError, match=r"atom\.extxyz, structure 1, is a single atom"):
        dynamics(potential, path, runs(0.5, 5), nothing)


def test_the_potential_of_a_snapshot_runs_in_double_precision(potential: Ensemble, tmp_path: Path):
    provenance = Provenance(
        name="lmlp",
        step=3,
        labels_learned=4,
        journal_position=1,
        level_of_theory="EMT",
        errors={},
        calibration={},
        parent_id="",
        code_version="0.1.0",
        created_at="2026-01-01T00:00:00+00:00",
    )
    manifest = publish(potential, provenance, tmp_path)
    loaded = snapshot_potential(str(tmp_path / manifest.id))
    settings = runs(0.5, 5)
    assert dynamics(loaded, None, settings, nothing) == dynamics(potential, None, settings, nothing)


def test_a_single_structure_is_learned(tmp_path: Path):
    atoms = molecule("CH4")
    atoms.info["energy"] = -1.0
    atoms.arrays["forces"] = np.zeros((5, 3))
    path = tmp_path / "methane.extxyz"
    atoms.write(path)
    assert trained_potential(path, 1, 2, nothing).covers([1, 6])


def test_structures_of_unknown_elements_are_refused(potential: Ensemble, tmp_path: Path):
    atoms = molecule("SiH4")
    atoms.info["energy"] = -1.0
    atoms.arrays["forces"] = np.zeros((5, 3))
    path = tmp_path / "silane.extxyz"
    atoms.write(path)
    with pytest.raises(UsageError, match="does not know every element"):
        dynamics(potential, path, runs(0.5, 5), nothing)


def test_elements_beyond_xenon_need_the_option(monkeypatch, capsys, tmp_path: Path):
    path = labelled_file(tmp_path / "gold.extxyz", Atoms("Au2", [[0.0, 0.0, 0.0], [0.0, 0.0, 2.5]]))
    options = ["--structures", str(path), "--members", "1", "--train-steps", "2", "--picoseconds", "0.003"]
    codes = []
    for more in ([], ["--elements", "extended"]):
        monkeypatch.setattr(sys, "argv", ["lmlp-stream", "bench", "dynamics", *options, *more])
        with pytest.raises(SystemExit) as end:
            main()
        codes.append(end.value.code or 0)
    assert codes == [2, 0]
    assert "gold.extxyz contains Au, beyond Xe; --elements extended lets them in" in capsys.readouterr().err
