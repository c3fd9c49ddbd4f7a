"""From vectors between atoms to atoms and back, compiled for the CPU.

Axes: n atoms, N neighbors, M members. An atom is its own neighbor in the padding, where it takes from itself what it
gives.
"""

import numpy as np
from jaxtyping import Float, Int

from lmlp_stream.atoms.compiled import compiled


@compiled
def sums(
    by_vector: Float[np.ndarray, "n M 3*N"], neighbor_index: Int[np.ndarray, "n N"], found: Float[np.ndarray, "n 3 M"]
) -> None:
    """Add to `found`, of each atom, what vectors say that begin there, less what those say that end there."""
    n_atoms, n_neighbors = neighbor_index.shape
    for i in range(n_atoms):
        for m in range(by_vector.shape[1]):
            for component in range(3):
                first = component * n_neighbors
                total = by_vector.dtype.type(0)
                for slot in range(n_neighbors):
                    value = by_vector[i, m, first + slot]
                    total += value
                    found[neighbor_index[i, slot], component, m] -= value
                found[i, component, m] += total


@compiled
def differences(
    by_atom: Float[np.ndarray, "n 3 M"], neighbor_index: Int[np.ndarray, "n N"], found: Float[np.ndarray, "n 3 N M"]
) -> None:
    """Write, for each vector, what the atom says where it begins, less what the one says where it ends."""
    n_atoms, n_neighbors = neighbor_index.shape
    for i in range(n_atoms):
        for component in range(3):
            for slot in range(n_neighbors):
                j = neighbor_index[i, slot]
                for m in range(by_atom.shape[2]):
                    found[i, component, slot, m] = by_atom[i, component, m] - by_atom[j, component, m]
