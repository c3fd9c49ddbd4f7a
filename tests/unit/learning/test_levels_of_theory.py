"""Labels of further levels of theory are learned beside the main one, and never poison it."""

from collections.abc import Sequence
from dataclasses import replace
from math import nan
from typing import Any

import numpy as np
import pytest

from lmlp_stream.atoms.batch import collate, composition_of
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.errors import ConfigError
from lmlp_stream.learning import ridge
from lmlp_stream.learning.evaluation import Withheld
from lmlp_stream.learning.learner import Learner
from lmlp_stream.service.teller import provenance_of
from lmlp_stream.store.snapshot import load, manifest_of, publish
from lmlp_stream.wire.examples import EXAMPLE_LIMITS
from lmlp_stream.wire.record import decode, encode
from tests.unit.learning.structures import AMMONIA, METHANE, WATER, labelled
from tests.unit.learning.test_learner import assert_equal_states, config_of

ATOMIC_SHIFTS = {1: -13.0, 6: 900.0, 7: 40.0, 8: -2000.0}
"""Difference between the levels for each atom, eV."""
STEEPER = 1.5
"""Energies above those of free atoms and forces of the further level, in those of the main one."""
LIMITS = replace(EXAMPLE_LIMITS, level_of_theory="A", further_levels=("B",), max_net_force=100.0)
WIRE = {"level_of_theory": "A", "further_levels": ["B"]}


def at(level: str, structure: LabelledStructure, shift: float = 0.0, steeper: float = 1.0) -> LabelledStructure:
    """The structure as it comes through the door, labelled at another level."""
    free = -13.6 * float(np.sum(structure.atomic_numbers**2))
    energy = free + steeper * (structure.energy - free)
    energy += shift * sum(ATOMIC_SHIFTS[int(z)] for z in structure.atomic_numbers)
    changes = {"id": f"{structure.id} at {level}", "level_of_theory": level, "energy": energy}
    let_in = decode(encode(replace(structure, **changes, forces=steeper * structure.forces)), LIMITS)
    assert isinstance(let_in, LabelledStructure), let_in
    return let_in


def learner_of(
    seed: int = 0, *, holdout_share: float = 0.0, dtype: str = "float32", capacity: int = 200, **potential: Any
) -> Learner:
    config = config_of(
        wire=WIRE,
        symmetry={"preset": "shifted"},
        potential={"hidden": (20, 16), "dtype": dtype, **potential},
        learning={"steps_per_record": 4.0, "max_steps_per_tick": 100},
        rehearsal={"holdout_share": holdout_share, "holdout_capacity": 40, "capacity": capacity},
    )
    return Learner(config.model_copy(update={"seed": seed}))


def learned(*streams: Sequence[LabelledStructure], seed: int = 0, dtype: str = "float32") -> Learner:
    """A learner to which the streams came side by side, four labels of each in a tick."""
    learner = learner_of(seed, dtype=dtype)
    for first in range(0, len(streams[0]), 4):
        learner.process_tick([item for stream in streams for item in stream[first : first + 4]])
    return learner


def shapes(n: int) -> list[LabelledStructure]:
    return [labelled(index, (WATER, METHANE)[index % 2]) for index in range(n)]


def squared_errors(learner: Learner, structures: list[LabelledStructure], head: int = 0) -> np.ndarray:
    """Mean square errors of energies in eV² and of force components in (eV/Å)²."""
    batch = collate([learner._memory.prepare(structure) for structure in structures])
    prediction = learner._trainer.folded(head).predict(batch)
    energy, forces = prediction.mean_energy - batch.energy, prediction.mean_forces - batch.forces
    return np.array([float(energy.square().mean()), float(forces.square().mean())])


def test_the_main_level_is_learned_as_well_beside_another_one_and_both_are():
    main, test = (
        [at("A", item) for item in shapes(40)],
        [labelled(100 + item, shape) for item in range(10) for shape in (WATER, METHANE)],
    )
    other = [at("B", replace(item, id=f"B {item.id}"), 1.0, STEEPER) for item in shapes(40)]
    at_b = [at("B", item, 1.0, STEEPER) for item in test]
    alone, beside, further = np.zeros((3, 2))
    for seed in range(3):
        alone += squared_errors(learned(main, seed=seed), test) / 3
        together = learned(main, other, seed=seed)
        beside += squared_errors(together, test) / 3
        further += squared_errors(together, at_b, head=1) / 3
    assert np.sqrt(beside[1]) < 1.05 * np.sqrt(alone[1])
    assert np.sqrt(beside[0]) < 1.25 * np.sqrt(alone[0]), "one seed scatters by a third"
    of_saying_nothing = np.mean([np.mean(item.forces**2) for item in at_b])
    assert further[1] < 0.2**2 * of_saying_nothing
    assert further[0] < 0.3**2, "free atoms lie thousands of eV apart"


