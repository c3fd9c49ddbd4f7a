"""Labels of unknown elements are let in once others of these elements say that their energies can be right."""

from dataclasses import replace

import numpy as np
import pytest

from lmlp_stream.atoms.batch import composition_of
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.config import QuarantineConfig
from lmlp_stream.learning.learner import Learner
from lmlp_stream.learning.strangers import PATIENCE, Strangers, supported
from lmlp_stream.potential.baseline import Baseline
from tests.unit.learning.structures import METHANE, WATER, labelled
from tests.unit.learning.test_learner import assert_equal_states, config_of

HARTREE = 27.211386
ENERGIES = {1: -13.6, 6: -1030.0, 8: -2041.0}


def energy_of(index: int, numbers: tuple[int, ...], unit: float) -> float:
    """Close to the sum over the atoms, in another unit perhaps."""
    binding = float(np.random.default_rng(index).uniform(-0.1, 0.1)) * len(numbers)
    return (sum(ENERGIES[z] for z in numbers) + binding) / unit


def molecule(index: int, numbers: tuple[int, ...] = WATER, unit: float = 1.0) -> LabelledStructure:
    return replace(labelled(index, numbers), energy=energy_of(index, numbers, unit))


def composed(index: int, numbers: tuple[int, ...], unit: float = 1.0) -> LabelledStructure:
    """Atoms in a row: of this structure the composition matters alone."""
    positions = np.outer(np.arange(len(numbers)), [1.2, 0.0, 0.0])
    changes = {"positions": positions, "forces": np.zeros_like(positions), "energy": energy_of(index, numbers, unit)}
    return replace(labelled(index), id=f"{numbers}/{index}", atomic_numbers=np.array(numbers), **changes)


def passing(strangers: Strangers, *new: LabelledStructure, known: Baseline | None = None) -> list[str]:
    """Ids of the structures that go on, where `known` covers what can be predicted."""

    def covers(structure: LabelledStructure) -> bool:
        return known is not None and known.covers(composition_of(structure.atomic_numbers))

    return [structure.id for structure in strangers.passing(new, covers, known or Baseline({}))]


@pytest.fixture
def strangers() -> Strangers:
    return Strangers(QuarantineConfig())


def test_labels_that_agree_support_one_another():
    assert supported([molecule(0), molecule(1)], Baseline({})) == [True, True]


def test_one_in_another_unit_is_not_supported():
    wrong = molecule(2, unit=HARTREE)
    some = [molecule(0), molecule(1), wrong, molecule(3)]
    assert supported(some, Baseline({})) == [True, True, False, True]


def test_compositions_support_one_another_by_their_elements():
    some = [(1, 1, 8), (1, 1, 6), (1, 6, 8), (1, 1, 1, 6, 8), (6, 6, 1, 8), (1, 1, 6, 6), (8, 8, 1, 6)]
    structures = [composed(index, numbers) for index, numbers in enumerate(some)]
    structures[3] = composed(3, some[3], HARTREE)
    assert supported(structures, Baseline({})) == [True] * 3 + [False] + [True] * 3


def test_given_energies_of_free_atoms_leave_a_binding_energy_in_common():
    given = Baseline({z: energy + 7.0 for z, energy in ENERGIES.items()})
    some = [molecule(0), molecule(1), molecule(2), molecule(3, unit=HARTREE)]
    assert supported(some, given) == [True, True, True, False]


def test_a_single_stranger_waits_for_a_second_one(strangers: Strangers):
    first, second = molecule(0), molecule(1)
    assert passing(strangers, first) == []
    assert passing(strangers, second) == [first.id, second.id]
    assert len(strangers) == 0


def test_a_wrong_stranger_waits_until_it_can_be_predicted(strangers: Strangers):
    wrong, others = molecule(0, unit=HARTREE), [molecule(index) for index in range(1, 4)]
    assert passing(strangers, wrong, *others) == [other.id for other in others]
    known = Baseline({})
    known.fit(others)
    assert passing(strangers, molecule(4), known=known) == [wrong.id, molecule(4).id]


def test_what_nothing_supports_is_let_in_some_time(strangers: Strangers):
    known = Baseline({1: -13.6, 8: -2041.0})
    alone = molecule(0, METHANE)
    assert passing(strangers, alone, known=known) == []
    waited = [passing(strangers, molecule(index), known=known) for index in range(1, PATIENCE + 1)]
    assert [alone.id in some for some in waited] == [False] * (PATIENCE - 1) + [True]


def test_vouched_labels_and_labels_without_energy_do_not_wait(strangers: Strangers):
    some = [replace(molecule(0), vouched=True), replace(molecule(1), energy=np.nan)]
    assert passing(strangers, *some) == [structure.id for structure in some]


def test_nobody_waits_where_the_quarantine_is_closed():
    assert passing(Strangers(QuarantineConfig(enabled=False)), molecule(0)) == [molecule(0).id]


def test_of_too_many_strangers_the_oldest_go_on():
    strangers = Strangers(QuarantineConfig(capacity=1))
    some = [composed(0, (1, 8)), composed(1, (6, 6, 8))]
    assert passing(strangers, *some) == [some[0].id]


def test_strangers_go_on_bit_for_bit_from_their_state(strangers: Strangers):
    passing(strangers, molecule(0))
    other = Strangers(QuarantineConfig())
    other.load_state_dict(strangers.state_dict())
    first, second = strangers.state_dict(), other.state_dict()
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    assert passing(other, molecule(1)) == passing(strangers, molecule(1)) == [molecule(0).id, molecule(1).id]


CONFIG = config_of(potential={"hidden": (8,), "members": 2, "linear_features": 20}, rehearsal={"holdout_share": 0.0})


def test_a_first_label_in_hartree_does_not_set_the_reference_energies():
    ticks = [[molecule(0, unit=HARTREE), molecule(1)], [molecule(2), molecule(3)], [molecule(4)]]
    learner = Learner(CONFIG)
    reports = [learner.process_tick(tick) for tick in ticks]
    assert [(report.n_learned, report.n_waiting) for report in reports] == [(0, 2), (3, 1), (1, 1)]
    assert [structure.id for structure in learner.quarantined] == [molecule(0).id]
    assert learner.assess().prequential.energy_mae < 1.0


def test_stopping_changes_no_bit_while_strangers_wait():
    ticks = [[molecule(0, unit=HARTREE)], [molecule(1)], [molecule(2), molecule(3)], [molecule(4, METHANE)]]
    through, stopped = Learner(CONFIG), Learner(CONFIG)
    for tick in ticks:
        through.process_tick(tick)
        stopped = Learner.restore(CONFIG, stopped.state_dict())
        stopped.process_tick(tick)
    assert_equal_states(stopped, through)
