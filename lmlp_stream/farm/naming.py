"""Names of a labelled structure: its id, its domain and its group."""

import hashlib
from collections import Counter

import numpy as np
from ase import Atoms

from lmlp_stream.atoms.structure import Structure
from lmlp_stream.errors import UsageError
from lmlp_stream.farm.labels import Labels

DOMAIN_KEYS = ("domain", "reaction", "molecule", "system", "config_type", "element")
GROUP_KEYS = ("group_id", "trajectory", "trajectory_id", "traj_id")
SEGMENT = 10
"""Consecutive structures that share a group where nothing else says what belongs together."""


def structure_id(structure: Structure, labels: Labels, level_of_theory: str) -> str:
    """The sha256 (hexadecimal) of geometry, charge, multiplicity, labels and level of theory.

    The same label always has the same id, whoever publishes it and from whatever file.
    """
    digest = hashlib.sha256(b"lmlp_stream structure 1")
    for numbers in (structure.atomic_numbers, structure.pbc, np.array([structure.multiplicity, structure.n_atoms])):
        digest.update(numbers.astype("<i8").tobytes())
    stress = np.full((3, 3), np.nan) if labels.stress is None else labels.stress
    scalars = np.array([structure.charge, labels.energy])
    for figures in (structure.positions, structure.cell, scalars, labels.forces, stress):
        digest.update(_canonical(figures).tobytes())
    digest.update(level_of_theory.encode())
    return digest.hexdigest()


def _canonical(figures: np.ndarray) -> np.ndarray:
    """Little-endian float64 with one zero and one NaN."""
    return np.where(np.isnan(figures), np.nan, figures + 0.0).astype("<f8")


class Naming:
    """Says the domain and the group of the structures of one file or one publisher, in their order.

    Args:
        domain_key: The `info` key of the domain; empty: the first of `DOMAIN_KEYS` that is there, else the formula.
        group_keys: The `info` keys that name the group together; empty: the first of `GROUP_KEYS` that is there, else
            `window` within its domain, else segments of `SEGMENT` consecutive structures named after their first.

    Attributes:
        domains_from: How many domains were taken from what.
        groups_from: How many groups were taken from what.
    """

    def __init__(self, domain_key: str = "", group_keys: tuple[str, ...] = ()) -> None:
        self._domain_key = domain_key
        self._group_keys = group_keys
        self._segment = ""
        self._n_in_segment = 0
        self.domains_from: Counter[str] = Counter()
        self.groups_from: Counter[str] = Counter()

    def domain(self, atoms: Atoms, place: str) -> str:
        """What errors on this structure are reported by.

        Raises:
            UsageError: It lacks the key that was asked for.
        """
        keys = (self._domain_key,) if self._domain_key else DOMAIN_KEYS
        key = next((key for key in keys if key in atoms.info), "")
        if self._domain_key and not key:
            raise _missing(place, self._domain_key, "--domain-key")
        self.domains_from[f"info {key!r}" if key else "the chemical formula"] += 1
        return str(atoms.info[key]) if key else str(atoms.get_chemical_formula())

    def group(self, atoms: Atoms, place: str, domain: str, id_: str) -> str:
        """The trajectory segment of this structure.

        Raises:
            UsageError: It lacks a key that was asked for.
        """
        if self._group_keys:
            for key in self._group_keys:
                if key not in atoms.info:
                    raise _missing(place, key, "--group-key")
            self.groups_from["info " + " and ".join(repr(key) for key in self._group_keys)] += 1
            return "/".join(str(atoms.info[key]) for key in self._group_keys)
        for key in GROUP_KEYS:
            if key in atoms.info:
                self.groups_from[f"info {key!r}"] += 1
                return str(atoms.info[key])
        if "window" in atoms.info:
            self.groups_from["the domain and info 'window'"] += 1
            return f"{domain}/{atoms.info['window']}"
        self.groups_from[f"segments of {SEGMENT} consecutive structures"] += 1
        return self._next_in_segment(domain, id_)

    def _next_in_segment(self, domain: str, id_: str) -> str:
        if self._n_in_segment % SEGMENT == 0:
            self._segment = f"{domain}/{id_[:16]}"
        self._n_in_segment += 1
        return self._segment


def _missing(place: str, key: str, option: str) -> UsageError:
    return UsageError(f"{place} has no info key {key!r}; name another with {option}")
