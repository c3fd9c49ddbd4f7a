"""The ridge regression of the linear part against plain least squares, and that nothing is forgotten."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lmlp_stream.atoms.batch import Batch, Example, collate
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.atoms.symmetry import SymmetryFunctions, spec_of
from lmlp_stream.config import LearningConfig, SymmetryConfig
from lmlp_stream.learning import ridge as ridge_module
from lmlp_stream.learning.learner import Learner
from lmlp_stream.learning.ridge import Ridge, fitting
from lmlp_stream.potential.baseline import Baseline
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.potential.linear import Features, LinearPart, relevance_of
from lmlp_stream.store.checkpoint import Checkpoints
from tests.unit.learning.structures import AMMONIA, METHANE, WATER, labelled
from tests.unit.learning.test_learner import assert_equal_states, config_of

CPU = torch.device("cpu")
FUNCTIONS = SymmetryFunctions(spec_of(SymmetryConfig(preset="published", cutoff=4.0)), torch.float64, CPU)
LEARNING = LearningConfig(ridge=1e-3)
N_FEATURES = 4
EXPECTED = {1: -0.1, 6: -0.6, 8: -0.8}
STRUCTURES = tuple(replace(labelled(i, shape), weight=1.0 + i) for i in range(5) for shape in (WATER, METHANE))


def batch_of(structures: tuple[LabelledStructure, ...]) -> Batch:
    return collate([Example(structure, FUNCTIONS.evaluate(structure)) for structure in structures])


def features_of(batch: Batch, n_features: int = N_FEATURES) -> dict[int, Features]:
    return {
        z: Features.drawn(batch.values[atoms], n_features, torch.Generator().manual_seed(z))
        for z, atoms in batch.atoms_of.items()
    }


FEATURES = features_of(batch_of(STRUCTURES))


def added(*parts: tuple[LabelledStructure, ...]) -> Ridge:
    ridge = Ridge(LEARNING, EXPECTED)
    for part in parts:
        batch = batch_of(part)
        ridge.add(batch, batch.energy, FEATURES)
    return ridge


def solved(ridge: Ridge) -> np.ndarray:
    return torch.cat(list(ridge.solve(FEATURES, {}).values())).numpy()


def predicted(structure: LabelledStructure, coefficients: np.ndarray) -> np.ndarray:
    """Energy and forces of a potential that is its linear part alone."""
    model = Ensemble(
        FUNCTIONS.spec, hidden=(2,), members=1, dtype=torch.float64, device=CPU, baseline=Baseline({}), linear=None
    )
    batch, parts = batch_of((structure,)), np.split(coefficients, len(FEATURES))
    features = {
        z: item.with_coefficients(torch.tensor(part)) for (z, item), part in zip(FEATURES.items(), parts, strict=True)
    }
    familiar = {z: features[z].covering(batch.values[atoms]) for z, atoms in batch.atoms_of.items()}
    model.linear = LinearPart(1.0, features | familiar)
    for z in FEATURES:
        model.add_element(z, torch.zeros(2, FUNCTIONS.n_functions).double(), torch.Generator().manual_seed(0))
    prediction = model.predict(batch)
    return np.concatenate([prediction.mean_energy.numpy(), prediction.mean_forces.numpy().ravel()])


def equations(structures: tuple[LabelledStructure, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels of the squares in the docstring, from predictions of one coefficient at a time."""
    n_coefficients = N_FEATURES * len(FEATURES)
    rows, labels = [np.sqrt(LEARNING.ridge) * np.eye(n_coefficients)], [np.zeros(n_coefficients)]
    for structure in structures:
        design = np.stack([predicted(structure, unit) for unit in np.eye(n_coefficients)], axis=1)
        n_forces = 3 * structure.n_atoms
        weight = np.full(1 + n_forces, LEARNING.force_weight / max(1, np.isfinite(structure.forces).sum()))
        weight[0] = 6 * LEARNING.energy_weight / structure.n_atoms**2
        scale = np.sqrt(structure.weight * weight)
        known = np.concatenate([[structure.energy], structure.forces.ravel()])
        given = np.isfinite(known)
        rows.append((scale[:, None] * design)[given])
        labels.append((scale * known)[given])
        batch = batch_of((structure,))
        for z, atoms in batch.atoms_of.items():
            by_atom = np.sqrt(ridge_module.ATOM * structure.weight / structure.n_atoms)
            of_element = {other: np.zeros((len(atoms), N_FEATURES)) for other in FEATURES}
            of_element[z] = by_atom * FEATURES[z].evaluate(batch.values[atoms]).numpy()
            rows.append(np.concatenate(list(of_element.values()), axis=1))
            labels.append(np.full(len(atoms), by_atom * EXPECTED[z]))
    return np.concatenate(rows), np.concatenate(labels)


