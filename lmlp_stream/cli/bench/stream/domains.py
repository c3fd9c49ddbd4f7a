"""A stream cut into domains, in the order in which they come, with the structures each is tested on."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import numpy as np
from ase import Atoms

from lmlp_stream.atoms.elements import ATOMIC_NUMBERS
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.errors import UsageError
from lmlp_stream.farm.door import labelled
from lmlp_stream.farm.files import COMPRESSED, read_structures
from lmlp_stream.farm.labels import LabelFinder, Missing
from lmlp_stream.farm.naming import Naming
from lmlp_stream.learning.reservoir import lot

GIVEN, SHUFFLED = "given", "shuffled"
"""Orders of domains by name; any other is a list of symbols."""
SALT = "bench"
"""Key of the lots that shuffle domains and hold groups out."""
FORMATS = (".extxyz", ".xyz", ".db", ".json", ".traj", ".cif")
"""Ends of file names that say a format; domains go without them."""


@dataclass(frozen=True, slots=True)
class Domain:
    """One stage of a stream.

    Attributes:
        name: Molecule, reaction or phase.
        learned: What arrives, in its order.
        tested: What is never learned, in no domain.
    """

    name: str
    learned: tuple[LabelledStructure, ...]
    tested: tuple[LabelledStructure, ...]

    @property
    def elements(self) -> frozenset[int]:
        """Atomic numbers of what arrives."""
        return frozenset(int(z) for structure in self.learned for z in structure.atomic_numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How files become a stream.

    Attributes:
        by: `info` key of the domain; empty: each file is a domain.
        sort: `info` key whose value orders the structures of a domain; empty: as they lie in the file.
        order: Of the domains: `given`, `shuffled`, or symbols, `F,O,N`: those without any of them first, then those
            with F, then those with O, and so on.
        per_domain: Structures of a domain that arrive, evenly spaced in its order; 0: all.
        test_share: Share of the groups of a domain that is held out where there is no test file.
    """

    by: str = ""
    sort: str = ""
    order: str = GIVEN
    per_domain: int = 0
    test_share: float = 0.1


def read_domains(
    files: Sequence[Path], tests: Sequence[Path], cut: Cut, advance: Callable[[], None]
) -> tuple[Domain, ...]:
    """The domains of a stream; `advance` is called after each structure.

    Args:
        files: Labelled structures that arrive; each file once.
        tests: Labelled structures to test on, by the same `info` key, or one file for each of `files`; none: a share of
            the groups of each domain is held out.
        cut: How files become a stream.
        advance: Called after each structure that was read.

    Raises:
        UsageError: A file cannot be read or comes twice, a structure lacks labels or a key, or a domain has nothing to
            learn or test.
    """
    if not cut.by and tests and len(tests) != len(files):
        raise UsageError(f"{len(tests)} test files for {len(files)} files; give one for each, in their order, or --by")
    names = _names(files)
    arriving = _by_domain(files, names, cut, advance)
    testing = (
        _by_domain(tests, names, replace(cut, sort=""), advance)
        if tests
        else {name: _held_out(structures, cut.test_share) for name, structures in arriving.items()}
    )
    apart = {item.id for tested in testing.values() for item in tested}
    domains = []
    for name, structures in arriving.items():
        learned = [item for item in structures if item.id not in apart]
        domain = Domain(name, _evenly(learned, cut.per_domain), tuple(testing.get(name, ())))
        if not domain.learned or not domain.tested:
            raise UsageError(
                f"domain {name!r} has {len(domain.learned)} structures to learn and {len(domain.tested)} to test on; "
                "give test files with --test, or more groups"
            )
        domains.append(domain)
    return _ordered(domains, cut.order)


def _names(files: Sequence[Path]) -> list[str]:
    """The shortest name of each file that no other has: without its format, behind as few folders as it takes."""
    possible = [_possible_names(file.parent.resolve() / file.name) for file in files]
    times = Counter(name for names in possible for name in set(names))
    found = [next((name for name in names if times[name] == 1), "") for names in possible]
    if "" in found:
        raise UsageError(f"{files[found.index('')]} is given more than once; name each file once")
    return found


def _possible_names(path: Path) -> list[str]:
    plain = path.with_suffix("") if path.suffix in COMPRESSED else path
    plain = plain.with_suffix("") if plain.suffix in FORMATS else plain
    return ["/".join(parts[-n:]) for parts in (plain.parts, path.parts) for n in range(1, len(parts) + 1)]


def _by_domain(
    paths: Sequence[Path], names: Sequence[str], cut: Cut, advance: Callable[[], None]
) -> dict[str, list[LabelledStructure]]:
    """Structures by domain, both in order of appearance; without a key, each file is one of these names."""
    found: dict[str, list[tuple[float, LabelledStructure]]] = {}
    for path, name in zip(paths, repeat("") if cut.by else names, strict=False):
        for place, structure in _structures(path, cut, name):
            found.setdefault(structure.domain, []).append((place, structure))
            advance()
    return {
        name: [structure for _, structure in sorted(items, key=lambda item: item[0])] for name, items in found.items()
    }


def _structures(path: Path, cut: Cut, name: str) -> Iterator[tuple[float, LabelledStructure]]:
    """Structures of a file, each with the number that orders it within its domain."""
    finder, naming = LabelFinder(), Naming(cut.by)
    for number, atoms in enumerate(read_structures(path), start=1):
        place = f"{path}, structure {number}"
        labels = finder.find(atoms, place)
        if isinstance(labels, Missing):
            raise UsageError(f"{place} lacks {labels.clause}; a stream needs labelled structures")
        if cut.by and cut.by not in atoms.info:
            raise UsageError(f"{place} has no info key {cut.by!r}; name another with --by")
        structure = labelled(atoms, labels, naming, place=place, level_of_theory="", source="")
        yield _number(atoms, cut.sort, place), replace(structure, domain=name or structure.domain)


def _number(atoms: Atoms, key: str, place: str) -> float:
    if not key:
        return 0.0
    try:
        return float(atoms.info[key])
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"{place} has no number under the info key {key!r}; name another with --sort") from None


def _held_out(structures: Sequence[LabelledStructure], share: float) -> list[LabelledStructure]:
    """The structures of the share of groups with the lowest lots, but never of none or of all."""
    groups = sorted({item.group for item in structures}, key=lambda group: lot(SALT, group))
    held_out = set(groups[: min(max(1, round(share * len(groups))), len(groups) - 1)])
    return [item for item in structures if item.group in held_out]


def _evenly(structures: Sequence[LabelledStructure], most: int) -> tuple[LabelledStructure, ...]:
    if not most or len(structures) <= most:
        return tuple(structures)
    return tuple(structures[index] for index in np.linspace(0, len(structures) - 1, most).round().astype(int))


def _ordered(domains: Sequence[Domain], order: str) -> tuple[Domain, ...]:
    if order == GIVEN:
        return tuple(domains)
    if order == SHUFFLED:
        return tuple(sorted(domains, key=lambda domain: lot(SALT, domain.name)))
    symbols = [symbol.strip() for symbol in order.split(",")]
    unknown = [symbol for symbol in symbols if symbol not in ATOMIC_NUMBERS]
    if unknown:
        raise UsageError(f"--order {order!r}: {unknown[0]!r} is no element; say {GIVEN}, {SHUFFLED} or symbols: F,O,N")
    stages = [ATOMIC_NUMBERS[symbol] for symbol in symbols]

    def stage(domain: Domain) -> int:
        return max((place for place, z in enumerate(stages, start=1) if z in domain.elements), default=0)

    return tuple(sorted(domains, key=stage))
