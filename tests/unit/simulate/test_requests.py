import copy
import os
import time

import numpy as np
import pytest
from ase import Atoms

from lmlp_stream.atoms.structure import from_ase
from lmlp_stream.broker.memory import MemoryLog
from lmlp_stream.broker.open import open_log
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.config import Config, LogConfig, SimulateConfig
from lmlp_stream.simulate.calculator import LmlpCalculator
from lmlp_stream.simulate.doubt import UncertainError
from lmlp_stream.simulate.evaluator import UnknownElementError
from lmlp_stream.simulate.requests import LabelRequests
from lmlp_stream.wire.limits import Limits
from lmlp_stream.wire.request import LabelRequest, decode_request, request_id

CONFIG = Config()
TOPIC = CONFIG.log.requests


def requests_in(log: MemoryLog) -> list[LabelRequest]:
    source = log.source({p: log.bounds(p).begin for p in log.partitions(TOPIC)})
    verdicts = [decode_request(message.value, Limits.of(CONFIG.wire)) for message in source.poll(1000, 0.0)]
    assert all(isinstance(verdict, LabelRequest) for verdict in verdicts)
    return verdicts


@pytest.fixture
def asking(log: MemoryLog, published):
    log.ensure(topic_specs(CONFIG.log))

    def calculator(*, errors: float = 1e-6, **settings: float) -> LmlpCalculator:
        config = SimulateConfig(**{"min_calls_between_requests": 0, **settings})
        manifest = published(energy_rmse_ev_per_atom=errors, force_rmse_ev_per_angstrom=errors)
        requests = LabelRequests(log.sink(), TOPIC, config, "tester")
        return LmlpCalculator(manifest, device="cpu", config=config, on_uncertain="request", requests=requests)

    return calculator


def test_a_request_says_everything_a_labeller_needs(log: MemoryLog, asking, water: Atoms) -> None:
    water.info["charge"] = -1.0
    water.info["multiplicity"] = 2
    calculator = asking(request_lifetime_s=1000.0)
    before = time.time()
    calculator.get_potential_energy(water)
    (request,) = requests_in(log)
    np.testing.assert_array_equal(request.structure.positions, water.positions)
    np.testing.assert_array_equal(request.structure.atomic_numbers, water.numbers)
    assert (request.structure.charge, request.structure.multiplicity) == (-1.0, 2)
    assert request.id == request_id(request.structure)
    assert request.uncertainty == pytest.approx(calculator.get_property("forces_uncertainty", water).max())
    assert request.priority > 1.0
    assert request.requester == "tester"
    assert request.snapshot_id == calculator.snapshot_id
    assert before + 1000.0 <= request.expires_at <= time.time() + 1000.0
    assert calculator.n_requests == 1


def test_a_geometry_is_asked_for_once(log: MemoryLog, asking, water: Atoms) -> None:
    calculator = asking()
    for shift in (0.0, 1e-5, 0.1, 0.0):
        moved = water.copy()
        moved.positions[0, 0] += shift
        calculator.get_potential_energy(moved)
    assert len(requests_in(log)) == calculator.n_requests == 2


def walk(calculator: LmlpCalculator, water: Atoms, n_steps: int) -> None:
    for _ in range(n_steps):
        water.positions[0, 0] += 0.01
        calculator.get_potential_energy(water)


def test_the_budget_is_kept(log: MemoryLog, asking, water: Atoms) -> None:
    walk(asking(max_requests=3), water, 10)
    assert len(requests_in(log)) == 3


def test_requests_are_spaced(log: MemoryLog, asking, water: Atoms) -> None:
    calculator = asking(min_calls_between_requests=4)
    walk(calculator, water, 1)
    assert calculator.n_requests == 1
    walk(calculator, water, 4)
    assert calculator.n_requests == 1
    walk(calculator, water, 1)
    assert calculator.n_requests == 2


def test_what_is_certain_is_not_asked_for(log: MemoryLog, asking, water: Atoms) -> None:
    walk(asking(errors=100.0), water, 3)
    assert requests_in(log) == []


