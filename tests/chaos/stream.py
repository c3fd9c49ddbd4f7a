"""A cheap stream that tries what a real one does: molecules of two to four atoms, duplicates, damaged records."""

from dataclasses import dataclass
from random import Random

import numpy as np

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.wire.record import encode

LEVEL = "Morse"
DEPTH_EV, STEEPNESS_PER_A = 1.0, 1.5
MOLECULES = {
    "HF": ([1, 9], [[0.0, 0.0, 0.0], [0.92, 0.0, 0.0]]),
    "H2O": ([8, 1, 1], [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]),
    "CO2": ([6, 8, 8], [[0.0, 0.0, 0.0], [1.16, 0.0, 0.0], [-1.16, 0.0, 0.0]]),
    "NH3": ([7, 1, 1, 1], [[0.0, 0.0, 0.1], [0.94, 0.0, -0.27], [-0.47, 0.81, -0.27], [-0.47, -0.81, -0.27]]),
}
DUPLICATE_SHARE, DAMAGED_SHARE = 0.02, 0.01
GROUP = 4


@dataclass(frozen=True, slots=True)
class Stream:
    """Records in their order, and what is true of them.

    Attributes:
        records: Key and value of each.
        n_labels: Different labels among them.
        damaged: Places of records that no learner may learn.
    """

    records: tuple[tuple[bytes, bytes], ...]
    n_labels: int
    damaged: tuple[int, ...]


def stream(n_labels: int, seed: int) -> Stream:
    """A stream of `n_labels` different labels; some come again later, some damaged records come between."""
    random = Random(f"stream {seed}")
    generator = np.random.default_rng(seed)
    labels = [_label(number, generator) for number in range(n_labels)]
    records: list[tuple[bytes, bytes]] = []
    damaged: list[int] = []
    for number, label in enumerate(labels):
        records.append(label)
        if random.random() < DUPLICATE_SHARE:
            records.append(labels[random.randint(max(0, number - 500), number)])
        if random.random() < DAMAGED_SHARE:
            damaged.append(len(records))
            records.append((label[0], label[1][: random.randrange(len(label[1]))]))
    return Stream(tuple(records), n_labels, tuple(damaged))


def _label(number: int, generator: np.random.Generator) -> tuple[bytes, bytes]:
    name = list(MOLECULES)[number // GROUP % len(MOLECULES)]
    numbers, equilibrium = (np.array(values) for values in MOLECULES[name])
    positions = equilibrium + generator.normal(scale=0.04, size=equilibrium.shape)
    energy, forces = _morse(positions, equilibrium)
    structure = LabelledStructure(
        id=f"label {number}",
        group=f"group {number // GROUP}",
        domain=name,
        atomic_numbers=numbers,
        positions=positions,
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        energy=energy,
        forces=forces,
        level_of_theory=LEVEL,
        source="chaos",
    )
    return structure.group.encode(), encode(structure)


def _morse(positions: np.ndarray, equilibrium: np.ndarray) -> tuple[float, np.ndarray]:
    """Energy, eV, and forces, eV/Å, of Morse bonds between all pairs (Morse 1929, doi 10.1103/PhysRev.34.57, eq. 4)."""
    first, second = np.triu_indices(len(positions), 1)
    vectors = positions[second] - positions[first]
    lengths = np.linalg.norm(vectors, axis=1)
    rest = np.linalg.norm(equilibrium[second] - equilibrium[first], axis=1)
    decay = np.exp(-STEEPNESS_PER_A * (lengths - rest))
    slopes = 2.0 * DEPTH_EV * STEEPNESS_PER_A * (1.0 - decay) * decay
    forces = np.zeros_like(positions)
    np.add.at(forces, first, (slopes / lengths)[:, None] * vectors)
    np.add.at(forces, second, -(slopes / lengths)[:, None] * vectors)
    return float(np.sum(DEPTH_EV * ((1.0 - decay) ** 2 - 1.0))), forces
