from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from lmlp_stream.atoms.structure import LabelledStructure, Structure, from_ase
from lmlp_stream.broker.log import Log, Partition
from lmlp_stream.broker.memory import MemoryLog
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.config import Config, LabelConfig, WireConfig
from lmlp_stream.errors import ConfigError, UsageError
from lmlp_stream.farm.labeller import Labeller, LabelReport, Worker
from lmlp_stream.wire.dead_letter import DeadLetter, decode_dead_letter
from lmlp_stream.wire.record import Limits, decode
from lmlp_stream.wire.request import LabelRequest, encode_request, request_id

COMPUTED: list[str] = []


class Recording(Calculator):
    """Energy: charge + multiplicity; fails for argon, explodes for neon, pushes helium beyond belief."""

    implemented_properties = ("energy", "forces")
    default_parameters = {"charge": None, "multiplicity": None, "shift": 0.0}  # noqa: RUF012

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        COMPUTED.append(str(atoms.symbols))
        if "Ar" in atoms.symbols:
            raise CalculationFailed("no convergence")
        forces = np.zeros((len(atoms), 3))
        if "He" in atoms.symbols:
            forces[:, 0] = 1e6
        energy = self.parameters.charge + (self.parameters.multiplicity or 0) + self.parameters.shift
        self.results = {"energy": float(energy), "forces": forces}


class Neutral(Calculator):
    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


def config(calculator: str = "Recording", **arguments: float) -> Config:
    return Config(
        wire=WireConfig(level_of_theory="PBE"),
        label=LabelConfig(calculator=f"{__name__}:{calculator}", arguments=dict(arguments)),
    )


@pytest.fixture(autouse=True)
def nothing_is_computed_yet() -> None:
    COMPUTED.clear()


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog()
    log.ensure(topic_specs(Config().log))
    return log


def structure(symbols: str, *, charge: float = 0.0, multiplicity: int = 0, x: float = 0.0) -> Structure:
    atoms = Atoms(symbols, [[x + 2.0 * i, 0.0, 0.0] for i in range(len(Atoms(symbols)))])
    return replace(from_ase(atoms), charge=charge, multiplicity=multiplicity)


def ask(log: Log, wanted: Structure, *, priority: float = 1.0, expires_at: float = 2e9, requester: str = "md") -> str:
    identity = request_id(wanted)
    request = LabelRequest(
        id=identity,
        structure=wanted,
        uncertainty=1.0,
        priority=priority,
        requester=requester,
        snapshot_id="s",
        expires_at=expires_at,
    )
    sink = log.sink()
    sink.send(Config().log.requests, key=identity.encode(), value=encode_request(request))
    sink.close()
    return identity


def work(log: Log, worker: Worker | None = None, settings: Config | None = None) -> LabelReport:
    labeller = Labeller(settings or config(), log, worker, now=lambda: 1e9)
    report = labeller.run(lambda: False, until_idle_s=0.0)
    labeller.close()
    return report


def answers(log: Log) -> list[LabelledStructure]:
    limits = Limits.of(config().wire)
    messages = log.source({Partition(Config().log.structures, 0): 0}).poll(1000, 0.0)
    read = [decode(message.value, limits) for message in messages]
    return [answer for answer in read if isinstance(answer, LabelledStructure)]


def dead_letters(log: Log) -> list[DeadLetter]:
    messages = log.source({Partition(Config().log.dead_letters, 0): 0}).poll(1000, 0.0)
    read = [decode_dead_letter(message.value) for message in messages]
    return [letter for letter in read if isinstance(letter, DeadLetter)]


def test_a_request_is_answered_under_its_id(log: MemoryLog):
    identity = ask(log, structure("CO"))

    assert work(log).n_labelled == 1
    (answer,) = answers(log)
    assert (answer.id, answer.source, answer.domain, answer.level_of_theory) == (identity, "label:md", "CO", "PBE")


def test_charge_and_multiplicity_reach_the_calculator(log: MemoryLog):
    ask(log, structure("CO", charge=-1.0, multiplicity=2))

    work(log, settings=config(shift=10.0))

    assert answers(log)[0].energy == 11.0
    assert (answers(log)[0].charge, answers(log)[0].multiplicity) == (-1.0, 2)


def test_a_charged_structure_is_not_labelled_as_a_neutral_one(log: MemoryLog):
    ask(log, structure("CO", charge=-1.0))

    assert work(log, settings=config("Neutral")).n_failed == 1
    assert answers(log) == []
    assert "takes no charge" in dead_letters(log)[0].detail


def test_a_failure_becomes_a_dead_letter_and_the_worker_goes_on(log: MemoryLog):
    ask(log, structure("Ar2"))
    ask(log, structure("CO"))

    report = work(log)

    assert (report.n_labelled, report.n_failed) == (1, 1)
    (letter,) = dead_letters(log)
    assert (letter.reason, letter.topic, letter.offset) == ("calculation_failed", Config().log.requests, 0)
    assert "no convergence" in letter.detail


