from dataclasses import replace
from math import inf

import numpy as np
import pytest
import torch
from ase import Atoms

from lmlp_stream.atoms.structure import from_ase
from lmlp_stream.config import SimulateConfig
from lmlp_stream.errors import UsageError
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.potential.uncertainty import Intervals, Level
from lmlp_stream.simulate.evaluator import Evaluation, Evaluator, device_of
from lmlp_stream.store.snapshot import load, publish
from tests.unit.simulate.conftest import a_provenance, an_ensemble

CONFIG = SimulateConfig()


def evaluated(manifest, atoms: Atoms, config: SimulateConfig = CONFIG) -> Evaluation:
    return Evaluator(*load(manifest), config).evaluate(from_ase(atoms))


def by_member(manifest, atoms: Atoms) -> list[Evaluation]:
    """What each member says alone."""
    _, ensemble = load(manifest)
    evaluations = []
    for member in range(ensemble.members):
        state = {
            name: tensor[member : member + 1] if name.startswith("element.") else tensor
            for name, tensor in ensemble.state_dict().items()
        }
        alone = Ensemble.from_state(
            ensemble.spec, state, hidden=ensemble.hidden, members=1, dtype=ensemble.dtype, device=torch.device("cpu")
        )
        evaluations.append(Evaluator(manifest, alone, CONFIG).evaluate(from_ase(atoms)))
    return evaluations


def test_energy_and_forces_are_the_mean_of_the_members(published, water: Atoms) -> None:
    manifest = published()
    whole, members = evaluated(manifest, water), by_member(manifest, water)
    assert whole.energy == pytest.approx(np.mean([m.energy for m in members]))
    np.testing.assert_allclose(whole.forces, np.mean([m.forces for m in members], axis=0), atol=1e-12)
    assert whole.stress is None


def test_uncertainty_is_twice_the_standard_deviation_above_the_floor(published, water: Atoms) -> None:
    manifest = published(energy_rmse_ev_per_atom=1e-9, force_rmse_ev_per_angstrom=1e-9)
    whole, members = evaluated(manifest, water), by_member(manifest, water)
    assert whole.energy_uncertainty == pytest.approx(2 * np.std([m.energy for m in members], ddof=1))
    expected = np.maximum(2 * np.std([m.forces for m in members], axis=0, ddof=1), 1e-9)
    np.testing.assert_allclose(whole.forces_uncertainty, expected, atol=1e-12)
    doubled = evaluated(manifest, water, SimulateConfig(scale=4.0))
    assert doubled.energy_uncertainty == pytest.approx(2 * whole.energy_uncertainty)


def test_the_measured_error_is_the_floor_and_below_the_threshold(published, water: Atoms) -> None:
    whole = evaluated(published(energy_rmse_ev_per_atom=10.0, force_rmse_ev_per_angstrom=20.0), water)
    assert whole.energy_uncertainty == pytest.approx(30.0)
    np.testing.assert_array_equal(whole.forces_uncertainty, np.full((3, 3), 20.0))
    assert whole.excess == pytest.approx(1 / 3)


def test_a_single_member_is_never_above_the_threshold(published, water: Atoms) -> None:
    whole = evaluated(published(members=1), water)
    assert whole.energy_uncertainty == pytest.approx(3e-3)
    assert whole.excess == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("energy_rmse", "force_rmse"), [(1e-9, 100.0), (100.0, 1e-9)], ids=["by the energy", "by a force"]
)
def test_either_uncertainty_can_exceed(published, water: Atoms, energy_rmse: float, force_rmse: float) -> None:
    manifest = published(energy_rmse_ev_per_atom=energy_rmse, force_rmse_ev_per_angstrom=force_rmse)
    whole = evaluated(manifest, water)
    ratios = (
        whole.energy_uncertainty / 3 / (3 * energy_rmse),
        whole.forces_uncertainty.max() / (6 * force_rmse),
    )
    assert whole.excess == pytest.approx(max(ratios))
    assert whole.excess > 1


def test_an_error_that_is_not_stated_is_no_floor_and_no_threshold(published, water: Atoms) -> None:
    whole = evaluated(published(n_structures=0.0), water)
    assert whole.energy_uncertainty > 0
    assert whole.excess == 0.0


def test_the_energy_of_a_composition_that_no_label_fixed_is_infinitely_uncertain(published) -> None:
    whole = evaluated(published(), Atoms("H2", [(0, 0, 0), (0, 0, 0.75)]))
    assert whole.energy_uncertainty == inf
    assert whole.excess == inf
    assert np.isfinite(whole.forces_uncertainty).all()