def least_squares(structures: tuple[LabelledStructure, ...]) -> np.ndarray:
    return np.linalg.lstsq(*equations(structures), rcond=None)[0]


def test_coefficients_are_those_of_least_squares() -> None:
    np.testing.assert_allclose(solved(added(STRUCTURES)), least_squares(STRUCTURES), rtol=1e-5, atol=1e-5)


def test_the_order_of_labels_and_their_portions_do_not_matter() -> None:
    at_once, in_portions = added(STRUCTURES), added(STRUCTURES[6:], STRUCTURES[:1], STRUCTURES[1:6])
    np.testing.assert_allclose(solved(in_portions), solved(at_once), rtol=1e-7, atol=1e-9)


def test_energies_of_one_composition_are_shared_out_as_elements_came() -> None:
    config = config_of(
        rehearsal={"capacity": 40, "holdout_share": 0.0},
        quarantine={"enabled": False},
        potential={
            "members": 1,
            "dtype": "float64",
            "linear_features": 40,
            "atomic_energies": {"H": -1.0, "O": -4.0},
        },
    )
    learner = Learner(config)
    structures = [replace(labelled(index), energy=-12.0, forces=np.full((3, 3), np.nan)) for index in range(48)]
    energies = []
    for first in range(0, 48, 8):
        learner.process_tick(structures[first : first + 8])
        batch, features = learner._collated(learner.remembered), learner.ensemble.linear.features
        above = (batch.energy - learner.ensemble.baseline.energy(batch.composition)) / batch.n_atoms
        mean = {
            z: float(features[z].energies(features[z].evaluate(batch.values[atoms]))[0].mean())
            for z, atoms in batch.atoms_of.items()
        }
        energies.append([mean[z] - float(above.mean()) for z in (1, 8)])
    np.testing.assert_allclose(energies, 0.0, atol=0.1)


def test_what_is_taken_out_is_as_if_it_had_never_come() -> None:
    ridge, gone = added(STRUCTURES), batch_of(STRUCTURES[3:5])
    ridge.add(gone, gone.energy, FEATURES, sign=-1)
    np.testing.assert_allclose(solved(ridge), solved(added(STRUCTURES[:3], STRUCTURES[5:])), rtol=1e-6, atol=1e-8)


def test_missing_labels_add_no_equation() -> None:
    without = (
        replace(STRUCTURES[0], energy=np.nan),
        replace(STRUCTURES[1], forces=np.full_like(STRUCTURES[1].forces, np.nan)),
    )
    some = (*without, *STRUCTURES[2:])
    np.testing.assert_allclose(solved(added(some)), least_squares(some), rtol=1e-5, atol=1e-5)


def test_atoms_without_neighbors_are_learned_too() -> None:
    atom = replace(
        STRUCTURES[0],
        atomic_numbers=np.array([8]),
        positions=np.zeros((1, 3)),
        forces=np.zeros((1, 3)),
        energy=-70.0,
    )
    assert np.isfinite(solved(added(STRUCTURES, (atom,)))).all()
    assert abs(predicted(atom, solved(added(STRUCTURES, (replace(atom, weight=1e6),))))[0] + 70.0) < 0.1