def test_how_far_the_free_atoms_of_another_level_lie_apart_does_not_matter():
    main, test = [at("A", item) for item in shapes(16)], shapes(4)
    near, far = (
        squared_errors(learned(main, [at("B", item, shift) for item in shapes(16)], dtype="float64"), test)
        for shift in (0.0, 1.0)
    )
    np.testing.assert_allclose(near, far, rtol=1e-4)


def test_what_is_told_is_told_of_the_main_level_alone():
    learner = learner_of()
    for first in range(0, 24, 4):
        some = shapes(24)[first : first + 4]
        report = learner.process_tick(
            [*(at("A", item) for item in some), *(at("B", item, 1.0, STEEPER) for item in some)]
        )
        predicted = [arrival.errors is not None for arrival in report.arrivals]
        assert predicted == ([first > 0] * 4 + [False] * 4)
    assert learner.prequential.n_structures == 20
    assert learner.n_quarantined == 0


def test_labels_of_another_level_are_all_learned_and_never_held_out():
    learner = learner_of(holdout_share=0.5)
    main, other = ([at(level, item) for item in shapes(64)] for level in "AB")
    for first in range(0, 64, 8):
        learner.process_tick([*main[first : first + 8], *other[first : first + 8]])
    held, remembered = {item.id for item in learner._memory.hold_out}, {item.id for item in learner.remembered}
    assert {id_[-1] for id_ in held} == {"A"}
    assert {item.id for item in other} <= remembered
    assert learner.assess().held.keys() == held


def test_features_of_the_linear_part_are_drawn_again_beside_another_level(monkeypatch):
    monkeypatch.setattr(ridge, "RIPE", (32, 32))
    monkeypatch.setattr(ridge, "FEWEST", (32, 32))
    streams = [[at(level, item) for item in shapes(36)] for level in "AB"]
    fits = [learned(*some)._trainer.linear_fit._ridge for some in (streams[:1], streams)]
    assert [fit.n_redrawn for fit in fits] == [2, 2]
    assert [fit._n_structures for fit in fits] == [36, 36]


def test_they_are_drawn_again_in_time_where_another_level_fills_the_memory(monkeypatch):
    monkeypatch.setattr(ridge, "RIPE", (96, 96))
    learner, main = learner_of(), [at("A", item) for item in shapes(48)]
    other = [at("B", labelled(index, METHANE), 1.0, STEEPER) for index in range(1000, 1192)]
    for first in range(0, 48, 4):
        learner.process_tick([*main[first : first + 4], *other[4 * first : 4 * first + 16]])
    assert learner._trainer.linear_fit._ridge.n_redrawn == 1


def test_an_element_that_another_level_brings_is_unknown_until_the_main_one_brings_it():
    learner = learned([at("A", item) for item in shapes(8)], [at("B", labelled(i, AMMONIA), 1.0) for i in range(8)])
    assert learner.elements == (1, 6, 8)
    assert learner._trainer.covers(1, AMMONIA)
    learner = Learner.restore(learner._config, learner.state_dict())
    assert learner.elements == (1, 6, 8)
    report = learner.process_tick([at("A", labelled(index, AMMONIA)) for index in range(20, 24)])
    assert report.new_elements == (7,)
    assert learner.elements == (1, 6, 7, 8)
    assert learner.ensemble.determines(np.array(AMMONIA))


def test_of_another_level_alone_nothing_is_told():
    learner = learned([at("B", item, 1.0) for item in shapes(24)])
    report = learner.assess()
    assert learner.elements == ()
    assert learner.labels_learned == 24
    assert Withheld.FEW_LABELS in report.reasons


def test_labels_of_another_level_do_not_make_a_snapshot_admissible():
    learner = learned([at("B", item, 1.0) for item in shapes(24)])
    learner.process_tick([at("A", item) for item in shapes(4)])
    assert learner.elements == (1, 6, 8)
    learner = Learner.restore(learner._config, learner.state_dict())
    assert learner.assess().reasons == (Withheld.FEW_LABELS,)
    learner.process_tick([at("A", item) for item in shapes(8)])
    assert learner.assess().reasons == ()


