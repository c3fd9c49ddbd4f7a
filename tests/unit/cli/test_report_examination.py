from math import nan
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from lmlp_stream.cli.evaluate import labelled_structures
from lmlp_stream.cli.report.examination import domain_means, examine_snapshot
from lmlp_stream.cli.report.history import Arrival, History, Tick
from lmlp_stream.config import Config, parse_config
from lmlp_stream.errors import UsageError
from lmlp_stream.farm.door import labelled as with_id
from lmlp_stream.farm.files import read_structures
from lmlp_stream.farm.labels import LabelFinder, Labels
from lmlp_stream.farm.naming import Naming, structure_id
from lmlp_stream.store.snapshot import publish
from lmlp_stream.wire.request import request_id
from tests.unit.simulate.conftest import a_provenance, an_ensemble


def labelled(name: str, energy: float) -> Atoms:
    atoms = molecule(name)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((len(atoms), 3)))
    return atoms


def test_an_energy_that_no_learned_composition_fixes_counts_nowhere(tmp_path: Path):
    manifest = publish(an_ensemble(0), a_provenance(10), tmp_path / "store")
    write(tmp_path / "test.extxyz", [labelled("H2O", -14.0), labelled("H2", -7000.0)])

    test = examine_snapshot(manifest, Config(), tmp_path / "test.extxyz", History())

    assert test.is_determined.tolist() == [True, False]
    assert test.energy_rmse == pytest.approx(abs(test.predicted_energies[0] - test.energies[0]))
    assert len(test.forces) == 15


CONFIG = parse_config({"wire": {"level_of_theory": "A", "further_levels": ["B"]}}, place="test")


def arrival(id_: str, *, held_out: bool = False) -> Arrival:
    return Arrival(0, 0.0, "", "", None, None, 0, held_out, id_)


def test_a_label_that_came_in_part_was_learned(tmp_path: Path, four: Path):
    manifest = publish(an_ensemble(0), a_provenance(10), tmp_path / "store")
    water = next(iter(labelled_structures(four)))
    forces_alone = structure_id(water, Labels(nan, water.forces), "A")

    test = examine_snapshot(manifest, CONFIG, four, History(arrivals=(arrival(forces_alone),)))

    assert (test.n_learned, len(test.energies)) == (1, 3)


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """A file of four structures of water."""
    path = tmp_path / "test.extxyz"
    waters = [labelled("H2O", -14.0 - number) for number in range(4)]
    for number, atoms in enumerate(waters):
        atoms.positions[0, 2] += 0.01 * number
    write(path, waters)
    return path


def ids(path: Path) -> list[str]:
    """Under which `lmlp-stream feed` publishes the structures of a file."""
    finder, naming = LabelFinder(), Naming()
    return [
        with_id(atoms, finder.find(atoms, ""), naming, place="", level_of_theory="A", source="").id
        for atoms in read_structures(path)
    ]


def test_what_came_to_be_learned_is_left_out_and_what_is_held_out_is_counted(tmp_path: Path, four: Path):
    manifest = publish(an_ensemble(0), a_provenance(10), tmp_path / "store")
    asked = request_id(list(labelled_structures(four))[2])
    arrivals = (arrival(ids(four)[0]), arrival(ids(four)[1], held_out=True), arrival(asked))

    whole = examine_snapshot(manifest, CONFIG, four, History())
    test = examine_snapshot(manifest, CONFIG, four, History(arrivals=arrivals))

    assert (whole.n_learned, whole.n_held_out, len(whole.energies)) == (0, 0, 4)
    assert (test.n_learned, test.n_held_out, test.n_uncompared) == (2, 1, 0)
    assert test.domains == ("H2O",) * 2
    np.testing.assert_allclose(np.diff(test.energies), [-2.0 / 3.0])
    np.testing.assert_array_equal(test.predicted_forces, whole.predicted_forces.reshape(4, 9)[[1, 3]].ravel())


def test_a_file_that_came_to_be_learned_as_a_whole_is_no_test(tmp_path: Path, four: Path):
    manifest = publish(an_ensemble(0), a_provenance(10), tmp_path / "store")
    history = History(arrivals=tuple(arrival(id_) for id_ in ids(four)))

    with pytest.raises(UsageError, match=r"test\.extxyz: 4 structures of known elements, all of which came"):
        examine_snapshot(manifest, CONFIG, four, history)


@pytest.mark.parametrize(
    ("ids_", "labels_learned", "n_uncompared"),
    [(("a" * 64, "b" * 64), 2, 0), (("a" * 64, "b" * 64), 0, 0), (("a" * 64, "mine/7"), 2, 1), (("a" * 64,), 10, 9)],
)
def test_labels_that_cannot_be_compared_are_counted(
    tmp_path: Path, four: Path, ids_: tuple[str, ...], labels_learned: int, n_uncompared: int
):
    manifest = publish(an_ensemble(0), a_provenance(10), tmp_path / "store")
    tick = Tick(0, 0.0, labels_learned, 0, 0, 0, 0)
    history = History(ticks=(tick,), arrivals=(*map(arrival, ids_), arrival("mine/8", held_out=True)))

    assert examine_snapshot(manifest, CONFIG, four, history).n_uncompared == n_uncompared


def test_the_mean_of_a_domain_is_that_of_the_energies_that_are_known():
    means = domain_means(np.array([1.0, np.nan, 3.0, np.nan]), ("a", "a", "a", "b"))
    np.testing.assert_array_equal(means, [2.0, 2.0, 2.0, np.nan])