def test_forces_of_some_atoms_count_as_much_as_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    forces = STRUCTURES[0].forces.copy()
    forces[1:] = np.nan
    few = added(STRUCTURES[1:], (replace(STRUCTURES[0], forces=forces, energy=np.nan),))
    monkeypatch.setattr(ridge_module, "EQUATIONS_TOGETHER", 1)
    again = added(STRUCTURES[1:], (replace(STRUCTURES[0], forces=forces, energy=np.nan),))
    np.testing.assert_allclose(solved(few), solved(again), rtol=1e-7, atol=1e-9)
    assert not np.allclose(solved(few), solved(added(STRUCTURES[1:])))


def test_blocks_of_atoms_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = solved(added(STRUCTURES))
    monkeypatch.setattr(ridge_module, "ATOMS_TOGETHER", 2)
    np.testing.assert_allclose(solved(added(STRUCTURES)), whole, rtol=1e-8, atol=1e-10)


def test_fewer_features_are_those_of_a_ridge_that_never_had_more() -> None:
    batch, ridge, few = batch_of(STRUCTURES), added(STRUCTURES), Ridge(LEARNING, EXPECTED)
    few.add(batch, batch.energy, {z: item.first(2) for z, item in FEATURES.items()})
    ridge.keep(2)
    np.testing.assert_allclose(solved(ridge), solved(few), rtol=1e-8, atol=1e-10)


def test_many_elements_share_the_features() -> None:
    assert [fitting(800, n_elements) for n_elements in (1, 8, 16, 100)] == [800, 800, 400, 64]


def test_a_fit_is_due_when_enough_equations_are_new() -> None:
    ridge = added(STRUCTURES)
    assert ridge.due()
    solved(ridge)
    assert not ridge.due()
    batch = batch_of(STRUCTURES[:1])
    ridge.add(batch, batch.energy, FEATURES)
    assert ridge.due()


@pytest.mark.parametrize(
    ("n_redrawn", "n", "n_remembered", "capacity", "expected"),
    [
        (0, 256, 256, 10_000, True),
        (0, 255, 255, 10_000, False),
        (0, 256, 255, 10_000, False),
        (0, 144, 144, 151, True),
        (0, 128, 128, 151, False),
        (0, 32, 32, 40, True),
        (0, 31, 31, 31, False),
        (0, 5000, 5000, 5000, True),
        (1, 256, 256, 10_000, False),
        (1, 383, 383, 10_000, False),
        (1, 384, 384, 10_000, True),
        (1, 384, 383, 10_000, False),
        (1, 288, 288, 300, True),
        (1, 256, 256, 260, True),
        (1, 255, 255, 255, False),
        (2, 5000, 5000, 10_000, False),
    ],
)
def test_features_are_drawn_twice_by_relevance_while_everything_is_remembered(
    n_redrawn: int, n: int, n_remembered: int, capacity: int, expected: bool
) -> None:
    ridge = Ridge(LEARNING)
    ridge.load_state_dict({**ridge.state_dict(), "counts": np.array([n, 10 * n, 10 * n, n_redrawn])}, CPU)
    assert ridge.ripe(n_remembered, is_full=capacity - n_remembered < 16) is expected
    restored = Ridge(LEARNING)
    restored.load_state_dict(ridge.state_dict(), CPU)
    assert restored.n_redrawn == n_redrawn


def test_nothing_learned_gives_no_coefficients() -> None:
    assert Ridge(LEARNING).solve(FEATURES, {}) == {}


def deviations(ridge: Ridge, n_features: int = N_FEATURES) -> np.ndarray:
    """One member for each coefficient, which alone is not 0 in what is drawn for it."""
    unit = torch.eye(n_features * len(FEATURES), dtype=torch.float64)
    return torch.cat(list(ridge.deviations(dict(zip(FEATURES, unit.split(n_features), strict=True))).values())).numpy()


def test_coefficients_deviate_by_what_labels_leave_open() -> None:
    found = deviations(added(STRUCTURES))
    rows, labels = equations(STRUCTURES)
    residual = labels - rows @ least_squares(STRUCTURES)
    n_labels = sum(1 + 3 * structure.n_atoms for structure in STRUCTURES)
    expected = residual @ residual / n_labels * np.linalg.inv(rows.T @ rows)
    np.testing.assert_allclose(found @ found.T, expected, rtol=1e-5, atol=1e-9 * expected.max())


