import numpy as np
import pytest
import torch

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.atoms.symmetry import AngularFunction, RadialFunction, SymmetrySpec
from lmlp_stream.potential.baseline import Baseline
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.potential.linear import Features, LinearPart
from lmlp_stream.store.snapshot import Provenance

SPEC = SymmetrySpec(
    cutoff=4.0,
    radial=(RadialFunction(1.0, 0.0, "1"), RadialFunction(2.0, 1.5, "n")),
    angular=(AngularFunction(0.5, 1.0, 1.0, 1, 1.0, "sum:1"),),
)


def water(energy: float = -10.0) -> LabelledStructure:
    return LabelledStructure(
        atomic_numbers=np.array([8, 1, 1]),
        positions=np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        id="water",
        group="water",
        domain="water",
        energy=energy,
        forces=np.zeros((3, 3)),
    )


@pytest.fixture
def ensemble() -> Ensemble:
    generator = torch.Generator().manual_seed(0)
    baseline = Baseline({})
    baseline.fit([water()])
    linear = LinearPart(0.5)
    ensemble = Ensemble(
        SPEC,
        hidden=(5, 4),
        members=3,
        dtype=torch.float64,
        device=torch.device("cpu"),
        baseline=baseline,
        linear=linear,
    )
    for z in (8, 1):
        values = torch.rand(6, SPEC.n_functions, generator=generator, dtype=torch.float64)
        ensemble.add_element(z, values, generator)
        features = Features.drawn(values, 6, generator, members=3)
        deviations = torch.rand(6, 3, generator=generator, dtype=torch.float64)
        coefficients = torch.rand(6, generator=generator, dtype=torch.float64)
        linear.features[z] = features.with_coefficients(coefficients).with_deviations(deviations)
    return ensemble


@pytest.fixture
def provenance() -> Provenance:
    return Provenance(
        name="water",
        step=80,
        labels_learned=10,
        journal_position=2,
        level_of_theory="GFN2-xTB",
        errors={"energy_rmse_ev_per_atom": 0.01, "force_rmse_ev_per_angstrom": 0.1, "n_structures": 10.0},
        calibration={"force_rmse_per_disagreement": 1.5},
        parent_id="",
        code_version="0.1.0",
        created_at="2026-01-01T00:00:00+00:00",
    )
