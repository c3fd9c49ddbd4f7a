import copy
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError, all_properties
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import Trajectory
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from lmlp_stream.broker.memory import MemoryLog
from lmlp_stream.broker.open import open_log
from lmlp_stream.config import Config, LogConfig, config_template
from lmlp_stream.errors import BrokerError, DamagedStoreError, UsageError
from lmlp_stream.simulate.calculator import LmlpCalculator
from lmlp_stream.simulate.follower import Follower
from lmlp_stream.wire.announcement import SnapshotManifest

EXTRAS = ("energy_uncertainty", "forces_uncertainty", "snapshot_id")


@pytest.fixture
def calculator(published) -> LmlpCalculator:
    return LmlpCalculator(published(), device="cpu")


@pytest.fixture
def following(log: MemoryLog, learner) -> LmlpCalculator:
    learner.tell(10)
    follower = Follower(log, Config().log.snapshots)
    return LmlpCalculator(follower.wait(0.0), device="cpu", follower=follower)


def folder_of(manifest: SnapshotManifest) -> Path:
    return Path(manifest.weights_uri.removeprefix("file://")).parent


def test_a_snapshot_is_taken_from_a_folder_a_url_or_a_manifest(published, water: Atoms) -> None:
    manifest = published()
    folder = folder_of(manifest)
    energies = {
        LmlpCalculator(where, device="cpu").get_potential_energy(water)
        for where in (manifest, folder, str(folder), f"file://{folder}")
    }
    assert len(energies) == 1


def test_forces_are_the_slope_of_the_energy(calculator: LmlpCalculator, water: Atoms) -> None:
    water.calc = calculator
    assert water.get_potential_energy() == water.get_potential_energy(force_consistent=True)
    np.testing.assert_allclose(water.get_forces(), calculate_numerical_forces(water, eps=1e-5), atol=1e-7)


def test_stress_is_the_slope_of_the_energy_by_strain(calculator: LmlpCalculator, silicon: Atoms) -> None:
    silicon.calc = calculator
    np.testing.assert_allclose(silicon.get_stress(), calculate_numerical_stress(silicon, eps=1e-5), atol=1e-8)


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_there_is_no_stress_without_a_cell_in_three_directions(
    calculator: LmlpCalculator, silicon: Atoms, pbc: object
) -> None:
    silicon.pbc = pbc
    silicon.calc = calculator
    silicon.get_forces()
    results = calculator.results
    with pytest.raises(PropertyNotImplementedError, match="three directions"):
        silicon.get_stress()
    assert calculator.results is results
    assert "stress" not in results


def test_everything_is_evaluated_once(calculator: LmlpCalculator, silicon: Atoms) -> None:
    silicon.calc = calculator
    silicon.get_potential_energy()
    results = calculator.results
    silicon.get_forces()
    silicon.get_stress()
    for name in EXTRAS:
        calculator.get_property(name, silicon)
    assert calculator.results is results


def test_extras_come_with_the_same_units_and_shapes_as_their_properties(
    calculator: LmlpCalculator, water: Atoms
) -> None:
    assert calculator.get_property("energy_uncertainty", water) > 0
    assert calculator.get_property("forces_uncertainty", water).shape == (3, 3)
    assert calculator.get_property("snapshot_id", water) == calculator.manifest.id
    for name in EXTRAS:
        assert name in calculator.results
        assert name in calculator.implemented_properties
        np.testing.assert_array_equal(calculator.results[name], calculator.get_property(name, water))
        np.testing.assert_array_equal(calculator.results.get(name), calculator.get_property(name, water))


def test_what_nobody_knows_is_missing_from_the_results(calculator: LmlpCalculator, water: Atoms) -> None:
    calculator.get_potential_energy(water)
    assert "dipole" not in calculator.results
    assert calculator.results.get("dipole") is None
    with pytest.raises(KeyError):
        calculator.results["dipole"]
    with pytest.raises(PropertyNotImplementedError):
        calculator.get_property("dipole", water)


def test_results_survive_a_single_point_calculator(calculator: LmlpCalculator, silicon: Atoms) -> None:
    silicon.calc = calculator
    forces = silicon.get_forces()
    assert set(calculator.results) <= set(all_properties)
    frozen = silicon.copy()
    frozen.calc = SinglePointCalculator(frozen, **calculator.results)
    np.testing.assert_array_equal(frozen.get_forces(), forces)
    np.testing.assert_array_equal(frozen.get_stress(), silicon.get_stress())