@pytest.mark.parametrize("comes", ["first", "late"])
def test_where_free_atoms_are_given_another_level_disturbs_the_main_one_neither(comes: str):
    free = {symbol: -13.6 * z**2 + 4.0 for symbol, z in (("H", 1), ("C", 6), ("O", 8))}
    main, test = [at("A", item) for item in shapes(40)], shapes(60)[50:]
    other = [at("B", labelled(200 + index, (WATER, METHANE)[index % 2]), 1.0) for index in range(40)]
    errors = []
    for streams in ((main,), (other, main) if comes == "first" else (main, other)):
        learner = learner_of(atomic_energies=free)
        for stream in streams:
            for first in range(0, 40, 4):
                learner.process_tick(stream[first : first + 4])
        assert learner.n_quarantined == 0
        errors.append(np.sqrt(squared_errors(learner, test)))
    assert (errors[1] < 1.5 * errors[0]).all()


def test_forces_alone_of_another_level_are_judged_too():
    learner = learned([at("A", item) for item in shapes(64)], [at("B", replace(i, energy=nan)) for i in shapes(64)])
    wrong = replace(labelled(90), energy=nan, forces=-20.0 * labelled(90).forces)
    learner.process_tick([replace(wrong, id="wrong", level_of_theory="B")])
    assert [structure.id for structure in learner.quarantined] == ["wrong"]


def test_how_the_main_level_is_judged_does_not_depend_on_another_one():
    wrong = at("A", labelled(0, energy=27.2 * labelled(0).energy))
    learner = learner_of()
    learner.process_tick([wrong])
    for first in range(0, 128, 16):
        learner.process_tick([at("B", labelled(index, WATER), 1.0) for index in range(first, first + 16)])
    assert [structure.id for structure in learner.quarantined] == [wrong.id]
    learner.process_tick([at("A", labelled(index)) for index in range(1, 9)])
    assert learner.ensemble.baseline.above(*energies_of([at("A", labelled(3))])) == pytest.approx(0.0, abs=10.0)


def energies_of(structures: list[LabelledStructure]) -> tuple[np.ndarray, np.ndarray]:
    energies = np.array([structure.energy for structure in structures])
    return energies, np.array([composition_of(structure.atomic_numbers) for structure in structures])


def test_a_memory_keeps_what_two_levels_say_of_equal_geometries():
    learner = learner_of(capacity=70)
    for level in "BA":
        for first in range(0, 60, 4):
            learner.process_tick([at(level, item) for item in shapes(60)[first : first + 4]])
    kept = [structure.level_of_theory for structure in learner.remembered]
    assert 25 < kept.count("A") < 45


def test_a_level_may_have_a_long_name():
    name = 256 * "x"
    config = config_of(wire={"level_of_theory": "A", "further_levels": [name]})
    learner = Learner(config)
    learner.process_tick([replace(item, level_of_theory=name) for item in shapes(4)])
    assert learner.n_remembered == 4


@pytest.mark.parametrize("levels", [["B", "B"], [""], [257 * "x"]])
def test_levels_that_no_announcement_could_name_are_refused(levels: list[str]):
    with pytest.raises(ConfigError, match="further_levels"):
        config_of(wire={"further_levels": levels})


def test_restored_between_ticks_it_ends_bit_for_bit_where_it_would_have():
    through, stopped = learner_of(), learner_of()
    for first in range(0, 24, 4):
        some = shapes(24)[first : first + 4]
        tick = [*(at("B", item, 1.0, STEEPER) for item in some[:3]), *(at("A", item) for item in some)]
        through.process_tick(tick)
        stopped = Learner.restore(learner_of()._config, stopped.state_dict())
        stopped.process_tick(tick)
    assert_equal_states(through, stopped)


def test_a_snapshot_predicts_the_main_level_and_says_which_others_were_learned(tmp_path):
    main = [at("A", item) for item in shapes(16)]
    learner = learned(main, [at("B", item, 1.0, STEEPER) for item in shapes(16)])
    config = config_of(wire={"level_of_theory": "A", "further_levels": ["B", "C"]})
    provenance = provenance_of(config, learner, learner.assess(), journal_position=1, parent_id="", created_at="now")
    manifest = publish(learner.ensemble, provenance, tmp_path)
    assert (manifest.level_of_theory, manifest.further_levels) == ("A", ("B", "C"))
    assert manifest.verified()
    assert manifest.id == manifest_of(learner.ensemble, provenance).id
    batch = collate([learner._memory.prepare(item) for item in main])
    loaded = load(f"{tmp_path}/{manifest.id}")[1]
    assert loaded.parameters[1]["weight_2"].shape[2] == 1
    np.testing.assert_array_equal(loaded.predict(batch).energy, learner.ensemble.predict(batch).energy)
