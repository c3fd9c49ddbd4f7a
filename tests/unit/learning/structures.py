"""Small labelled structures made of a Morse-like pair potential, so that there is something to learn."""

import numpy as np

from lmlp_stream.atoms.structure import LabelledStructure

WATER = (8, 1, 1)
METHANE = (6, 1, 1, 1, 1)
AMMONIA = (7, 1, 1, 1)
SHAPES = {
    WATER: [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]],
    METHANE: [[0, 0, 0], [0.63, 0.63, 0.63], [0.63, -0.63, -0.63], [-0.63, 0.63, -0.63], [-0.63, -0.63, 0.63]],
    AMMONIA: [[0, 0, 0.1], [0.94, 0, -0.27], [-0.47, 0.81, -0.27], [-0.47, -0.81, -0.27]],
}


def labelled(index: int, numbers: tuple[int, ...] = WATER, **changes: object) -> LabelledStructure:
    """Structure `index` of a molecule with all atoms displaced; equal arguments give equal structures."""
    random = np.random.default_rng([index, *numbers])
    positions = np.array(SHAPES[numbers], dtype=np.float64)
    positions = positions + random.normal(scale=0.06, size=positions.shape)
    energy, forces = _morse(positions, numbers)
    fields: dict[str, object] = {
        "id": f"{numbers}/{index}",
        "group": f"{numbers}/{index // 4}",
        "domain": str(numbers),
        "atomic_numbers": np.array(numbers, dtype=np.int64),
        "positions": positions,
        "cell": np.zeros((3, 3)),
        "pbc": np.zeros(3, dtype=bool),
        "energy": energy,
        "forces": forces,
    }
    return LabelledStructure(**fields | changes)


def _morse(positions: np.ndarray, numbers: tuple[int, ...]) -> tuple[float, np.ndarray]:
    energy, forces = -13.6 * float(np.sum(np.array(numbers) ** 2)), np.zeros_like(positions)
    for i in range(len(positions)):
        for j in range(i):
            vector = positions[i] - positions[j]
            distance = float(np.linalg.norm(vector))
            decay = np.exp(-1.5 * (distance - 1.0))
            energy += float(2.0 * (1.0 - decay) ** 2)
            push = -2.0 * 2.0 * (1.0 - decay) * 1.5 * decay * vector / distance
            forces[i] += push
            forces[j] -= push
    return energy, forces
