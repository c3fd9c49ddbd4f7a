"""Descriptors of remembered structures under a memory budget; what was dropped is computed again with equal bits."""

from collections import OrderedDict

from lmlp_stream.atoms.batch import Example
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.atoms.symmetry import SymmetryFunctions


class DescriptorCache:
    """Prepares structures for learning and keeps the most recently used ones prepared.

    Args:
        functions: Computes descriptors.
        max_bytes: Memory for descriptors, bytes.
    """

    def __init__(self, functions: SymmetryFunctions, max_bytes: int) -> None:
        self._functions = functions
        self._max_bytes = max_bytes
        self._examples: OrderedDict[str, Example] = OrderedDict()
        self._n_bytes = 0

    @property
    def n_bytes(self) -> int:
        """Memory of the kept descriptors, bytes."""
        return self._n_bytes

    def prepare(self, structure: LabelledStructure) -> Example:
        """The structure with its descriptors."""
        kept = self._examples.get(structure.id)
        if kept is not None and kept.structure is structure:
            self._examples.move_to_end(structure.id)
            return kept
        self.forget(structure)
        example = Example(structure, self._functions.evaluate(structure))
        self._examples[structure.id] = example
        self._n_bytes += example.descriptors.n_bytes
        while self._n_bytes > self._max_bytes:
            _, dropped = self._examples.popitem(last=False)
            self._n_bytes -= dropped.descriptors.n_bytes
        return example

    def forget(self, structure: LabelledStructure) -> None:
        """Drop the descriptors of a structure that is not remembered any more."""
        dropped = self._examples.pop(structure.id, None)
        if dropped is not None:
            self._n_bytes -= dropped.descriptors.n_bytes
