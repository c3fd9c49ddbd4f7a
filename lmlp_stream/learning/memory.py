"""What a learner remembers: structures to rehearse, structures held out, and ids that have been seen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from lmlp_stream.atoms.batch import Example
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.atoms.symmetry import SymmetryFunctions
from lmlp_stream.config import Config
from lmlp_stream.learning.columns import from_columns, in_room, to_columns
from lmlp_stream.learning.coverage import Coverage
from lmlp_stream.learning.descriptor_cache import DescriptorCache
from lmlp_stream.learning.known_ids import KnownIds
from lmlp_stream.learning.reservoir import Reservoir, hold_out_salt, is_held_out


class Memory:
    """Everything of bounded size that is kept of the stream.

    Attributes:
        reservoir: Structures to rehearse.
        hold_out: Structures that are never learned; only the share of the linear part follows them.
    """

    def __init__(self, config: Config, functions: SymmetryFunctions) -> None:
        self._cache = DescriptorCache(functions, config.learning.cache_bytes)
        self._levels = (config.wire.level_of_theory, *config.wire.further_levels)
        self._prepare = partial(_prepared, self._cache, self._levels)
        self.reservoir = self._rehearsed(config)
        self._salt = hold_out_salt(config.seed)
        self.hold_out = Reservoir(config.rehearsal.holdout_capacity, self._salt)
        self._known = KnownIds(config.learning.remembered_ids)
        self._condemned = KnownIds(config.learning.remembered_ids)
        self._vouched = KnownIds(config.learning.remembered_ids)
        self._share = config.rehearsal.holdout_share

    def admit(self, structures: Sequence[LabelledStructure]) -> list[LabelledStructure]:
        """The structures whose ids are new, and once those that were condemned and are vouched for now."""
        return [structure for structure in structures if self._is_new(structure)]

    def is_held_out(self, structure: LabelledStructure) -> bool:
        """Whether the structure belongs to the hold-out, by the lot of its group: none of a further level of theory."""
        return not self.head_of(structure) and is_held_out(structure, self._share, self._salt)

    def head_of(self, structure: LabelledStructure) -> int:
        """Output of the networks that the labels belong to: 0 of the main level of theory, then of the further ones."""
        return _head(structure, self._levels)

    def prepare(self, structure: LabelledStructure) -> Example:
        """The structure with its descriptors, computed once while the cache has room."""
        return self._prepare(structure)

    def remember(self, structures: Sequence[LabelledStructure]) -> None:
        """Offer structures to the reservoir, or to the hold-out where they belong."""
        for structure in structures:
            kept = self.hold_out if self.is_held_out(structure) else self.reservoir
            pushed_out = kept.offer(structure)
            if pushed_out is not None and pushed_out is not structure:
                self._cache.forget(pushed_out)

    def kept(self, id_: str) -> LabelledStructure | None:
        """The structure that reservoir or hold-out keeps under this id, or None."""
        for room in (self.reservoir, self.hold_out):
            place = room.index(id_)
            if place is not None:
                return room[place]
        return None

    def forget(self, structure: LabelledStructure) -> None:
        """Keep a structure no longer."""
        self.reservoir.discard(structure.id)
        self.hold_out.discard(structure.id)
        self._cache.forget(structure)

    def condemn(self, structure: LabelledStructure) -> None:
        """Keep a structure no longer, and let it in once more if somebody vouches for it."""
        self.forget(structure)
        self._condemned.add(structure.id)

    def forget_unkept(self, structures: Sequence[LabelledStructure]) -> None:
        """Drop the descriptors of structures that neither reservoir nor hold-out kept."""
        for structure in structures:
            if self.kept(structure.id) is None:
                self._cache.forget(structure)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything `load_state_dict` needs; descriptors are left out, they are computed again."""
        return {
            **{f"{name}_ids": ids.to_array() for name, ids in self._ids().items()},
            **{f"reservoir.{name}": column for name, column in to_columns(list(self.reservoir)).items()},
            **{f"coverage.{name}": array for name, array in self.reservoir.state_dict().items()},
            **{f"hold_out.{name}": column for name, column in to_columns(list(self.hold_out)).items()},
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Remember what `state_dict` wrote; this memory must be empty."""
        for name, ids in self._ids().items():
            ids.load(state[f"{name}_ids"])
        self.reservoir.load(from_columns(in_room(state, "reservoir.")), in_room(state, "coverage."))
        self.hold_out.load(from_columns(in_room(state, "hold_out.")), {})

    def _rehearsed(self, config: Config) -> Coverage | Reservoir:
        capacity = config.rehearsal.capacity
        if config.rehearsal.selection == "coverage":
            return Coverage(capacity, self._prepare)
        return Reservoir(capacity, f"{config.seed}/rehearsal")

    def _is_new(self, structure: LabelledStructure) -> bool:
        again = structure.vouched and structure.id in self._condemned and self._vouched.add(structure.id)
        return self._known.add(structure.id) or again

    def _ids(self) -> dict[str, KnownIds]:
        return {"known": self._known, "condemned": self._condemned, "vouched": self._vouched}


def _head(structure: LabelledStructure, levels: Sequence[str]) -> int:
    level = structure.level_of_theory
    return levels.index(level) if level in levels else 0


def _prepared(cache: DescriptorCache, levels: Sequence[str], structure: LabelledStructure) -> Example:
    """No method: a memory whose parts knew it would live on in a cycle with all its descriptors."""
    example, head = cache.prepare(structure), _head(structure, levels)
    return replace(example, head=head) if head else example