@pytest.mark.parametrize("suffix", ["extxyz", "traj", "json", "db"])
def test_an_annotated_frame_survives_writing_and_reading(
    calculator: LmlpCalculator, silicon: Atoms, tmp_path: Path, suffix: str
) -> None:
    silicon.calc = calculator
    calculator.annotate(silicon)
    file = tmp_path / f"frames.{suffix}"
    if suffix == "db":
        with ase.db.connect(file) as database:
            database.write(silicon, data={"info": silicon.info})
        row = ase.db.connect(file).get(1)
        read, info = row.toatoms(), row.data.info
    else:
        ase.io.write(file, [silicon, silicon])
        read = ase.io.read(file, index=-1)
        info = read.info
    assert read.get_potential_energy() == pytest.approx(silicon.get_potential_energy(), abs=1e-7)
    np.testing.assert_allclose(read.get_forces(), silicon.get_forces(), atol=1e-7)
    np.testing.assert_allclose(read.get_stress(), silicon.get_stress(), atol=1e-7)
    if suffix != "json":
        assert info["snapshot_id"] == calculator.snapshot_id
        assert info["energy_uncertainty"] == pytest.approx(
            calculator.get_property("energy_uncertainty", silicon), abs=1e-7
        )
    if suffix == "extxyz":
        uncertainty = calculator.get_property("forces_uncertainty", silicon)
        np.testing.assert_allclose(read.arrays["forces_uncertainty"], uncertainty, atol=1e-7)
        assert info["max_forces_uncertainty"] == pytest.approx(uncertainty.max(), abs=1e-7)


def test_a_frame_that_was_not_annotated_can_be_written_too(
    calculator: LmlpCalculator, water: Atoms, tmp_path: Path
) -> None:
    water.calc = calculator
    water.get_potential_energy()
    for name in ("water.extxyz", "water.traj", "water.json"):
        ase.io.write(tmp_path / name, water)
        assert ase.io.read(tmp_path / name).get_potential_energy() == pytest.approx(water.get_potential_energy())


def test_a_trajectory_says_which_snapshot_made_it(calculator: LmlpCalculator, water: Atoms, tmp_path: Path) -> None:
    water.calc = calculator
    water.get_potential_energy()
    ase.io.write(tmp_path / "water.traj", water)
    read = ase.io.read(tmp_path / "water.traj").calc
    assert read.name == "lmlp"
    assert read.parameters["snapshot_id"] == calculator.snapshot_id


def test_copies_of_atoms_and_calculator_do_not_disturb_each_other(following: LmlpCalculator, water: Atoms) -> None:
    water.calc = following
    forces = water.get_forces()
    for twin in (copy.deepcopy(water), water.copy()):
        twin.calc = twin.calc or copy.copy(following)
        assert twin.calc is not following
        np.testing.assert_array_equal(twin.get_forces(), forces)
        assert twin.calc.get_property("snapshot_id", twin) == following.snapshot_id
        twin.positions[0, 0] += 0.1
        assert abs(twin.get_forces() - forces).max() > 1e-6
        np.testing.assert_array_equal(following.results["forces"], forces)
    assert copy.deepcopy([following, following])[0] is not following


def test_a_copy_keeps_its_snapshot_when_the_other_takes_a_new_one(following: LmlpCalculator, learner) -> None:
    twin = copy.deepcopy(following)
    old, new = following.snapshot_id, learner.tell(20).id
    assert following.update()
    assert (following.snapshot_id, twin.snapshot_id) == (new, old)
    assert (following.snapshots_used, twin.snapshots_used) == ((old, new), (old,))
    assert twin.update()
    assert twin.snapshot_id == new


def test_a_new_snapshot_is_taken_only_when_told(following: LmlpCalculator, learner, water: Atoms) -> None:
    water.calc = following
    old = water.get_potential_energy()
    assert not following.update()
    manifest = learner.tell(20)
    water.rattle(1e-3)
    water.get_forces()
    assert following.snapshot_id != manifest.id
    assert following.update()
    assert following.results == {}
    assert following.snapshot_id == following.get_property("snapshot_id", water) == manifest.id
    assert water.get_potential_energy() != old
    assert len(following.snapshots_used) == 2


def test_a_damaged_new_snapshot_leaves_the_one_in_use(following: LmlpCalculator, learner, water: Atoms) -> None:
    water.calc = following
    before, energy = following.snapshot_id, water.get_potential_energy()
    (learner.store / learner.tell(20).id / "weights.safetensors").write_bytes(b"")
    with pytest.raises(DamagedStoreError):
        following.update()
    assert following.snapshot_id == before
    assert water.get_potential_energy() == energy


def test_a_calculator_of_one_snapshot_does_not_update(calculator: LmlpCalculator) -> None:
    with pytest.raises(UsageError, match="stays with its snapshot"):
        calculator.update()