def test_the_first_coefficients_deviate_as_if_there_were_no_others() -> None:
    ridge, fewer = added(STRUCTURES), added(STRUCTURES)
    fewer.keep(2)
    np.testing.assert_allclose(deviations(ridge, 2), deviations(fewer, 2), rtol=1e-9)


def test_what_is_taken_out_no_longer_narrows_deviations() -> None:
    ridge, gone = added(STRUCTURES), batch_of(STRUCTURES[3:5])
    ridge.add(gone, gone.energy, FEATURES, sign=-1)
    fresh = deviations(added(STRUCTURES[:3], STRUCTURES[5:]))
    np.testing.assert_allclose(deviations(ridge), fresh, rtol=1e-6, atol=1e-9 * fresh.max())


def test_nothing_learned_gives_no_deviations() -> None:
    assert Ridge(LEARNING).deviations({}) == {}


def test_an_element_fitted_alone_stays_where_all_are_fitted() -> None:
    ridge = added(STRUCTURES)
    everything = ridge.solve(FEATURES, {})
    for z, coefficients in everything.items():
        alone = ridge.solve([z], everything)
        assert alone.keys() == {z}
        torch.testing.assert_close(alone[z], coefficients, rtol=1e-5, atol=1e-5)


def test_sums_that_rounding_left_without_a_positive_diagonal_are_solved_with_a_larger_ridge() -> None:
    ridge, twice = added(STRUCTURES), batch_of(STRUCTURES)
    for _ in range(2):
        ridge.add(twice, twice.energy, FEATURES, sign=-1)
    assert np.isfinite(solved(ridge)).all()


def test_a_learner_ends_with_the_same_linear_part_in_whatever_order_its_domains_came() -> None:
    first, *rest = (
        [labelled(index, shape) for index in span]
        for shape, span in ((WATER, range(8)), (METHANE, range(8)), (AMMONIA, range(8)), (WATER, range(8, 16)))
    )
    bringing = [labelled(100, shape) for shape in (WATER, METHANE, AMMONIA)]
    config = config_of(
        learning={"steps_per_record": 0.5},
        rehearsal={"capacity": 2, "holdout_share": 0.0},
        quarantine={"enabled": False},
        potential={"dtype": "float64", "linear_features": 30},
    )
    found = []
    for domains in (rest, rest[::-1]):
        learner = Learner(config)
        for tick in (bringing, first, *domains):
            learner.process_tick(tick)
        learner.process_tick([])
        found.append(learner.ensemble.linear)
    for z, features in found[0].features.items():
        torch.testing.assert_close(features.coefficients, found[1].features[z].coefficients, rtol=1e-4, atol=1e-4)


def test_the_sums_hold_what_is_learned_and_neither_what_explodes_nor_what_is_held_out_nor_what_was_recalled() -> None:
    config = config_of(
        learning={"steps_per_record": 4.0},
        rehearsal={"capacity": 400},
        potential={"members": 2, "dtype": "float64", "linear_features": 12},
    )
    structures = [labelled(index) for index in range(300)]
    structures[5] = replace(structures[5], energy=structures[5].energy + 9.0)
    structures[150] = replace(structures[150], forces=-structures[150].forces)
    structures[200] = replace(structures[200], forces=1e4 * structures[200].forces)
    learner, n_recalled = Learner(config), 0
    for first in range(0, len(structures), 10):
        n_recalled += learner.process_tick(structures[first : first + 10]).n_recalled
    kept = [structure for structure in learner._memory.reservoir if structure not in learner.quarantined]
    assert n_recalled > 0
    assert len(kept) < 300 - learner.n_held_out
    assert_sums_are_those_of(kept, learner)


