"""The quarantine as judge: what waits, what is condemned, and what is a new region rather than an error."""

from dataclasses import replace

import numpy as np
import pytest

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.config import QuarantineConfig
from lmlp_stream.learning.evidence import EVIDENCE
from lmlp_stream.learning.learner import Learner
from lmlp_stream.learning.quarantine import AUDIT, EARLY, LATE, SOON, Quarantine, Waiting
from tests.unit.learning.structures import METHANE, WATER, labelled
from tests.unit.learning.test_learner import assert_equal_states, config_of

USUAL = {"energy": 0.004, "energy_std": 0.001, "force": 0.06, "force_std": 0.02, "flipped": 1.4, "size": 0.7}
USUAL |= {"net_force": 1e-9, "torque": 1e-9}
FIRST, TICK = 64, 8


def row(**changes: float) -> np.ndarray:
    """Evidence of a label that fits, but for the changes."""
    found = np.zeros(1, dtype=EVIDENCE)
    for name, value in (USUAL | changes).items():
        found[name] = value
    return found


class Study:
    """A quarantine in a stream of labels whose evidence is made up."""

    def __init__(self, **settings: object) -> None:
        self.quarantine = Quarantine(QuarantineConfig(**settings))
        self.n_arrived = 0
        self.released: set[str] = set()
        self.condemned: set[str] = set()

    def arrive(self, rows: np.ndarray, numbers: tuple[int, ...] = WATER, **changes: object) -> tuple[list, set[str]]:
        """Structures with this evidence, and which of them wait."""
        structures = [labelled(self.n_arrived + place, numbers, **changes) for place in range(len(rows))]
        self.n_arrived += len(rows)
        return structures, self.quarantine.arrived(structures, rows)

    def go_on(self, n_labels: int, now: np.ndarray | None = None, numbers: tuple[int, ...] = WATER) -> None:
        """Labels that fit arrive; what is due is judged by the evidence `now`."""
        for _ in range(0, n_labels, TICK):
            self.arrive(np.repeat(row(), TICK), numbers)
            due = self.quarantine.structures
            judgement = self.quarantine.judge(due, np.repeat(row() if now is None else now, len(due)))
            self.released |= {waited.structure.id for waited in judgement.released}
            self.condemned |= {one.structure.id for one in judgement.condemned}


@pytest.fixture
def study() -> Study:
    made = Study()
    made.go_on(FIRST)
    return made


UNFIT = {"energy": {"energy": 0.03}, "forces": {"force": 0.9}}
PLAIN = {
    "sign": {"force": 1.4, "flipped": 0.06},
    "unit": {"energy": 50.0},
    "net force": {"net_force": 0.05},
    "torque": {"torque": 0.05},
}


@pytest.mark.parametrize("what", UNFIT)
def test_a_label_that_does_not_fit_waits_and_is_condemned_when_it_still_does_not(study: Study, what: str):
    (wrong,), waiting = study.arrive(row(**UNFIT[what]))
    assert waiting == {wrong.id}
    study.go_on(EARLY[0] - TICK, row(**UNFIT[what]))
    assert len(study.quarantine) == 1
    study.go_on(LATE[0], row(**UNFIT[what]))
    assert study.condemned == {wrong.id}
    assert len(study.quarantine) == 0


def test_what_strains_the_limit_most_is_condemned_soon(study: Study):
    (wrong,), waiting = study.arrive(row(energy=0.2))
    assert waiting == {wrong.id}
    study.go_on(SOON[0], row(energy=0.2))
    assert study.condemned == {wrong.id}


@pytest.mark.parametrize("what", PLAIN)
def test_what_no_new_region_explains_is_condemned_with_the_next_labels(study: Study, what: str):
    (wrong,), waiting = study.arrive(row(**PLAIN[what]))
    assert waiting == {wrong.id}
    study.go_on(TICK, row(**PLAIN[what]))
    assert study.condemned == {wrong.id}