def test_what_cannot_be_computed_is_beyond_every_threshold(published) -> None:
    manifest = published()
    _, ensemble = load(manifest)
    with torch.no_grad():
        ensemble.parameters[1]["bias_0"] += 1e308
        ensemble.parameters[1]["bias_0"] *= 1e308
        ensemble.parameters[1]["weight_1"][:] = 0.0
        ensemble.parameters[1]["weight_1"][0] = float("nan")
    water = from_ase(Atoms("OH2", [(0, 0, 0), (0, 0, 1), (0, 1, 0)]))
    assert Evaluator(manifest, ensemble, CONFIG).evaluate(water).excess == inf


def test_atoms_that_lie_on_each_other_are_refused(published) -> None:
    with pytest.raises(UsageError, match="atoms 1 and 2"):
        evaluated(published(), Atoms("OH2", [(0, 0, 0), (0, 0, 1), (0, 0, 1)]))


def test_auto_is_a_device_that_exists() -> None:
    torch.zeros(1, device=device_of("auto"))
    assert device_of("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("n_gpus", "name", "said"),
    [
        (0, "cuda", "device = 'cuda', but torch finds 0 GPUs here"),
        (2, "cuda:2", "device = 'cuda:2', but torch finds 2 GPUs here"),
        (2, "gpu", "device = 'gpu' is none of auto, cpu, cuda and cuda:N"),
    ],
)
def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, n_gpus: int, name: str, said: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    with pytest.raises(UsageError, match=said):
        device_of(name)


def calibrated(folder, energy: float, forces: float, hydrogen: float):
    """A snapshot whose floors of the energy per atom and of forces are given; its members disagree a little."""
    intervals = Intervals(Level(energy, 2.0), Level(forces, 2.0), {1: Level(hydrogen, 2.0)})
    errors = {"energy_rmse_ev_per_atom": 10.0, "force_rmse_ev_per_angstrom": 20.0}
    provenance = replace(a_provenance(10), errors=errors, calibration=intervals.named())
    return publish(an_ensemble(0), provenance, folder)


def test_a_label_is_wanted_where_an_interval_is_wider_than_where_members_agree(tmp_path, water: Atoms) -> None:
    agreeing = evaluated(calibrated(tmp_path / "a", 10.0, 10.0, 10.0), water)
    assert agreeing.excess == pytest.approx(1 / 1.5)
    forces = evaluated(calibrated(tmp_path / "b", 10.0, 1e-6, 1e-6), water)
    assert forces.excess == pytest.approx(forces.max_forces_uncertainty / (1.5 * 2e-6))
    energy = evaluated(calibrated(tmp_path / "c", 1e-6, 10.0, 10.0), water)
    assert energy.excess == pytest.approx(energy.energy_uncertainty / (1.5 * 3 * 2e-6))
    assert evaluated(
        calibrated(tmp_path / "b", 10.0, 1e-6, 1e-6), water, SimulateConfig(request_widening=3.0)
    ).excess == (pytest.approx(forces.excess / 2))


def test_disagreement_below_the_widest_interval_of_the_structure_asks_for_nothing(tmp_path, water: Atoms) -> None:
    whole = evaluated(calibrated(tmp_path, 10.0, 10.0, 1e-6), water)
    assert whole.forces_uncertainty[1:].max() > 1.5 * 2e-6
    assert whole.excess == pytest.approx(1 / 1.5)


def test_the_published_rule_is_a_choice_and_the_rule_of_a_snapshot_without_intervals(
    published, tmp_path, water: Atoms
) -> None:
    by_published = SimulateConfig(request_by="published")
    assert evaluated(calibrated(tmp_path, 10.0, 1e-6, 1e-6), water, by_published).excess == pytest.approx(1 / 3)
    bare = published(energy_rmse_ev_per_atom=1e-3, force_rmse_ev_per_angstrom=1e-3)
    assert evaluated(bare, water).excess == evaluated(bare, water, by_published).excess > 1.0


def test_a_composition_that_no_label_fixed_is_wanted_by_intervals_too(tmp_path) -> None:
    hydrogen = Atoms("H2", [(0, 0, 0), (0, 0, 0.75)])
    assert evaluated(calibrated(tmp_path, 10.0, 10.0, 10.0), hydrogen).excess == inf


def test_a_calibrated_snapshot_tells_half_widths_by_element(tmp_path, water: Atoms) -> None:
    intervals = Intervals(Level(1.0, 2.0), Level(5.0, 1.0), {1: Level(7.0, 3.0)})
    errors = {"energy_rmse_ev_per_atom": 10.0, "force_rmse_ev_per_angstrom": 20.0}
    provenance = replace(a_provenance(10), errors=errors, calibration=intervals.named())
    whole = evaluated(publish(an_ensemble(0), provenance, tmp_path), water)
    assert whole.energy_uncertainty == pytest.approx(3 * 2.0)
    np.testing.assert_allclose(whole.forces_uncertainty, [[5.0] * 3, [21.0] * 3, [21.0] * 3])
    assert whole.excess == pytest.approx(1 / 1.5)