def test_labels_are_judged_as_if_there_were_no_linear_part() -> None:
    structures = [labelled(index) for index in range(200)]
    structures[120] = replace(structures[120], forces=-structures[120].forces)
    found = []
    for n_features in (0, 12):
        learner = Learner(config_of(learning={"steps_per_record": 2.0}, potential={"linear_features": n_features}))
        reports = [learner.process_tick(structures[first : first + 10]) for first in range(0, 200, 10)]
        found.append([(r.n_waiting, r.n_recalled, [c.structure.id for c in r.inconsistent]) for r in reports])
    assert found[0] == found[1]
    assert any(waiting for waiting, _, _ in found[0])


def test_features_drawn_by_relevance_stay_and_sums_are_those_of_all_that_came() -> None:
    config = config_of(
        learning={"records_per_tick": 8, "steps_per_record": 0.25},
        rehearsal={"capacity": 40, "holdout_share": 0.0},
        quarantine={"enabled": False},
        potential={"members": 1, "dtype": "float64", "linear_features": 40},
    )
    learner = Learner(config)
    structures = [labelled(index, (WATER, METHANE)[index % 2]) for index in range(48)]
    ticks = [structures[first : first + 8] for first in range(0, 48, 8)]
    for tick in ticks[:4]:
        learner.process_tick(tick)
    even = dict(learner.ensemble.linear.features)
    learner.process_tick(ticks[4])
    drawn = dict(learner.ensemble.linear.features)
    assert all(unevenness(drawn[z]) > 2 * unevenness(even[z]) for z in (1, 6, 8))
    restored = Learner.restore(config, learner.state_dict())
    for one in (learner, restored):
        for tick in (ticks[5], [labelled(100, AMMONIA)]):
            one.process_tick(tick)
    assert_equal_states(learner, restored)
    linear = learner.ensemble.linear
    assert all(torch.equal(linear.features[z].directions, drawn[z].directions) for z in (1, 6, 8))
    usual = torch.stack([drawn[z].relevance for z in (1, 6, 8)]).log().mean(dim=0).exp()
    apart = (linear.features[7].relevance / usual).log()
    assert abs(float(apart.mean())) < 0.1
    assert float(apart.std()) < 0.3
    assert_sums_are_those_of([*structures, labelled(100, AMMONIA)], learner)