@pytest.mark.parametrize("what", PLAIN)
def test_a_kind_whose_labels_are_all_so_is_not_condemned(study: Study, what: str):
    study.arrive(np.repeat(row(**PLAIN[what]), 40))
    study.go_on(LATE[0], row(**PLAIN[what]))
    assert study.condemned == set()


def test_a_label_that_fits_after_more_of_its_kind_was_learned_is_released(study: Study):
    (strange,), waiting = study.arrive(row(energy=0.2))
    assert waiting == {strange.id}
    study.go_on(EARLY[0], row())
    assert (study.released, study.condemned) == ({strange.id}, set())


@pytest.mark.parametrize(
    "explained",
    [
        {"energy": 0.2, "energy_std": 0.15},
        {"energy": 0.05, "force": 1.0, "force_std": 0.4},
        {"force": 1.0, "size": 3.0},
    ],
    ids=["members that disagree", "forces that are off as well", "large forces"],
)
def test_errors_that_something_explains_are_learned_at_once(study: Study, explained: dict[str, float]):
    _, waiting = study.arrive(row(**explained))
    assert waiting == set()


def test_an_energy_that_is_off_where_forces_fit_waits(study: Study):
    (strange,), waiting = study.arrive(row(energy=0.05))
    assert waiting == {strange.id}


def test_a_region_that_strains_what_was_usual_is_learned_once_it_is_half_of_the_newest(study: Study):
    waiting = [study.arrive(np.repeat(row(energy=0.2, force=2.0), n_labels))[1] for n_labels in (4, TICK, TICK)]
    assert len(waiting[0]) == 4
    assert waiting[1:] == [set(), set()]
    study.go_on(EARLY[0])
    assert (len(study.released), study.condemned) == (4, set())


def test_a_kind_of_which_a_third_strains_what_is_usual_is_released(study: Study):
    for _ in range(20):
        study.arrive(np.concatenate([np.repeat(row(), 4), np.repeat(row(energy=0.2), 2)]))
    due = study.quarantine.structures
    judgement = study.quarantine.judge(due, np.repeat(row(energy=0.2), len(due)))
    assert len(due) > 10
    assert (len(judgement.released), judgement.condemned) == (len(due), ())


def test_a_new_kind_is_compared_with_itself(study: Study):
    _, waiting = study.arrive(np.concatenate([np.repeat(row(energy=0.3, force=2.0), 11), row(energy=60.0)]), METHANE)
    assert len(waiting) == 1


def test_a_kind_of_few_labels_is_never_condemned_for_its_errors(study: Study):
    (single,), waiting = study.arrive(row(energy=0.3, force=2.0), METHANE)
    assert waiting == {single.id}
    study.go_on(EARLY[1], row(energy=0.3, force=2.0))
    assert (study.released, study.condemned) == ({single.id}, set())


def test_a_vouched_label_is_not_judged(study: Study):
    _, waiting = study.arrive(row(energy=60.0), vouched=True)
    assert waiting == set()


def test_nothing_waits_where_the_quarantine_is_closed():
    study = Study(enabled=False)
    study.go_on(FIRST)
    assert study.arrive(row(energy=60.0))[1] == set()


def test_a_full_quarantine_judges_its_oldest_at_once():
    study = Study(capacity=3)
    study.go_on(FIRST)
    wrong, waiting = study.arrive(np.concatenate([np.repeat(row(energy=0.03), 5), np.repeat(row(), 45)]))
    assert len(waiting) == 5
    study.go_on(TICK, row(energy=0.03))
    assert study.condemned == {structure.id for structure in wrong[:2]}


def audit(study: Study, structures: list[LabelledStructure], rows: np.ndarray) -> list[LabelledStructure]:
    """What is recalled of structures that are due, all of them kept."""
    ids = [structure.id for structure in structures]
    assert study.quarantine.unaudited() == ids
    recalled = study.quarantine.audited(structures, rows)
    study.quarantine.is_audited(ids, set(ids))
    return recalled


