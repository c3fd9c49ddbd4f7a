"""Descriptors are kept while there is room, and are the same either way."""

import torch

from lmlp_stream.atoms.symmetry import SymmetryFunctions, spec_of
from lmlp_stream.config import SymmetryConfig
from lmlp_stream.learning.descriptor_cache import DescriptorCache
from tests.unit.learning.structures import labelled

FUNCTIONS = SymmetryFunctions(spec_of(SymmetryConfig(preset="published")), torch.float32, torch.device("cpu"))
ONE = FUNCTIONS.evaluate(labelled(0)).n_bytes


def test_a_structure_is_prepared_once_while_there_is_room():
    cache, structure = DescriptorCache(FUNCTIONS, 10 * ONE), labelled(0)
    assert cache.prepare(structure) is cache.prepare(structure)
    assert cache.n_bytes == ONE


def test_the_least_recently_used_is_dropped_first():
    cache = DescriptorCache(FUNCTIONS, 2 * ONE)
    first, second, third = (labelled(index) for index in range(3))
    kept, dropped = cache.prepare(first), cache.prepare(second)
    cache.prepare(first)
    cache.prepare(third)
    assert cache.prepare(first) is kept
    again = cache.prepare(second)
    assert again is not dropped
    assert torch.equal(again.descriptors.radial, dropped.descriptors.radial)
    assert torch.equal(again.descriptors.angular, dropped.descriptors.angular)
    assert cache.n_bytes <= 2 * ONE


def test_without_room_everything_is_computed_each_time():
    cache, structure = DescriptorCache(FUNCTIONS, 0), labelled(0)
    assert cache.prepare(structure) is not cache.prepare(structure)
    assert cache.n_bytes == 0


def test_another_structure_of_the_same_id_does_not_get_foreign_descriptors():
    cache = DescriptorCache(FUNCTIONS, 10 * ONE)
    one, other = labelled(0), labelled(1, id=labelled(0).id)
    cache.prepare(one)
    assert torch.equal(cache.prepare(other).descriptors.values, FUNCTIONS.evaluate(other).values)
    assert cache.n_bytes == ONE


def test_what_is_forgotten_frees_its_memory():
    cache, structure = DescriptorCache(FUNCTIONS, 10 * ONE), labelled(0)
    cache.prepare(structure)
    cache.forget(structure)
    cache.forget(structure)
    assert cache.n_bytes == 0
