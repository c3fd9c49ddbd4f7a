"""Labels made wrong on purpose, in the ways that farms get them wrong."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from ase.units import Bohr, Hartree

from lmlp_stream.atoms.elements import N_ATOMIC_NUMBERS
from lmlp_stream.atoms.structure import LabelledStructure

OTHER_LEVEL = (0.1, 0.4)
"""By how much atomic energies of another level of theory lie higher at least and at most, eV."""
ENERGY_NOISE = 0.02
"""Standard deviation of the energy of an unconverged calculation, eV per atom."""
FORCE_NOISE = 0.3
"""Standard deviation of its force components, eV/Å."""

Corruption = Callable[[LabelledStructure, np.random.Generator, np.ndarray], LabelledStructure]


def corrupted(
    structures: Sequence[LabelledStructure], share: float, seed: int
) -> tuple[list[LabelledStructure], dict[str, str]]:
    """The stream with a share of its labels made wrong, and the kind of corruption by the id of each of them.

    Args:
        structures: The stream; the same structures in the same order come out, with other ids where they are wrong.
        share: Share of wrong labels, all kinds in equal parts.
        seed: Of every random choice.
    """
    random = np.random.default_rng(seed)
    shifts = random.uniform(*OTHER_LEVEL, size=N_ATOMIC_NUMBERS)
    places = random.permutation([place for place, one in enumerate(structures) if len(set(one.atomic_numbers)) > 1])
    stream, kinds = list(structures), {}
    for number, place in enumerate(places[: round(share * len(structures))]):
        kind = list(CORRUPTIONS)[number % len(CORRUPTIONS)]
        wrong = replace(CORRUPTIONS[kind](stream[place], random, shifts), id=f"{stream[place].id}/{kind}")
        stream[place] = wrong
        kinds[wrong.id] = kind
    return stream, kinds


def _hartree(structure: LabelledStructure, _: np.random.Generator, __: np.ndarray) -> LabelledStructure:
    return replace(structure, energy=structure.energy / Hartree, forces=structure.forces / (Hartree / Bohr))


def _sign(structure: LabelledStructure, _: np.random.Generator, __: np.ndarray) -> LabelledStructure:
    return replace(structure, forces=-structure.forces)


def _swapped(structure: LabelledStructure, random: np.random.Generator, _: np.ndarray) -> LabelledStructure:
    """Two atoms of different elements in each other's place; energy and forces stay where they are."""
    numbers = structure.atomic_numbers.copy()
    pairs = [(i, j) for i in range(len(numbers)) for j in range(i) if numbers[i] != numbers[j]]
    i, j = pairs[random.integers(len(pairs))]
    numbers[[i, j]] = numbers[[j, i]]
    return replace(structure, atomic_numbers=numbers)


def _other_level(structure: LabelledStructure, _: np.random.Generator, shifts: np.ndarray) -> LabelledStructure:
    return replace(structure, energy=structure.energy + float(shifts[structure.atomic_numbers].sum()))


def _unconverged(structure: LabelledStructure, random: np.random.Generator, _: np.ndarray) -> LabelledStructure:
    return replace(
        structure,
        energy=structure.energy + random.normal(scale=ENERGY_NOISE * structure.n_atoms),
        forces=structure.forces + random.normal(scale=FORCE_NOISE, size=structure.forces.shape),
    )


CORRUPTIONS: Mapping[str, Corruption] = {
    "hartree": _hartree,
    "gradient_sign": _sign,
    "swapped_atoms": _swapped,
    "other_level_of_theory": _other_level,
    "unconverged": _unconverged,
}
