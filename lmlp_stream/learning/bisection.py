"""Which structures of a micro-batch cannot be learned."""

from collections.abc import Callable, Sequence

from lmlp_stream.atoms.structure import LabelledStructure


def guilty(
    structures: Sequence[LabelledStructure], sound: Callable[[Sequence[LabelledStructure]], bool]
) -> list[LabelledStructure]:
    """The structures that are not sound alone, found by halving; none where only their company is not sound."""
    if sound(structures):
        return []
    if len(structures) == 1:
        return list(structures)
    middle = len(structures) // 2
    return guilty(structures[:middle], sound) + guilty(structures[middle:], sound)
