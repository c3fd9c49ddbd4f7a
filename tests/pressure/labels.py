"""Small labels without end: two or three atoms, held by springs."""

from collections.abc import Iterator

import numpy as np

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.wire.record import encode

LEVEL = "springs"
STIFFNESS_EV_PER_A2 = 30.0
MOLECULES = (
    ("HF", [1, 9], [[0.0, 0.0, 0.0], [0.92, 0.0, 0.0]]),
    ("CO", [6, 8], [[0.0, 0.0, 0.0], [1.13, 0.0, 0.0]]),
    ("N2", [7, 7], [[0.0, 0.0, 0.0], [1.1, 0.0, 0.0]]),
    ("H2O", [8, 1, 1], [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]),
)


def records(n_labels: int, seed: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each of `n_labels` different labels."""
    generator = np.random.default_rng(seed)
    for number in range(n_labels):
        name, numbers, rest = MOLECULES[number % len(MOLECULES)]
        equilibrium = np.array(rest)
        positions = equilibrium + generator.normal(scale=0.03, size=equilibrium.shape)
        energy, forces = _springs(positions, equilibrium)
        structure = LabelledStructure(
            id=f"label {seed}/{number}",
            group=f"group {seed}/{number // 8}",
            domain=name,
            atomic_numbers=np.array(numbers),
            positions=positions,
            cell=np.zeros((3, 3)),
            pbc=np.zeros(3, dtype=bool),
            energy=energy,
            forces=forces,
            level_of_theory=LEVEL,
            source="pressure",
        )
        yield structure.group.encode(), encode(structure)


def _springs(positions: np.ndarray, equilibrium: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy in eV and forces in eV/Å of a spring between each two atoms."""
    first, second = np.triu_indices(len(positions), 1)
    vectors = positions[second] - positions[first]
    lengths = np.linalg.norm(vectors, axis=1)
    stretch = lengths - np.linalg.norm(equilibrium[second] - equilibrium[first], axis=1)
    pull = (STIFFNESS_EV_PER_A2 * stretch / lengths)[:, None] * vectors
    forces = np.zeros_like(positions)
    np.add.at(forces, first, pull)
    np.add.at(forces, second, -pull)
    return 0.5 * STIFFNESS_EV_PER_A2 * float(stretch @ stretch), forces
