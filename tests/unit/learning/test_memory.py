"""The memory of a learner and what it holds go together."""

import gc
import weakref

import torch

from lmlp_stream.atoms.symmetry import SymmetryFunctions, spec_of
from lmlp_stream.config import Config
from lmlp_stream.learning.memory import Memory
from tests.unit.learning.structures import labelled


def test_a_memory_that_nobody_needs_is_gone_at_once_with_its_descriptors():
    config = Config()
    memory = Memory(config, SymmetryFunctions(spec_of(config.symmetry), torch.float32, torch.device("cpu")))
    memory.remember([labelled(0)])
    example = weakref.ref(memory.prepare(labelled(0)).descriptors.values)
    gc.disable()
    try:
        del memory
        assert example() is None
    finally:
        gc.enable()
