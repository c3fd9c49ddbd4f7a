"""What the door lets in: the configured limits, and those that protect it whatever is configured."""

from dataclasses import dataclass
from typing import Self

from lmlp_stream.atoms.elements import LAST_PUBLISHED_ELEMENT, N_ATOMIC_NUMBERS
from lmlp_stream.config import WireConfig

LAST_ELEMENTS = {"published": LAST_PUBLISHED_ELEMENT, "extended": N_ATOMIC_NUMBERS - 1}
"""Xe, the last element whose factors are published, and Og, the last one of the extension, by `wire.elements`."""

MAX_ATOMIC_NUMBER = max(LAST_ELEMENTS.values())
"""The last element that can be let in at all."""

MAX_COORDINATE = 1e6
"""Largest component of a position or lattice vector, Å: beyond it float64 loses what a bond length needs."""

MAX_ENERGY_PER_ATOM = 1e6
"""Largest energy per atom, eV: five times the all-electron energy of a xenon atom (2.0e5 eV)."""

MAX_STRESS = 1e3
"""Largest stress component, eV/Å³ (160 TPa)."""

MAX_CHARGE = 1e3
"""Largest total charge, e."""

MAX_WEIGHT = 1e3
"""Largest weight of a structure in the loss."""

NEIGHBORHOOD = 2.0
"""Radius in which atoms are counted to bound the number of neighbors, Å."""

MAX_NEIGHBORHOOD = 64
"""Most atoms within `NEIGHBORHOOD` of an atom: twice the density of hydrogen in the core of Jupiter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The configured limits of a record.

    Attributes:
        level_of_theory: The level of theory that is let in, compared character by character.
        further_levels: Further ones that are let in.
        elements: Which elements are let in, a key of `LAST_ELEMENTS`.
        max_record_bytes: Largest record, bytes.
        max_atoms: Largest structure, atoms.
        min_distance: Atoms closer than this overlap, Å.
        max_force: Largest force component, eV/Å.
        max_net_force: Largest net force per atom of an isolated molecule, eV/Å.
    """

    level_of_theory: str
    further_levels: tuple[str, ...]
    elements: str
    max_record_bytes: int
    max_atoms: int
    min_distance: float
    max_force: float
    max_net_force: float

    @classmethod
    def of(cls, wire: WireConfig) -> Self:
        """The limits a configuration says."""
        return cls(
            level_of_theory=wire.level_of_theory,
            further_levels=wire.further_levels,
            elements=wire.elements,
            max_record_bytes=wire.max_record_bytes,
            max_atoms=wire.max_atoms,
            min_distance=wire.min_distance,
            max_force=wire.max_force,
            max_net_force=wire.max_net_force,
        )

    @property
    def last_element(self) -> int:
        """Largest atomic number that is let in."""
        return LAST_ELEMENTS[self.elements]
