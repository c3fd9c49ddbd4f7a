"""From dE/dG to forces and virial, and back from a derivative by forces to one by dE/dG; compiled for the CPU.

One part of a batch at a time. Axes: M members, A atoms of a batch, n atoms of the part, D symmetry functions, the R
radial ones before the Q angular ones, N neighbors. An atom is its own neighbor in the padding, where it takes from
itself what it gives.
"""

import numpy as np
from jaxtyping import Float, Int

from lmlp_stream.atoms.compiled import compiled
from lmlp_stream.potential.rows_kernel import product, product_with_rows

Gradients = Float[np.ndarray, "A M D"]
Neighbors = Int[np.ndarray, "n N"]


@compiled
def forces_and_virial(
    gradients: Gradients,
    rows: Int[np.ndarray, "n"],
    radial: Float[np.ndarray, "n N R"],
    angular: Float[np.ndarray, "n Q 3*N"],
    neighbor_index: Neighbors,
    units: Float[np.ndarray, "n 3 N"],
    distances: Float[np.ndarray, "n N"],
    forces: Float[np.ndarray, "n 3 M"],
    virial: Float[np.ndarray, "V 3 3"],
) -> None:
    """Write forces; add up the virial of each member, or of none where V is 0.

    Args:
        gradients: dE_i/dG_i of every member.
        rows: Place of each atom of the part in `gradients`.
        radial: dG_i/dR_ij of the radial functions.
        angular: dG_i/d(r_j - r_i) of the angular functions: all x, then all y, then all z.
        neighbor_index: Index j of each neighbor.
        units: Unit vector to each neighbor.
        distances: R_ij; not read where V is 0.
        forces: Where forces are written.
        virial: Where the virial is added, zero at first.
    """
    (n_atoms, n_neighbors), n_members, n_radial = neighbor_index.shape, gradients.shape[1], radial.shape[2]
    by_distance = np.empty((n_members, n_neighbors), gradients.dtype)
    by_vector = np.empty((n_members, 3 * n_neighbors), gradients.dtype)
    forces[:] = 0
    for i in range(n_atoms):
        of_atom = gradients[rows[i]]
        product_with_rows(of_atom[:, :n_radial], radial[i], by_distance)
        product(of_atom[:, n_radial:], angular[i], by_vector)
        for m in range(n_members):
            for component in range(3):
                first = component * n_neighbors
                total = by_vector.dtype.type(0)
                for slot in range(n_neighbors):
                    value = by_vector[m, first + slot] + units[i, component, slot] * by_distance[m, slot]
                    by_vector[m, first + slot] = value
                    total += value
                    forces[neighbor_index[i, slot], component, m] -= value
                forces[i, component, m] += total
        for m in range(len(virial)):
            for component in range(3):
                for other in range(3):
                    total = by_vector.dtype.type(0)
                    for slot in range(n_neighbors):
                        along = units[i, other, slot] * distances[i, slot]
                        total += by_vector[m, component * n_neighbors + slot] * along
                    virial[m, component, other] += total


@compiled
def through_forces(
    by_forces: Float[np.ndarray, "n 3 M"],
    rows: Int[np.ndarray, "n"],
    radial: Float[np.ndarray, "n N R"],
    angular: Float[np.ndarray, "n Q 3*N"],
    neighbor_index: Neighbors,
    units: Float[np.ndarray, "n 3 N"],
    by_gradients: Gradients,
) -> None:
    """Write, in the rows of the part, the derivative by dE_i/dG_i that follows from the one by forces.

    The transposed map of `forces_and_virial`.
    """
    (n_atoms, n_neighbors), n_members, n_radial = neighbor_index.shape, by_gradients.shape[1], radial.shape[2]
    by_distance = np.empty((n_members, n_neighbors), by_gradients.dtype)
    by_vector = np.empty((n_members, 3 * n_neighbors), by_gradients.dtype)
    for i in range(n_atoms):
        by_distance[:] = 0
        for component in range(3):
            for m in range(n_members):
                own, first = by_forces[i, component, m], component * n_neighbors
                for slot in range(n_neighbors):
                    value = own - by_forces[neighbor_index[i, slot], component, m]
                    by_vector[m, first + slot] = value
                    by_distance[m, slot] += units[i, component, slot] * value
        of_atom = by_gradients[rows[i]]
        product(by_distance, radial[i], of_atom[:, :n_radial])
        product_with_rows(by_vector, angular[i], of_atom[:, n_radial:])
