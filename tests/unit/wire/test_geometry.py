"""Geometry gates: overlaps through any boundary, thin and flat cells, crowds."""

from dataclasses import replace

import numpy as np
import pytest

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.wire.examples import EXAMPLE_LIMITS, water
from lmlp_stream.wire.record import Reason, Rejection, decode, encode

LIMITS = replace(EXAMPLE_LIMITS, max_atoms=5000, max_record_bytes=2**22)


def structure(positions: object, cell: object = None, pbc: object = (0, 0, 0)) -> LabelledStructure:
    places = np.array(positions, dtype=np.float64)
    return replace(
        water(),
        atomic_numbers=np.ones(len(places), np.int64),
        positions=places,
        cell=np.zeros((3, 3)) if cell is None else np.array(cell, dtype=np.float64),
        pbc=np.array(pbc, dtype=np.bool_),
        forces=np.full((len(places), 3), np.nan),
    )


def reason(judged: LabelledStructure) -> Reason | None:
    answer = decode(encode(judged), LIMITS)
    return answer.reason if isinstance(answer, Rejection) else None


def grid(n: int, spacing: float) -> np.ndarray:
    return spacing * np.stack(np.meshgrid(*3 * [np.arange(float(n))]), axis=-1).reshape(-1, 3)


def test_a_single_atom_is_let_in() -> None:
    assert reason(structure([[0, 0, 0]])) is None


def test_atoms_at_the_smallest_distance_are_let_in() -> None:
    assert reason(structure([[0, 0, 0], [0.41, 0, 0]])) is None
    assert reason(structure([[0, 0, 0], [0.39, 0, 0]])) is Reason.OVERLAPPING_ATOMS


@pytest.mark.parametrize("shift", [(1, 0, 0), (-2, 1, 0), (5, -7, 3)])
def test_overlaps_are_found_through_every_image_of_a_skewed_cell(shift: tuple[int, int, int]) -> None:
    cell = np.array([[3.0, 0, 0], [1.4, 2.5, 0], [-1.2, 0.8, 2.2]])
    image = np.array(shift) @ cell + [0.2, -0.2, 0.2]
    assert reason(structure([[0, 0, 0], image], cell, (1, 1, 1))) is Reason.OVERLAPPING_ATOMS
    assert reason(structure([[0, 0, 0], image])) is None


def test_only_periodic_directions_repeat() -> None:
    pair = [[0.1, 0, 0], [4.9, 0, 0]]
    assert reason(structure(pair, 5 * np.eye(3), (1, 0, 0))) is Reason.OVERLAPPING_ATOMS
    assert reason(structure(pair, 5 * np.eye(3), (0, 1, 1))) is None


def test_a_slab_needs_no_third_vector() -> None:
    cell = [[3.0, 0, 0], [0, 3.0, 0], [0, 0, 0]]
    assert reason(structure([[0, 0, 0]], cell, (1, 1, 0))) is None
    assert reason(structure([[0, 0, 0]], cell, (1, 1, 1))) is Reason.BAD_CELL


def test_overlaps_agree_with_a_search_over_many_images() -> None:
    generator = np.random.default_rng(0)
    shifts = np.stack(np.meshgrid(*3 * [np.arange(-4.0, 5.0)]), axis=-1).reshape(-1, 3)
    verdicts = set()
    for _ in range(200):
        cell = generator.normal(size=(3, 3)) * 2.0
        if min(1 / np.linalg.norm(np.linalg.inv(cell), axis=0)) < 0.8:
            continue
        pair = generator.uniform(-3, 3, (2, 3))
        nearest = np.linalg.norm(
            pair[1] - pair[0] + np.round((pair[0] - pair[1]) @ np.linalg.inv(cell)) @ cell + shifts @ cell, axis=1
        ).min()
        overlaps = reason(structure(pair, cell, (1, 1, 1))) is Reason.OVERLAPPING_ATOMS
        assert overlaps == (nearest < 0.4)
        verdicts.add(overlaps)
    assert verdicts == {True, False}


def test_overlaps_are_found_in_every_block_of_a_large_structure() -> None:
    places = grid(12, 2.5)
    assert reason(structure(places)) is None
    places[-1] = places[3] + 0.1
    answer = decode(encode(structure(places)), LIMITS)
    assert isinstance(answer, Rejection)
    assert "atoms 3 and 1727 are 0.173 Å apart" in answer.detail


def test_a_dense_crystal_is_let_in_and_a_crushed_one_is_not() -> None:
    diamond = 3.567 / 2 * (np.ones((3, 3)) - np.eye(3))
    basis = np.array([[0.0, 0, 0], [0.25 * 3.567] * 3])
    assert reason(structure(basis, diamond, (1, 1, 1))) is None
    assert reason(structure(basis * 0.4, diamond * 0.4, (1, 1, 1))) is Reason.TOO_DENSE


def test_many_small_images_are_too_dense() -> None:
    assert reason(structure([[0, 0, 0]], 0.85 * np.eye(3), (1, 1, 1))) is Reason.TOO_DENSE


def test_a_crushed_cluster_is_too_dense() -> None:
    assert reason(structure(grid(6, 0.5))) is Reason.TOO_DENSE
    assert reason(structure(grid(6, 1.0))) is None
