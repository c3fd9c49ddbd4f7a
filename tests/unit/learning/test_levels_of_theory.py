"""Labels of another level of theory help with their forces, and their energies change nothing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lmlp_stream.atoms.batch import collate
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.learning.learner import Learner
from lmlp_stream.service.teller import provenance_of
from lmlp_stream.store.snapshot import manifest_of
from lmlp_stream.wire.examples import EXAMPLE_LIMITS
from lmlp_stream.wire.record import decode, encode
from tests.unit.learning.structures import METHANE, WATER, labelled
from tests.unit.learning.test_learner import assert_equal_states, config_of

ATOMIC_SHIFTS = {1: -13.0, 6: 900.0, 8: -2000.0}
"""Difference between the levels for each atom, eV."""
LIMITS = replace(EXAMPLE_LIMITS, level_of_theory="A", forces_from=("B",), max_net_force=100.0)


def at(level: str, structure: LabelledStructure, shift: float = 0.0) -> LabelledStructure:
    """The structure as it comes through the door, labelled at a level whose atoms lie `shift` times apart."""
    energy = structure.energy + shift * sum(ATOMIC_SHIFTS[int(z)] for z in structure.atomic_numbers)
    identity = f"{structure.id} at {level}"
    let_in = decode(encode(replace(structure, id=identity, level_of_theory=level, energy=energy)), LIMITS)
    assert isinstance(let_in, LabelledStructure), let_in
    return let_in


def learned(*streams: Sequence[LabelledStructure], seed: int = 0, **settings: Any) -> Learner:
    """A learner to which the streams came side by side, four labels of each in a tick."""
    config = config_of(
        symmetry={"preset": "shifted"},
        learning={"steps_per_record": 4.0, "max_steps_per_tick": 100},
        rehearsal={"holdout_share": 0.0, "capacity": 200},
        **settings,
    )
    learner = Learner(config.model_copy(update={"seed": seed}))
    for first in range(0, len(streams[0]), 4):
        learner.process_tick([item for stream in streams for item in stream[first : first + 4]])
    return learner


def shapes(n: int) -> list[LabelledStructure]:
    return [labelled(index, (WATER, METHANE)[index % 2]) for index in range(n)]


def test_energies_of_another_level_change_no_bit():
    main = [at("A", item) for item in shapes(16)]
    states = [learned(main, [at("B", item, shift) for item in shapes(16)]) for shift in (0.0, 1.0)]
    assert_equal_states(*states)


def squared_errors(learner: Learner, structures: list[LabelledStructure]) -> tuple[float, float]:
    """Mean square errors of energies in eV² and of force components in (eV/Å)²."""
    batch = collate([learner._memory.prepare(structure) for structure in structures])
    prediction = learner.ensemble.predict(batch)
    energy, forces = prediction.mean_energy - batch.energy, prediction.mean_forces - batch.forces
    return float(energy.square().mean()), float(forces.square().mean())


def test_errors_are_as_good_beside_another_level_as_without_it():
    main = [at("A", item) for item in shapes(40)]
    other = [at("B", replace(item, id=f"B {item.id}"), 1.0) for item in shapes(40)]
    test = [labelled(index, shape) for index in range(100, 110) for shape in (WATER, METHANE)]
    alone, beside = (
        np.sqrt(np.mean([squared_errors(learned(*streams, seed=seed), test) for seed in range(3)], axis=0))
        for streams in ([main], [main, other])
    )
    assert (beside < 1.05 * alone).all(), "one seed scatters by a third"


def test_a_snapshot_says_which_levels_lent_their_forces():
    learner = learned([at("A", item) for item in shapes(8)])
    config = config_of(wire={"level_of_theory": "A", "forces_from": ["B", "C"]})
    provenance = provenance_of(config, learner, learner.assess(), journal_position=1, parent_id="", created_at="now")
    manifest = manifest_of(learner.ensemble, provenance)
    assert (manifest.level_of_theory, manifest.forces_from) == ("A", ("B", "C"))
    assert manifest.verified()