def test_a_worker_that_only_fails_stops_before_it_drains_the_requests(log: MemoryLog):
    for i in range(15):
        ask(log, structure("Ar2", x=float(i)))

    with pytest.raises(ConfigError, match=r"the first 10 calculations of this worker all failed.*no convergence"):
        work(log)

    assert len(dead_letters(log)) == 10


def test_a_worker_that_has_succeeded_goes_on_whatever_fails(log: MemoryLog):
    ask(log, structure("CO"))
    for i in range(15):
        ask(log, structure("Ar2", x=float(i)))

    assert work(log).n_failed == 15


def test_a_label_that_the_learner_would_refuse_becomes_a_dead_letter(log: MemoryLog):
    ask(log, structure("He2"))

    work(log)

    assert answers(log) == []
    assert dead_letters(log)[0].reason == "force_too_large"


def test_bytes_that_are_no_request_become_a_dead_letter(log: MemoryLog):
    log.sink().send(Config().log.requests, key=b"x", value=b"\xc1")
    ask(log, structure("CO"))

    report = work(log)

    assert (report.n_labelled, report.n_failed) == (1, 1)
    assert dead_letters(log)[0].reason == "not_msgpack"


def test_a_worker_that_starts_again_computes_nothing_twice(log: MemoryLog):
    log.sink().send(Config().log.requests, key=b"x", value=b"\xc1")
    for symbols in ("CO", "Ar2", "He2"):
        ask(log, structure(symbols))
    work(log)
    ask(log, structure("N2"))

    report = work(log)

    assert (report.n_labelled, report.n_failed, report.n_settled_before) == (1, 0, 3)
    assert sorted(COMPUTED) == ["Ar2", "CO", "He2", "N2"]
    assert len(dead_letters(log)) == 3


def test_the_same_geometry_is_computed_once(log: MemoryLog):
    ask(log, structure("CO"))
    ask(log, structure("CO"), requester="neb")

    assert work(log).n_settled_before == 1
    assert len(answers(log)) == 1


def test_an_expired_request_is_not_computed(log: MemoryLog):
    ask(log, structure("CO"), expires_at=1e9)

    assert work(log).n_expired == 1
    assert COMPUTED == []


def test_the_most_urgent_request_comes_first(log: MemoryLog):
    ask(log, structure("CO"), priority=1.0)
    ask(log, structure("N2"), priority=3.0)
    ask(log, structure("O2"), priority=1.0)

    work(log)

    assert COMPUTED == ["N2", "CO", "O2"]


def test_workers_share_the_requests_by_lot(log: MemoryLog):
    asked = {ask(log, structure("CO", x=float(i))) for i in range(40)}

    shares = [work(log, Worker(number, 3)).n_labelled for number in (1, 2, 3)]

    assert sum(shares) == 40
    assert min(shares) > 0
    assert {answer.id for answer in answers(log)} == asked


def test_a_run_of_requests_of_one_requester_is_a_group(log: MemoryLog):
    for i in range(12):
        ask(log, structure("CO", x=float(i)))

    work(log)

    assert [answer.group for answer in answers(log)] == ["md/0-0"] * 10 + ["md/0-1"] * 2


def test_a_worker_stops_between_two_calculations(log: MemoryLog):
    ask(log, structure("CO"))
    ask(log, structure("N2"))
    labeller = Labeller(config(), log, now=lambda: 1e9)

    labeller.run(lambda: len(COMPUTED) == 1)

    assert labeller.report.n_labelled == 1


def test_a_worker_waits_for_requests(log: MemoryLog):
    labeller = Labeller(config(), log, now=lambda: 1e9)
    turns = iter(range(5))

    def stopped() -> bool:
        if next(turns) == 2:
            ask(log, structure("CO"))
        return labeller.report.n_labelled == 1

    labeller.run(stopped)

    assert len(answers(log)) == 1


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "a/b", "1/", "-1/2"])
def test_a_worker_has_a_number(text: str):
    with pytest.raises(UsageError, match="NUMBER/OF"):
        Worker.parse(text)


def test_a_worker_is_parsed():
    assert Worker.parse("2/4") == Worker(2, 4)


@pytest.mark.parametrize(
    ("calculator", "message"),
    [
        ("tblite.ase", "module:Class"),
        ("no_such_module_at_all:Class", "cannot be imported"),
        ("ase.calculators.lj:Nothing", "has no Nothing"),
        ("ase.calculators.lj:all_changes", "is no class"),
    ],
)
def test_a_calculator_that_is_not_there_is_a_wrong_configuration(log: MemoryLog, calculator: str, message: str):
    with pytest.raises(ConfigError, match=message):
        Labeller(Config(label=LabelConfig(calculator=calculator, arguments={})), log)


def test_arguments_that_a_calculator_does_not_take_are_a_wrong_configuration(log: MemoryLog):
    settings = Config(label=LabelConfig(calculator="ase.calculators.singlepoint:SinglePointCalculator", arguments={}))

    with pytest.raises(ConfigError, match="do not suit"):
        Labeller(settings, log)