def learned(study: Study, rows: np.ndarray) -> list[LabelledStructure]:
    """Structures that arrived with this evidence, were learned, and are due for their first audit."""
    structures, _ = study.arrive(rows)
    study.quarantine.learned(structures, unpredicted=set(), held_out=set())
    study.go_on(AUDIT[0])
    return structures


@pytest.mark.parametrize("members", [0.001, 0.2], ids=["members agree", "members disagree"])
def test_a_learned_label_is_recalled_where_others_of_its_kind_fit_better(study: Study, members: float):
    structures = learned(study, np.repeat(row(), 48))
    rows = np.concatenate([np.repeat(row(), 47), row(energy=0.03, energy_std=members)])
    assert audit(study, structures, rows) == structures[-1:]
    assert study.quarantine.unaudited() == []


def test_a_learned_label_is_audited_again_whenever_its_age_has_doubled(study: Study):
    structures = learned(study, np.repeat(row(), 16))
    for age in AUDIT[0], 2 * AUDIT[0], 4 * AUDIT[0]:
        assert audit(study, structures, np.repeat(row(), 16)) == []
        study.go_on(age - TICK)
        assert study.quarantine.unaudited() == []
        study.go_on(TICK)
    assert audit(study, structures, np.repeat(row(), 16)) == []


def test_what_is_kept_no_more_is_audited_no_more(study: Study):
    structures = learned(study, np.repeat(row(), 16))
    study.quarantine.is_audited([structure.id for structure in structures], {structures[0].id})
    study.go_on(AUDIT[0])
    assert study.quarantine.unaudited() == [structures[0].id]


def test_what_is_held_out_is_audited_only_where_it_could_not_be_judged_when_it_came(study: Study):
    structures, _ = study.arrive(np.repeat(row(), 16))
    ids = {structure.id for structure in structures}
    study.quarantine.learned(structures, unpredicted={structures[0].id}, held_out=ids)
    study.go_on(AUDIT[0])
    assert study.quarantine.unaudited() == [structures[0].id]


@pytest.mark.parametrize(("energy", "fate"), [(0.04, "condemned"), (0.01, "released")])
def test_what_was_recalled_is_judged_by_learned_labels_though_arrivals_were_off_by_more(energy: float, fate: str):
    study = Study()
    study.arrive(np.repeat(row(energy=0.05), FIRST))
    structures = learned(study, np.repeat(row(energy=0.05), 48))
    assert audit(study, structures, np.concatenate([np.repeat(row(), 47), row(energy=0.03)])) == structures[-1:]
    study.go_on(LATE[0], row(energy=energy))
    assert getattr(study, fate) == {structures[-1].id}


def test_what_was_learned_before_anything_could_be_judged_is_recalled_in_any_case():
    study = Study()
    structures, _ = study.arrive(np.repeat(row(), TICK))
    study.quarantine.learned(structures, unpredicted=set(), held_out=set())
    study.go_on(EARLY[1])
    assert study.quarantine.audited(structures, np.repeat(row(), TICK)) == structures


def test_what_was_recalled_waits_until_it_is_forgotten_though_it_fits(study: Study):
    structures, _ = study.arrive(row())
    study.quarantine.learned(structures, unpredicted={structures[0].id}, held_out=set())
    study.go_on(EARLY[1])
    study.quarantine.audited(structures, row())
    study.go_on(EARLY[0] - TICK)
    assert study.released == set()
    study.go_on(TICK)
    assert study.released == {structures[0].id}


def test_an_energy_that_no_chemistry_explains_waits_from_the_first_labels_on():
    study = Study()
    (*_, wrong), waiting = study.arrive(np.concatenate([np.repeat(row(energy=0.5), 7), row(energy=50.0)]))
    assert waiting == {wrong.id}