def test_dynamics_takes_snapshots_between_steps_and_every_frame_is_of_one(
    following: LmlpCalculator, learner, water: Atoms, tmp_path: Path
) -> None:
    water.calc = following
    water.set_velocities(np.random.default_rng(0).normal(scale=0.01, size=(3, 3)))
    dynamics = VelocityVerlet(water, 0.2 * units.fs)
    following.update_between_steps(dynamics, interval=3)
    dynamics.attach(following.annotate, 1, water)
    dynamics.attach(lambda: ase.io.write(tmp_path / "extxyz.extxyz", water, append=True), 1)
    dynamics.attach(lambda: learner.tell(20) if dynamics.nsteps == 4 else None, 1)
    with Trajectory(tmp_path / "traj.traj", "w", water) as trajectory:
        dynamics.attach(trajectory, 1)
        dynamics.run(8)
    old, new = following.snapshots_used
    for suffix in ("traj", "extxyz"):
        frames = ase.io.read(tmp_path / f"{suffix}.{suffix}", index=":")
        assert [frame.info["snapshot_id"] for frame in frames] == [old] * 6 + [new] * 3
        for frame in frames:
            alone = LmlpCalculator(learner.store / frame.info["snapshot_id"], device="cpu")
            assert frame.get_potential_energy() == pytest.approx(alone.get_potential_energy(frame.copy()), abs=1e-6)


def test_an_optimizer_can_follow_too(following: LmlpCalculator, learner, water: Atoms) -> None:
    water.calc = following
    learner.tell(20)
    optimizer = BFGS(water, logfile=None)
    following.update_between_steps(optimizer, interval=1)
    optimizer.run(steps=2)
    assert len(following.snapshots_used) == 2


def test_dynamics_goes_on_with_a_warning_when_a_new_snapshot_is_damaged(
    following: LmlpCalculator, learner, water: Atoms
) -> None:
    water.calc = following
    dynamics = VelocityVerlet(water, 0.2 * units.fs)
    following.update_between_steps(dynamics, interval=2)
    (learner.store / learner.tell(20).id / "manifest.json").unlink()
    (learner.store / learner.tell(30).id / "weights.safetensors").unlink()
    with pytest.warns(UserWarning, match="goes on with snapshot"):
        dynamics.run(4)
    assert dynamics.nsteps == 4
    assert len(following.snapshots_used) == 1


def test_an_element_the_snapshot_does_not_know_is_named(calculator: LmlpCalculator) -> None:
    with pytest.raises(UsageError, match=r"knows H, O, Si, not C, F; publish labels with C, F"):
        calculator.get_potential_energy(Atoms("CHF", [(0, 0, 0), (1, 0, 0), (0, 1, 0)]))
    assert calculator.results == {}


def test_no_atoms_at_all_are_refused(calculator: LmlpCalculator) -> None:
    for ask in (calculator.calculate, lambda: calculator.get_potential_energy(Atoms())):
        with pytest.raises(UsageError, match="no atoms"):
            ask()


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
@pytest.mark.parametrize("place", ["config", "file", "url"])
def test_a_log_is_followed_by_its_configuration_its_file_or_its_url(
    learner, tmp_path: Path, water: Atoms, place: str, scheme: str
) -> None:
    url = f"{scheme}:{tmp_path / 'log.db'}"
    learner.log = open_log(url, client="test")
    manifest = learner.tell(10)
    config = Config(log=LogConfig(url=url))
    (tmp_path / "lmlp.toml").write_text(config_template().replace("sqlite:lmlp-stream.db", url))
    calculator = LmlpCalculator.follow(
        {"config": config, "file": tmp_path / "lmlp.toml", "url": url}[place], device="cpu", timeout_s=0.0
    )
    assert calculator.snapshot_id == manifest.id
    assert np.isfinite(calculator.get_potential_energy(water))
    later = learner.tell(20)
    assert calculator.update()
    assert calculator.snapshot_id == later.id
    calculator.close()
    learner.log.close()
    assert np.isfinite(calculator.get_property("energy", water))


def test_following_an_empty_log_says_so_and_lets_go(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="no snapshot was announced"):
        LmlpCalculator.follow(f"sqlite:{tmp_path / 'log.db'}", timeout_s=0.0)


def test_a_wrong_choice_is_refused(published) -> None:
    manifest = published()
    with pytest.raises(UsageError, match="none of ignore, request and stop"):
        LmlpCalculator(manifest, on_uncertain="panic")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="place to ask"):
        LmlpCalculator(manifest, on_uncertain="request")
    with pytest.raises(UsageError, match="none of auto, cpu"):
        LmlpCalculator(manifest, device="abacus")


def test_a_frame_is_read_back_from_an_open_trajectory(calculator: LmlpCalculator, water: Atoms, tmp_path: Path) -> None:
    water.calc = calculator
    water.get_forces()
    with Trajectory(tmp_path / "water.traj", "w", water, properties=["energy", "forces"]) as trajectory:
        trajectory.write()
    np.testing.assert_array_equal(ase.io.read(tmp_path / "water.traj").get_forces(), water.get_forces())
