"""Laws of the memory by coverage: neighbors are known exactly, whatever came and went, and after a restore."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from lmlp_stream.atoms.batch import Example
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.atoms.symmetry import SymmetryFunctions, spec_of
from lmlp_stream.config import SymmetryConfig
from lmlp_stream.learning.coverage import SKETCH, Coverage, sketch
from tests.unit.learning.structures import AMMONIA, METHANE, WATER, labelled

FUNCTIONS = SymmetryFunctions(spec_of(SymmetryConfig(cutoff=4.0)), torch.float64, torch.device("cpu"))
POOL = [labelled(index, numbers) for index in range(12) for numbers in (WATER, METHANE, AMMONIA)]
EXAMPLES = {structure.id: Example(structure, FUNCTIONS.evaluate(structure)) for structure in POOL}
SKETCHES = {id_: sketch(example) for id_, example in EXAMPLES.items()}
deeds = st.lists(st.tuples(st.booleans(), st.integers(0, len(POOL) - 1)), max_size=80)
capacities = st.integers(1, 20)


def prepared(structure: LabelledStructure) -> Example:
    return EXAMPLES[structure.id]


def done(capacity: int, some: list[tuple[bool, int]]) -> Coverage:
    memory = Coverage(capacity, prepared)
    for is_offer, index in some:
        if is_offer:
            memory.offer(POOL[index])
        else:
            memory.discard(POOL[index].id)
    return memory


@given(some=deeds, capacity=capacities)
def test_each_structure_knows_how_far_its_nearest_neighbor_is(some, capacity):
    memory = done(capacity, some)
    sketches = np.array([SKETCHES[structure.id] for structure in memory]).reshape(len(memory), SKETCH).astype(float)
    distances = ((sketches[:, None] - sketches[None]) ** 2).sum(axis=2) + np.diag(np.full(len(memory), np.inf))
    found = memory.state_dict()
    np.testing.assert_allclose(found["distance"], distances.min(axis=1, initial=np.inf), rtol=1e-5)
    np.testing.assert_allclose(distances[np.arange(len(memory)), found["nearest"]], found["distance"], rtol=1e-5)


@given(some=deeds, capacity=capacities)
def test_places_are_where_indexing_finds_them(some, capacity):
    memory = done(capacity, some)
    assert [memory.index(structure.id) for structure in memory] == list(range(len(memory)))
    assert [memory[place] for place in range(len(memory))] == list(memory)


@given(before=deeds, after=deeds, capacity=capacities)
def test_a_restored_memory_goes_on_as_if_it_had_never_stopped(before, after, capacity):
    memory = done(capacity, before)
    restored = Coverage(capacity, prepared)
    restored.load(list(memory), memory.state_dict())
    for is_offer, index in after:
        for one in (memory, restored):
            if is_offer:
                one.offer(POOL[index])
            else:
                one.discard(POOL[index].id)
    assert [structure.id for structure in restored] == [structure.id for structure in memory]
    for name, array in memory.state_dict().items():
        np.testing.assert_array_equal(restored.state_dict()[name], array)


@given(offered=st.lists(st.integers(0, len(POOL) - 1), max_size=80), capacity=capacities)
def test_no_more_than_the_capacity_is_kept_and_all_of_it_is_used(offered, capacity):
    assert len(done(capacity, [(True, index) for index in offered])) == min(capacity, len(set(offered)))
