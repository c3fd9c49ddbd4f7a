"""Structures to measure with: those of a file, or built-in ones where there is no file."""

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.emt import EMT

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.errors import UsageError
from lmlp_stream.farm.door import labelled
from lmlp_stream.farm.files import read_structures
from lmlp_stream.farm.labels import LabelFinder, Missing, calculated_labels
from lmlp_stream.farm.naming import Naming

BUILT_IN = "built-in: pyridine and ethanol"
DISTANCE = 5.0
"""From the plane of pyridine to the middle of ethanol, Å."""
DISPLACEMENT = 0.04
"""Standard deviation of the displacement of each coordinate, Å."""


def workload(path: Path | None, n_structures: int) -> tuple[LabelledStructure, ...]:
    """The first `n_structures` of a file, over again where it holds fewer; without a file, built-in ones.

    Raises:
        UsageError: The file cannot be read, is empty, or one of these structures has no labels.
    """
    structures = tuple(islice(_built_in() if path is None else _read(path), n_structures))
    if not structures:
        raise UsageError(f"{path} holds no structures; there is nothing to measure with")
    return tuple(islice(cycle(structures), n_structures))


def _read(path: Path) -> Iterator[LabelledStructure]:
    finder, naming = LabelFinder(), Naming()
    for number, atoms in enumerate(read_structures(path), start=1):
        place = f"{path}, structure {number}"
        labels = finder.find(atoms, place)
        if isinstance(labels, Missing):
            raise UsageError(f"{place} lacks {labels.clause}; bench needs labelled structures")
        yield labelled(atoms, labels, naming, place=place, level_of_theory="", source="")


def _built_in() -> Iterator[LabelledStructure]:
    """Endless displaced copies of pyridine beside ethanol: 20 atoms of H, C, N and O, labels from ASE's EMT."""
    random, naming = np.random.default_rng(0), Naming()
    pyridine, ethanol = molecule("C5H5N"), molecule("CH3CH2OH")
    ethanol.translate([DISTANCE, 0.0, 0.0])
    numbers = np.concatenate([pyridine.numbers, ethanol.numbers])
    positions = np.concatenate([pyridine.positions, ethanol.positions])
    while True:
        atoms = Atoms(numbers=numbers, positions=positions + random.normal(scale=DISPLACEMENT, size=positions.shape))
        atoms.calc = EMT()
        yield labelled(atoms, calculated_labels(atoms), naming, place=BUILT_IN, level_of_theory="", source="")