def test_an_energy_that_no_chemistry_explains_is_condemned_though_it_is_the_only_one_of_its_kind(study: Study):
    (single,), waiting = study.arrive(row(energy=50.0), METHANE)
    assert waiting == {single.id}
    study.go_on(LATE[1], row(energy=50.0))
    assert study.condemned == {single.id}


def test_a_quarantine_goes_on_bit_for_bit_from_its_state(study: Study):
    structures = learned(study, np.repeat(row(), 48))
    audit(study, structures, np.concatenate([np.repeat(row(), 47), row(energy=0.03)]))
    study.arrive(np.concatenate([row(energy=0.2), row(torque=1.0)]))
    other = Quarantine(QuarantineConfig())
    other.load_state_dict(study.quarantine.state_dict())
    first, second = study.quarantine.state_dict(), other.state_dict()
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    assert len(other) == 3
    study.go_on(LATE[0], row(energy=0.03))
    continued = Study()
    continued.quarantine, continued.n_arrived = other, study.n_arrived - LATE[0]
    continued.go_on(LATE[0], row(energy=0.03))
    assert continued.condemned == study.condemned


CONFIG = config_of(
    learning={"steps_per_record": 12.0, "max_steps_per_tick": 200, "energy_weight": 10.0},
    potential={"hidden": (16, 12), "members": 2, "linear_features": 20},
    rehearsal={"holdout_share": 0.0, "capacity": 300},
)
FLIPPED = replace(labelled(100), forces=-labelled(100).forces)


def ticks() -> list[list]:
    waters = [labelled(index) for index in range(200)]
    waters[100] = FLIPPED
    return [waters[first : first + 10] for first in range(0, 200, 10)]


def test_a_learner_condemns_a_flipped_gradient_and_learns_it_once_somebody_vouches_for_it():
    learner = Learner(CONFIG)
    reports = [learner.process_tick(tick) for tick in ticks()]
    assert [one.structure.id for report in reports for one in report.inconsistent] == [FLIPPED.id]
    again = replace(FLIPPED, vouched=True)
    assert learner.process_tick([FLIPPED]).n_duplicates == 1
    redriven = learner.process_tick([again])
    assert (redriven.n_learned, redriven.n_waiting) == (1, learner.process_tick([again]).n_waiting)
    assert learner.process_tick([again]).n_duplicates == 1


def test_a_learner_audits_nothing_that_is_held_out_and_was_judged_though_it_waited():
    learner = Learner(config_of(rehearsal={"holdout_share": 0.5}, learning={"steps_per_record": 2.0}))
    structures = [labelled(index, (WATER, METHANE)[index % 2]) for index in range(240)]
    late = next(item for item in structures[120:] if learner._memory.is_held_out(item))
    arrived = learner._quarantines[0].arrived

    def come_a_tick_later(some: list[LabelledStructure], rows: np.ndarray) -> set[str]:
        waiting = arrived(some, rows)
        if late in some:
            return {*waiting, late.id}
        if late.id not in came and late.id in learner._memory._known:
            learner._quarantines[0]._waiting[late.id] = Waiting(late, learner._quarantines[0]._n_judged)
            came.add(late.id)
        return waiting

    came: set[str] = set()
    learner._quarantines[0].arrived = come_a_tick_later
    n_recalled, kept, audited = 0, False, set()
    for first in range(0, len(structures), 10):
        n_recalled += learner.process_tick(structures[first : first + 10]).n_recalled
        kept |= learner._memory.kept(late.id) is late
        audited |= learner._quarantines[0]._learned.keys()
    assert n_recalled > 0
    assert kept
    assert late.id not in audited
    assert not any(
        learner._memory.is_held_out(item) for item in structures if item.id in learner._quarantines[0]._learned
    )


def test_stopping_changes_no_bit_of_what_a_quarantine_does():
    through, stopped = Learner(CONFIG), Learner(CONFIG)
    for tick in ticks()[:14]:
        through.process_tick(tick)
        stopped = Learner.restore(CONFIG, stopped.state_dict())
        stopped.process_tick(tick)
    assert_equal_states(stopped, through)
