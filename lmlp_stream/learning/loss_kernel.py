"""Squared errors of the forces of one structure and their derivative, compiled for the CPU."""

import numpy as np
from jaxtyping import Float

from lmlp_stream.atoms.compiled import compiled


@compiled
def by_forces(
    forces: Float[np.ndarray, "n 3 M"], labels: Float[np.ndarray, "n 3"], factor: float, square: Float[np.ndarray, "1"]
) -> None:
    """Replace forces by `factor` times what they are off by, and write the sum of squares, averaged over members.

    A component whose label is NaN counts as right.
    """
    n_members, zero = forces.shape[2], forces.dtype.type(0)
    factor, total = forces.dtype.type(factor), zero
    for i in range(len(forces)):
        for component in range(3):
            label = labels[i, component]
            for m in range(n_members):
                residual = zero if np.isnan(label) else forces[i, component, m] - label
                total += residual * residual
                forces[i, component, m] = factor * residual
    square[0] = total / forces.dtype.type(n_members)