def test_a_composition_without_a_label_is_asked_for(log: MemoryLog, asking) -> None:
    calculator = asking(errors=100.0)
    calculator.get_potential_energy(Atoms("H2", [(0, 0, 0), (0, 0, 0.75)]))
    (request,) = requests_in(log)
    assert request.priority == 1e6


UNKNOWN = Atoms("CO", [(0, 0, 0), (0, 0, 1.2)])


def test_an_element_that_the_snapshot_does_not_know_is_asked_for_before_the_calculation_fails(
    log: MemoryLog, asking, water: Atoms
) -> None:
    calculator = asking(min_calls_between_requests=100)
    calculator.get_potential_energy(water)
    for _ in range(2):
        with pytest.raises(UnknownElementError, match="not C; publish labels with C"):
            calculator.get_potential_energy(UNKNOWN)
    _, request = requests_in(log)
    np.testing.assert_array_equal(request.structure.atomic_numbers, UNKNOWN.numbers)
    assert np.isnan(request.uncertainty)
    assert request.priority == 1e6
    assert calculator.results == {}


def test_the_person_is_told_that_the_label_of_an_unknown_element_was_asked_for(asking) -> None:
    with pytest.raises(UnknownElementError, match="the label of this structure was asked for"):
        asking().get_potential_energy(UNKNOWN)


def test_an_unknown_element_is_not_asked_for_beyond_the_budget_or_where_nothing_is(log: MemoryLog, asking) -> None:
    spent = asking(max_requests=0)
    with pytest.raises(UnknownElementError) as caught:
        spent.get_potential_energy(UNKNOWN)
    assert "asked for" not in str(caught.value)
    for on_uncertain in ("ignore", "stop"):
        silent = LmlpCalculator(spent.manifest, device="cpu", on_uncertain=on_uncertain)
        with pytest.raises(UnknownElementError):
            silent.get_potential_energy(UNKNOWN)
    assert requests_in(log) == []


def test_what_is_no_number_is_not_asked_for(log: MemoryLog, water: Atoms) -> None:
    log.ensure(topic_specs(CONFIG.log))
    requests = LabelRequests(log.sink(), TOPIC, SimulateConfig(), "tester")
    assert not requests.ask(from_ase(water), uncertainty=float("nan"), priority=1.0, snapshot_id="")
    assert requests.n_sent == 0


def test_a_copy_shares_the_budget(log: MemoryLog, asking, water: Atoms) -> None:

    calculator = asking(max_requests=2)
    walk(copy.deepcopy(calculator), water, 3)
    walk(calculator, water, 3)
    assert len(requests_in(log)) == 2


def test_to_ignore_is_to_publish_nothing(published, water: Atoms) -> None:
    calculator = LmlpCalculator(published(), device="cpu")
    assert np.isfinite(calculator.get_potential_energy(water))
    assert calculator.n_requests == 0


def test_to_stop_is_to_raise_until_something_changes(published, water: Atoms) -> None:
    calculator = LmlpCalculator(published(), device="cpu", on_uncertain="stop")
    for _ in range(2):
        with pytest.raises(UncertainError, match="times its threshold") as caught:
            calculator.get_potential_energy(water)
    assert caught.value.evaluation.excess > 1.0
    np.testing.assert_array_equal(caught.value.structure.positions, water.positions)
    assert calculator.results == {}
    certain = published(energy_rmse_ev_per_atom=100.0, force_rmse_ev_per_angstrom=100.0)
    sure = LmlpCalculator(certain, device="cpu", on_uncertain="stop")
    assert np.isfinite(sure.get_potential_energy(water))


def test_a_follower_of_a_log_asks_there(learner, tmp_path, water: Atoms) -> None:
    url = f"memory:{tmp_path}"
    learner.log = open_log(url, client="test")
    learner.tell(10)
    config = Config(log=LogConfig(url=url))
    calculator = LmlpCalculator.follow(config, device="cpu", on_uncertain="request", timeout_s=0.0)
    calculator.get_potential_energy(water)
    (request,) = requests_in(learner.log)
    assert request.requester.endswith(f":{os.getpid()}")
    calculator.close()
