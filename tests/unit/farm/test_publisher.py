import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.broker.log import Message
from lmlp_stream.broker.open import open_log
from lmlp_stream.config import Config, parse_config
from lmlp_stream.errors import ConfigError, UsageError
from lmlp_stream.farm.publisher import Publisher
from lmlp_stream.wire.record import Limits, decode

LEVEL = "GFN2-xTB"


def water(energy: float = -76.0, **info: object) -> Atoms:
    atoms = Atoms("OH2", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]], info=info)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((3, 3)))
    return atoms


def messages(url: str) -> list[Message]:
    log = open_log(url, client="test")
    source = log.source(dict.fromkeys(log.partitions("lmlp.structures.v1"), 0))
    return source.poll(1000, 0.0)


def structures(url: str) -> list[LabelledStructure]:
    limits = Limits.of(Config(wire=Config().wire.model_copy(update={"level_of_theory": LEVEL})).wire)
    read = [decode(message.value, limits) for message in messages(url)]
    assert all(isinstance(structure, LabelledStructure) for structure in read)
    return [structure for structure in read if isinstance(structure, LabelledStructure)]


def test_three_lines_publish_what_a_calculator_computed(request: pytest.FixtureRequest):
    url = f"memory:{request.node.name}"
    with Publisher(url, level_of_theory=LEVEL, source="farm 1") as publisher:
        identity = publisher.publish(water(charge=-1, multiplicity=2))

    (structure,) = structures(url)
    assert structure.id == identity
    assert (structure.energy, structure.charge, structure.multiplicity) == (-76.0, -1.0, 2)
    assert (structure.domain, structure.source, structure.level_of_theory) == ("H2O", "farm 1", LEVEL)


def test_a_calculator_computes_what_it_has_not_yet(request: pytest.FixtureRequest):
    url = f"memory:{request.node.name}"
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 1.2]])
    atoms.calc = LennardJones()
    with Publisher(url, level_of_theory=LEVEL) as publisher:
        publisher.publish(atoms)

    assert structures(url)[0].energy == atoms.get_potential_energy()


def test_the_key_of_a_message_is_the_group(request: pytest.FixtureRequest):
    url = f"memory:{request.node.name}"
    with Publisher(url, level_of_theory=LEVEL) as publisher:
        publisher.publish(water(), domain="water", group="run 1")

    (message,) = messages(url)
    assert message.key == b"run 1"
    assert [(structure.domain, structure.group) for structure in structures(url)] == [("water", "run 1")]


def test_ten_consecutive_structures_share_a_group(request: pytest.FixtureRequest):
    url = f"memory:{request.node.name}"
    with Publisher(url, level_of_theory=LEVEL) as publisher:
        for i in range(11):
            publisher.publish(water(-76.0 + i))

    groups = [structure.group for structure in structures(url)]
    assert len(set(groups[:10])) == 1
    assert groups[10] != groups[0]


def test_atoms_are_left_as_they_are(request: pytest.FixtureRequest):
    atoms = water()
    with Publisher(f"memory:{request.node.name}", level_of_theory=LEVEL) as publisher:
        publisher.publish(atoms, domain="water", group="run 1")

    assert atoms.info == {}


def test_what_a_learner_would_refuse_is_refused_here(request: pytest.FixtureRequest):
    url = f"memory:{request.node.name}"
    with (
        Publisher(url, level_of_theory=LEVEL) as publisher,
        pytest.raises(UsageError, match=r"would be refused \(not_finite\)"),
    ):
        publisher.publish(water(float("inf")))

    assert structures(url) == []


def test_a_structure_without_labels_is_refused(request: pytest.FixtureRequest):
    with (
        Publisher(f"memory:{request.node.name}", level_of_theory=LEVEL) as publisher,
        pytest.raises(UsageError, match="the structure H lacks energy"),
    ):
        publisher.publish(Atoms("H"))


def test_the_charge_of_the_calculator_is_the_charge(request: pytest.FixtureRequest):
    url = f"memory:{request.node.name}"
    atoms = water()
    atoms.calc.parameters = {"charge": -1}
    with Publisher(url, level_of_theory=LEVEL) as publisher:
        publisher.publish(atoms)

    assert structures(url)[0].charge == -1.0


def test_a_charge_that_the_calculator_did_not_see_is_refused(request: pytest.FixtureRequest):
    atoms = water(charge=-1)
    atoms.calc.parameters = {"charge": None}
    with (
        Publisher(f"memory:{request.node.name}", level_of_theory=LEVEL) as publisher,
        pytest.raises(UsageError, match=r"computed charge 0 but atoms.info\['charge'\] is -1"),
    ):
        publisher.publish(atoms)


def test_a_configuration_says_log_and_level(request: pytest.FixtureRequest):
    url = f"memory:{request.node.name}"
    config = parse_config({"log": {"url": url}, "wire": {"level_of_theory": LEVEL}}, place="test")
    with Publisher(config) as publisher:
        publisher.publish(water())

    assert len(structures(url)) == 1


def test_labels_can_be_of_a_further_level_of_the_configuration(request: pytest.FixtureRequest):
    url = f"memory:{request.node.name}"
    tree = {"log": {"url": url}, "wire": {"level_of_theory": LEVEL, "further_levels": ["HF", "PBE"]}}
    config = parse_config(tree, place="test")
    with Publisher(config, level_of_theory="PBE") as publisher:
        publisher.publish(water())
    (message,) = messages(url)
    structure = decode(message.value, Limits.of(config.wire))
    assert isinstance(structure, LabelledStructure)
    assert structure.level_of_theory == "PBE"


@pytest.mark.parametrize("level", ["", "PBE"])
def test_labels_need_one_level_of_theory(level: str):
    config = parse_config(
        {"log": {"url": "memory:"}, "wire": {"level_of_theory": "" if level == "" else LEVEL}}, place=""
    )

    with pytest.raises(UsageError, match="name the method that made the labels"):
        Publisher(config, level_of_theory=level)


def test_a_wrong_url_is_refused():
    with pytest.raises(ConfigError, match="is not of the form"):
        Publisher("ftp://somewhere", level_of_theory=LEVEL)
