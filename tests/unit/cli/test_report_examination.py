from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from lmlp_stream.cli.report.examination import domain_means, examine_snapshot
from lmlp_stream.config import Config
from lmlp_stream.store.snapshot import publish
from tests.unit.simulate.conftest import a_provenance, an_ensemble


def labelled(name: str, energy: float) -> Atoms:
    atoms = molecule(name)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((len(atoms), 3)))
    return atoms


def test_an_energy_that_no_learned_composition_fixes_counts_nowhere(tmp_path: Path):
    manifest = publish(an_ensemble(0), a_provenance(10), tmp_path / "store")
    write(tmp_path / "test.extxyz", [labelled("H2O", -14.0), labelled("H2", -7000.0)])

    test = examine_snapshot(manifest, Config(), tmp_path / "test.extxyz")

    assert test.is_determined.tolist() == [True, False]
    assert test.energy_rmse == pytest.approx(abs(test.predicted_energies[0] - test.energies[0]))
    assert len(test.forces) == 15


def test_the_mean_of_a_domain_is_that_of_the_energies_that_are_known():
    means = domain_means(np.array([1.0, np.nan, 3.0, np.nan]), ("a", "a", "a", "b"))
    np.testing.assert_array_equal(means, [2.0, 2.0, 2.0, np.nan])
