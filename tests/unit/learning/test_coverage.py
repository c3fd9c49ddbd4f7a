"""What is alike shares its room in the memory by coverage, and what is rare stays."""

from dataclasses import replace

import numpy as np
import torch

from lmlp_stream.atoms.batch import Example
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.atoms.symmetry import SymmetryFunctions, spec_of
from lmlp_stream.config import SymmetryConfig
from lmlp_stream.learning.coverage import Coverage, sketch
from tests.unit.learning.structures import METHANE, labelled

FUNCTIONS = SymmetryFunctions(spec_of(SymmetryConfig(cutoff=4.0)), torch.float64, torch.device("cpu"))


def prepared(structure: LabelledStructure) -> Example:
    return Example(structure, FUNCTIONS.evaluate(structure))


def moved(structure: LabelledStructure, number: int, by: float) -> LabelledStructure:
    """A structure of its own, all atoms displaced at random by about so many Å."""
    random = np.random.default_rng(number)
    shift = random.normal(scale=by, size=structure.positions.shape)
    return replace(structure, id=f"{structure.id}/{number}", positions=structure.positions + shift)


def test_of_many_structures_that_are_alike_and_few_that_are_not_the_few_are_kept():
    rare = [labelled(0, METHANE), moved(labelled(0), 100, 0.3), moved(labelled(0), 101, 0.3)]
    common = [moved(labelled(0), number, 0.001) for number in range(40)]
    memory = Coverage(5, prepared)
    for structure in (*common[:20], *rare, *common[20:]):
        memory.offer(structure)
    assert {structure.id for structure in rare} <= {structure.id for structure in memory}


def test_an_offer_beyond_the_capacity_names_what_is_not_kept():
    memory = Coverage(3, prepared)
    first = labelled(0)
    assert [memory.offer(structure) for structure in (first, labelled(1), labelled(2, METHANE))] == [None] * 3
    twin = replace(first, id="twin")
    assert memory.offer(twin) in (first, twin)
    assert memory.offer(labelled(1)) is None


def test_nothing_is_kept_without_capacity():
    memory = Coverage(0, prepared)
    structure = labelled(0)
    assert memory.offer(structure) is structure
    assert len(memory) == 0


def test_what_is_discarded_is_kept_no_longer():
    memory = Coverage(4, prepared)
    for index in range(3):
        memory.offer(labelled(index))
    discarded = memory.discard(labelled(0).id)
    assert discarded is not None
    assert discarded.id == labelled(0).id
    assert memory.discard(labelled(0).id) is None
    assert {structure.id for structure in memory} == {labelled(1).id, labelled(2).id}


def test_a_sketch_does_not_depend_on_the_order_of_atoms_or_on_where_they_are():
    one = labelled(3, METHANE)
    order = [0, 3, 1, 4, 2]
    turned = replace(one, positions=one.positions[order] @ _rotation() + 7.0, forces=one.forces[order])
    np.testing.assert_allclose(sketch(prepared(turned)), sketch(prepared(one)), rtol=1e-4, atol=1e-5)


def test_sketches_of_other_elements_lie_apart():
    water = labelled(0)
    other = replace(water, atomic_numbers=np.array([16, 1, 1]))
    near = np.linalg.norm(sketch(prepared(labelled(1))) - sketch(prepared(water)))
    assert np.linalg.norm(sketch(prepared(other)) - sketch(prepared(water))) > 2 * near


def _rotation() -> np.ndarray:
    axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    return axes
