import numpy as np
import pytest
from ase.build import molecule

from lmlp_stream.atoms.structure import from_ase
from lmlp_stream.config import LabelConfig
from lmlp_stream.farm.calculators import LabelCalculator


def test_gfn2_labels_an_ion_at_its_charge():
    tblite = pytest.importorskip("tblite.ase")
    atoms = molecule("OH")
    atoms.info.update(charge=-1, multiplicity=1)
    atoms.set_initial_magnetic_moments(None)
    expected = atoms.copy()
    expected.calc = tblite.TBLite(method="GFN2-xTB", verbosity=0, charge=-1, multiplicity=1)

    labels = LabelCalculator(LabelConfig()).labels(from_ase(atoms))

    assert labels.energy == pytest.approx(expected.get_potential_energy(), abs=1e-9)
    assert np.allclose(labels.forces, expected.get_forces(), atol=1e-9)
