"""Structures as flat arrays and back."""

import numpy as np

from lmlp_stream.learning.columns import from_columns, to_columns
from tests.unit.learning.structures import METHANE, WATER, labelled


def test_every_field_comes_back_bit_for_bit():
    crystal = labelled(
        3,
        METHANE,
        cell=np.eye(3) * 7.1,
        pbc=np.array([True, False, True]),
        stress=np.arange(9.0).reshape(3, 3),
        charge=-1.0,
        multiplicity=2,
        level_of_theory="ωB97X/6-31G(d)",
        source="a farm",
        weight=0.5,
    )
    missing = labelled(4, WATER, energy=float("nan"), forces=np.full((3, 3), np.nan))
    structures = [labelled(1), crystal, missing]
    for before, after in zip(structures, from_columns(to_columns(structures)), strict=True):
        for name in LABELS:
            one, other = np.asarray(getattr(before, name)), np.asarray(getattr(after, name))
            assert one.dtype == other.dtype, name
            assert one.tobytes() == other.tobytes(), name
        for name in TEXTS:
            assert getattr(before, name) == getattr(after, name)
        assert (before.stress is None) == (after.stress is None)
        assert before.stress is None or np.array_equal(before.stress, after.stress)


def test_no_structures_are_no_structures():
    assert from_columns(to_columns([])) == []


LABELS = ("atomic_numbers", "positions", "cell", "pbc", "charge", "multiplicity", "energy", "forces", "weight")
TEXTS = ("id", "group", "domain", "level_of_theory", "source")
