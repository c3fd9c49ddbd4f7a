"""The learner as a fold: what a tick does, and that stopping anywhere changes no bit."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from lmlp_stream.config import Config, parse_config
from lmlp_stream.errors import ConfigError
from lmlp_stream.learning.conformal import held_out_intervals
from lmlp_stream.learning.learner import Learner
from tests.unit.learning.structures import AMMONIA, METHANE, WATER, labelled


def config_of(**sections: dict[str, object]) -> Config:
    tree: dict[str, dict[str, object]] = {
        "symmetry": {"preset": "published", "cutoff": 4.0},
        "potential": {"members": 3, "hidden": (8, 6), "linear_features": 40, "device": "cpu"},
        "learning": {"steps_per_record": 1.5, "batch_size": 6, "max_steps_per_tick": 20},
        "rehearsal": {"capacity": 25, "holdout_share": 0.25, "holdout_capacity": 12},
        "evaluation": {"window": 20, "min_labels": 5},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section
    return parse_config(tree, place="test")


def stream() -> list[list]:
    """Ticks of unequal length, with duplicates and elements that come later."""
    waters, methanes, ammonias = (
        [labelled(index, shape) for index in range(24)] for shape in (WATER, METHANE, AMMONIA)
    )
    return [
        waters[:7],
        waters[5:9],
        [],
        methanes[:6] + waters[9:12],
        methanes[6:7],
        ammonias[:9] + methanes[7:12],
        waters[12:18],
        waters[:3],
        ammonias[9:16],
    ]


def learn(learner: Learner, ticks: list[list]) -> Learner:
    for tick in ticks:
        learner.process_tick(tick)
    return learner


def assert_equal_states(one: Learner, other: Learner) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.dtype == second[name].dtype, name
        assert array.shape == second[name].shape, name
        assert array.tobytes() == second[name].tobytes(), name


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("core", [{}, {"score_history": 5, "frozen": 0.1}], ids=["plain", "plasticity"])
def test_restored_after_every_tick_it_ends_bit_for_bit_where_it_would_have(dtype, core):
    config = config_of(potential={"dtype": dtype}, core=core)
    through = learn(Learner(config), stream())
    stopped = Learner(config)
    for tick in stream():
        stopped = Learner.restore(config, stopped.state_dict())
        stopped.process_tick(tick)
    assert_equal_states(through, stopped)


def test_restored_from_any_tick_it_ends_bit_for_bit_where_it_would_have():
    config, ticks = config_of(), stream()
    through, states = Learner(config), []
    for tick in ticks:
        states.append(through.state_dict())
        through.process_tick(tick)
    for n_ticks, state in enumerate(states):
        assert_equal_states(through, learn(Learner.restore(config, state), ticks[n_ticks:]))


def test_a_state_does_not_change_when_the_learner_goes_on():
    learner = learn(Learner(config_of()), stream()[:3])
    state = learner.state_dict()
    before = {name: array.tobytes() for name, array in state.items()}
    learn(learner, stream()[3:])
    assert {name: array.tobytes() for name, array in state.items()} == before


def test_descriptors_that_were_dropped_change_no_bit():
    ample = learn(Learner(config_of()), stream())
    for cache_bytes in (0, 100_000):
        assert_equal_states(ample, learn(Learner(config_of(learning={"cache_bytes": cache_bytes})), stream()))


def test_the_global_random_state_plays_no_part():
    one = learn(Learner(config_of()), stream()[:4])
    torch.rand(17)
    np.random.default_rng(0).random(5)
    before = torch.random.get_rng_state()
    other = learn(Learner(config_of()), stream()[:4])
    assert torch.equal(before, torch.random.get_rng_state())
    assert_equal_states(one, other)


def test_another_seed_is_another_potential():
    one, other = (
        learn(Learner(config_of(rehearsal={"holdout_share": 0.0}, **seed)), stream()[:1]) for seed in ({}, {})
    )
    assert_equal_states(one, other)
    third = learn(Learner(config_of().model_copy(update={"seed": 5})), stream()[:1])
    weight = "ensemble.element.8.weight_0"
    assert not np.array_equal(one.state_dict()[weight], third.state_dict()[weight])


def test_a_duplicate_id_is_learned_once():
    learner = Learner(config_of(rehearsal={"holdout_share": 0.0}))
    first = learner.process_tick([labelled(0), labelled(1), labelled(0)])
    second = learner.process_tick([labelled(1)])
    assert (first.named()["n_learned"], first.n_duplicates) == (2, 1)
    assert (second.named()["n_learned"], second.n_duplicates, len(second.steps)) == (0, 1, 0)
    assert learner.labels_learned == 2


def test_an_id_is_forgotten_when_enough_newer_ones_came():
    learner = Learner(config_of(learning={"remembered_ids": 4}, rehearsal={"holdout_share": 0.0}))
    learner.process_tick([labelled(index) for index in range(5)])
    assert learner.process_tick([labelled(4)]).n_duplicates == 1
    assert learner.process_tick([labelled(0)]).n_duplicates == 0


def test_steps_are_bought_by_learned_labels_with_fractions_carried_over():
    learner = Learner(config_of(rehearsal={"holdout_share": 0.0}, learning={"steps_per_record": 0.4}))
    assert [len(learner.process_tick([labelled(index)]).steps) for index in range(10)] == [0, 0, 1, 0, 1, 0, 0, 1, 0, 1]
    assert learner.n_steps == 4


def test_a_backlog_is_not_paid_for_with_debt():
    learner = Learner(config_of(rehearsal={"holdout_share": 0.0}, learning={"max_steps_per_tick": 3}))
    assert len(learner.process_tick([labelled(index) for index in range(10)]).steps) == 3
    assert len(learner.process_tick([]).steps) == 0


def test_what_is_held_out_is_never_learned_and_buys_no_step():
    learner = Learner(config_of(rehearsal={"holdout_share": 1.0, "holdout_capacity": 5}))
    report = learner.process_tick([labelled(index) for index in range(8)])
    assert report.named()["n_held_out"] == 8
    assert (report.steps, learner.elements, learner.labels_learned) == ((), (), 0)
    assert (learner.n_held_out, learner.n_remembered) == (5, 0)


def test_arrivals_are_predicted_before_they_are_learned():
    learner = Learner(config_of(rehearsal={"holdout_share": 0.0}))
    assert all(arrival.errors is None for arrival in learner.process_tick([labelled(0), labelled(1)]).arrivals)
    restored = Learner.restore(config_of(rehearsal={"holdout_share": 0.0}), learner.state_dict()).ensemble
    report = learner.process_tick([labelled(2)])
    other = Learner(config_of())
    other._trainer.ensemble = restored
    (found,) = other._residuals([labelled(2)])
    assert report.arrivals[0].errors["energy_error"] == found.energy[0]
    assert report.arrivals[0].errors["force_squared"] == pytest.approx(np.square(found.forces).sum())


def test_unseen_elements_and_compositions_do_not_pollute_the_errors():
    learner = Learner(config_of(rehearsal={"holdout_share": 0.0}))
    learner.process_tick([labelled(0, WATER), labelled(1, WATER)])
    report = learner.process_tick([labelled(0, METHANE), labelled(1, METHANE), labelled(2, WATER)])
    assert [arrival.errors is None for arrival in report.arrivals] == [True, True, False]
    assert report.named()["n_not_examinable"] == 2
    assert report.new_elements == (6,)
    assert learner.elements == (1, 6, 8)


def test_networks_of_a_new_element_leave_the_errors_on_the_others_as_they_were():
    config = config_of(
        potential={"dtype": "float64", "linear_features": 0},
        rehearsal={"holdout_share": 0.0},
        learning={"steps_per_record": 0.0},
    )
    known = [labelled(index, WATER) for index in range(30, 40)]
    learner = learn(Learner(config), [[labelled(0, WATER), labelled(1, WATER)]])
    (before,) = learner._residuals(known)
    report = learner.process_tick([labelled(index, shape) for index in range(20) for shape in (METHANE, AMMONIA)])
    (after,) = learner._residuals(known)
    assert report.new_elements == (6, 7)
    for field in fields(before):
        found, expected = getattr(after, field.name), getattr(before, field.name)
        assert np.asarray(found) == pytest.approx(np.asarray(expected), rel=1e-9, nan_ok=True), field.name


def test_a_linear_part_that_learns_new_elements_predicts_the_others_no_worse():
    config = config_of(
        potential={"dtype": "float64", "linear_share": 1.0, "linear_features": 800},
        rehearsal={"holdout_share": 0.0, "capacity": 0},
        learning={"steps_per_record": 0.0},
    )
    known = [labelled(index, WATER) for index in range(30, 40)]
    learner = learn(Learner(config), [[labelled(index, WATER) for index in range(20)]])
    (before,) = learner._residuals(known)
    learner.process_tick([labelled(index, shape) for index in range(20) for shape in (METHANE, AMMONIA)])
    (after,) = learner._residuals(known)
    assert np.square(after.forces).mean() < 2 * np.square(before.forces).mean()
    assert np.square(after.forces).mean() < 0.01 * np.square(known[0].forces).mean()


def test_it_does_not_matter_in_how_few_atoms_an_element_came_first():
    config = config_of(rehearsal={"holdout_share": 0.0}, learning={"steps_per_record": 0.0})
    atoms = [labelled(index, WATER) for index in range(33)]
    little, much = Learner(config), Learner(config)
    learn(little, [atoms[:1], *([item] for item in atoms[1:32])])
    learn(much, [atoms[:32]])
    for name in ("shift", "scale"):
        one, other = (learner.ensemble.parameters[8][name].detach().numpy() for learner in (little, much))
        assert one == pytest.approx(other, rel=1e-4), name
    assert little.ensemble.parameters[8]["scale"].max() > 1.5


def test_the_error_falls_as_labels_are_learned():
    config = config_of(
        symmetry={"preset": "shifted"},
        learning={"steps_per_record": 10.0, "max_steps_per_tick": 200},
        rehearsal={"holdout_share": 0.0, "capacity": 100},
    )
    learner = Learner(config)
    reports = [learner.process_tick([labelled(8 * tick + place) for place in range(8)]) for tick in range(8)]
    first, last = (report.rows["force_squared"].sum() for report in (reports[1], reports[-1]))
    assert last < first / 4
    assert learner.assess().prequential.n_structures == 20


def test_the_steps_can_be_watched():
    seen: list[object] = []
    report = Learner(config_of()).process_tick([labelled(index) for index in range(6)], seen.append)
    assert tuple(seen) == report.steps
    assert seen


def test_the_first_snapshot_waits_for_labels_and_a_later_one_for_what_was_known():
    learner = Learner(config_of(rehearsal={"holdout_share": 0.3}))
    assert learner.assess().reasons == ("few_labels",)
    learn(learner, [[labelled(index) for index in range(24)], [labelled(index) for index in range(24, 48)]])
    good = learner.assess()
    assert good.admissible
    assert good.held
    learner.note_announced(good)
    with torch.no_grad():
        for parameters in learner.ensemble.parameters.values():
            parameters["weight_2"] *= 50
    assert learner.assess().reasons == ("regression",)
    restored = Learner.restore(config_of(rehearsal={"holdout_share": 0.3}), learner.state_dict())
    assert restored.assess() == learner.assess()


def test_assessing_changes_nothing():
    learner = learn(Learner(config_of()), stream()[:4])
    other = learn(Learner(config_of()), stream()[:4])
    other.assess()
    assert_equal_states(learner, other)


def test_intervals_go_by_the_groups_that_are_held_out():
    learner = Learner(config_of(rehearsal={"holdout_share": 0.5, "holdout_capacity": 100}))
    found = [labelled(index) for index in range(80)] + [labelled(index, METHANE, group="") for index in range(40)]
    for first in range(0, len(found), 8):
        learner.process_tick(found[first : first + 8])
    held_out = list(learner._memory.hold_out)
    examined, steady = list(learner._residuals(held_out)), learner._conformal.steady
    by_group, one_by_one = (
        held_out_intervals(examined, groups, steady)
        for groups in ([item.group or item.id for item in held_out], [item.id for item in held_out])
    )
    assert learner.assess().intervals == by_group != one_by_one


def test_the_named_report_is_plain_values():
    report = learn(Learner(config_of()), stream()[:1]).process_tick([labelled(30), labelled(0, AMMONIA)]).named()
    assert report["n_new"] == 2
    assert set(report["elements"]) >= {"H", "O"}
    assert {arrival["domain"] for arrival in report["arrivals"]} == {str(WATER), str(AMMONIA)}
    assert isinstance(report["arrivals"][0]["force_squared_error_sum"], float)


def test_given_atomic_energies_are_used_and_unknown_symbols_refused():
    learner = Learner(config_of(potential={"atomic_energies": {"H": -13.6, "O": -870.4}}))
    assert learner.ensemble.baseline.covers(np.eye(119)[8])
    with pytest.raises(ConfigError, match="'Hx' is no element"):
        Learner(config_of(potential={"atomic_energies": {"Hx": -1.0}}))
