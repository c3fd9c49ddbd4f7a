"""Symmetry functions and their derivatives by tensor operations: the way on a device, and a check of compiled code."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmlp_stream.atoms.neighbors import NeighborList
from lmlp_stream.atoms.symmetry_formulas import radial_part
from lmlp_stream.atoms.symmetry_grid import AngularGrid, Neighborhood, RadialGrid
from lmlp_stream.atoms.symmetry_spec import SymmetrySpec

CHUNK_BYTES = 256 * 2**20
"""Memory an intermediate array may take; larger structures are evaluated a few atoms at a time."""


class TensorFunctions:
    """Evaluates a list of symmetry functions on any device."""

    def __init__(self, spec: SymmetrySpec, dtype: torch.dtype, device: torch.device) -> None:
        self._cutoff, self._n_functions = spec.cutoff, spec.n_functions
        self._dtype, self._device = dtype, device
        self._radial, self._angular = RadialGrid(spec, dtype, device), AngularGrid(spec, dtype, device)
        shells = torch.tensor([*self._radial.shells, *self._angular.shells], dtype=dtype, device=device)
        self._eta, self._r_s = shells.reshape(-1, 2, 1).unbind(1)

    def evaluate(
        self, atomic_numbers: Int[np.ndarray, "A"], pairs: NeighborList
    ) -> tuple[Float[Tensor, "A D"], Float[Tensor, "A N R"], Float[Tensor, "A Q 3*N"]]:
        """Values, and `radial` and `angular` of `symmetry.Descriptors`."""
        neighborhood = Neighborhood.of(atomic_numbers, pairs, self._cutoff, self._dtype, self._device)
        n_atoms, n_neighbors = neighborhood.r.shape
        values = torch.empty(n_atoms, self._n_functions, dtype=self._dtype, device=self._device)
        n_radial, n_shells = self._radial.n_functions, len(self._radial.shells)
        by_distance = values.new_empty(n_atoms, n_neighbors, n_radial)
        by_vector = values.new_empty(n_atoms, self._angular.n_functions, 3, n_neighbors)
        chunk_size = self._chunk(neighborhood)
        for first in range(0, n_atoms, chunk_size):
            rows = slice(first, first + chunk_size)
            near = neighborhood.rows(rows)
            part, slope = radial_part(near.r[:, None], self._eta, self._r_s, self._cutoff)
            of_radial, of_angular = values[rows, :n_radial], values[rows, n_radial:]
            self._radial.evaluate(
                near, part[:, :n_shells], slope[:, :n_shells], of_radial, by_distance[rows].transpose(1, 2)
            )
            self._angular.evaluate(near, part[:, n_shells:], slope[:, n_shells:], of_angular, by_vector[rows])
        return values, by_distance, by_vector.flatten(2)

    def _chunk(self, neighborhood: Neighborhood) -> int:
        n_neighbors = max(neighborhood.r.shape[1], 1)
        n_legs = len(neighborhood.elements) * self._angular.n_shells
        largest = max(
            self._angular.n_parts * n_neighbors * max(n_neighbors, 3 * n_legs),
            n_neighbors * max(self._radial.n_functions, 3 * self._angular.n_functions),
        )
        return max(1, CHUNK_BYTES // (largest * self._dtype.itemsize))