def test_a_second_draw_goes_half_the_way_to_what_is_relevant_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[torch.Tensor] = []

    def noted(squared_slopes: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
        found.append(relevance_of(squared_slopes, spread))
        return found[-1]

    monkeypatch.setattr(ridge_module, "RIPE", (32, 48))
    monkeypatch.setattr(ridge_module, "FEWEST", (32, 48))
    monkeypatch.setattr("lmlp_stream.learning.linear_fit.relevance_of", noted)
    learner = Learner(
        config_of(
            learning={"records_per_tick": 16, "steps_per_record": 0.0},
            rehearsal={"capacity": 100, "holdout_share": 0.0},
            quarantine={"enabled": False},
            potential={"members": 1, "dtype": "float64", "linear_features": 1000},
        )
    )
    structures = [labelled(index, (WATER, METHANE)[index % 2]) for index in range(64)]
    relevances = []
    for begin in range(0, 64, 16):
        learner.process_tick(structures[begin : begin + 16])
        relevances.append({z: of_z.relevance for z, of_z in learner.ensemble.linear.features.items()})
    even, first, second, last = relevances
    assert len(found) == 6
    for z, by_first, by_second in zip((1, 6, 8), found[:3], found[3:], strict=True):
        assert float((by_first / even[z]).log().abs().max()) > 0.5
        torch.testing.assert_close(first[z], by_first, rtol=0.1, atol=0.0)
        torch.testing.assert_close(second[z], (first[z] * by_second).sqrt(), rtol=0.1, atol=0.0)
        assert torch.equal(last[z], second[z])


def two_draws(monkeypatch: pytest.MonkeyPatch) -> Learner:
    """A learner that remembers 60 structures and draws its features after 32 and after 40."""
    monkeypatch.setattr(ridge_module, "RIPE", (32, 40))
    monkeypatch.setattr(ridge_module, "FEWEST", (32, 40))
    return Learner(
        config_of(
            learning={"records_per_tick": 8, "steps_per_record": 0.0},
            rehearsal={"capacity": 60, "holdout_share": 0.0},
            quarantine={"enabled": False},
            potential={"members": 1, "dtype": "float64", "linear_features": 40},
        )
    )


def n_redrawn(learner: Learner) -> int:
    return learner._trainer.linear_fit._ridge.n_redrawn


def test_what_comes_at_once_draws_features_twice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = two_draws(monkeypatch)
    structures = [labelled(index, (WATER, METHANE)[index % 2]) for index in range(40)]
    learner.process_tick(structures)
    assert n_redrawn(learner) == 2
    assert_sums_are_those_of(structures, learner)


def test_an_element_that_comes_between_two_draws_and_a_learner_restored_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = two_draws(monkeypatch)
    structures = [labelled(index, (WATER, METHANE)[index % 2]) for index in range(32)]
    learner.process_tick(structures)
    assert n_redrawn(learner) == 1
    restored = Learner.restore(learner._config, learner.state_dict())
    ammonias = [labelled(index, AMMONIA) for index in range(8)]
    late = [labelled(index, WATER) for index in range(100, 108)]
    for one in (learner, restored):
        one.process_tick(ammonias[:4])
        assert n_redrawn(one) == 1
        one.process_tick(ammonias[4:])
        assert n_redrawn(one) == 2
        one.process_tick(late)
    assert_equal_states(learner, restored)
    assert_sums_are_those_of([*structures, *ammonias, *late], learner)


@pytest.mark.parametrize(("n_waiting", "is_redrawn"), [(0, False), (4, False), (5, True)])
def test_what_waits_may_come_before_features_can_be_drawn_again(
    monkeypatch: pytest.MonkeyPatch, n_waiting: int, is_redrawn: bool
) -> None:
    learner = two_draws(monkeypatch)
    monkeypatch.setattr(ridge_module, "RIPE", (100, 100))
    monkeypatch.setattr(Learner, "n_quarantined", n_waiting)
    learner.process_tick([labelled(index, (WATER, METHANE)[index % 2]) for index in range(48)])
    assert (n_redrawn(learner) > 0) is is_redrawn


def test_a_learner_read_from_a_checkpoint_fits_a_part_of_many_elements_bit_for_bit_alike(tmp_path: Path) -> None:
    shapes = [(16, 1, 1), METHANE, WATER, AMMONIA, (9, 1, 1), (15, 1, 1), (17, 1, 1)]
    config = config_of(
        potential={"members": 1, "linear_features": 6, "dtype": "float64"},
        learning={"steps_per_record": 0.5},
        quarantine={"enabled": False},
        rehearsal={"holdout_share": 0.0},
    )
    ticks = [[labelled_like(index, shape) for index in range(4)] for shape in shapes]
    learner = Learner(config)
    for tick in ticks:
        learner.process_tick(tick)
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(learner.state_dict(), {})
    restored = Learner.restore(config, checkpoints.restore().state)
    for one in (learner, restored):
        one.process_tick([labelled_like(100, shapes[0])])
    assert_equal_states(learner, restored)


def assert_sums_are_those_of(structures: Sequence[LabelledStructure], learner: Learner) -> None:
    batch = learner._collated(structures)
    ridge = Ridge(learner._config.learning, learner._trainer.linear_fit._ridge.expected)
    above = batch.energy - learner.ensemble.baseline.energy(batch.composition)
    ridge.add(batch, above, learner.ensemble.linear.features)
    summed = learner._trainer.linear_fit._ridge.state_dict()
    for name, array in ridge.state_dict().items():
        if name != "counts":
            np.testing.assert_allclose(summed[name], array, rtol=1e-6, atol=1e-6, err_msg=name)


def unevenness(features: Features) -> float:
    return float(features.relevance.std() / features.relevance.mean())


def labelled_like(index: int, numbers: tuple[int, ...]) -> LabelledStructure:
    """As `labelled`, for water with another element in the place of oxygen too."""
    known = numbers if numbers in (WATER, METHANE, AMMONIA) else WATER
    structure = labelled(index, known)
    return replace(structure, atomic_numbers=np.array(numbers), id=f"{numbers}/{index}", group=f"{numbers}/{index}")
