"""Element-embracing atom-centered symmetry functions (eeACSF) and their derivatives, for all atoms of a structure.

Functional form: Eckhoff & Reiher, J. Chem. Theory Comput. 2023, 19, 3509 (doi 10.1021/acs.jctc.3c00279), as their
inference code SCINE Parrot 1.0.0 evaluates it; the radial shift is our extension. The sum over pairs of neighbors is
factored: the angular parts are first summed over the neighbors k of each element, then met with the element factors,
which depend on the two elements alone.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmlp_stream.atoms.elements import N_ATOMIC_NUMBERS
from lmlp_stream.atoms.neighbors import neighbor_list
from lmlp_stream.atoms.structure import Structure
from lmlp_stream.atoms.symmetry_formulas import radial_part
from lmlp_stream.atoms.symmetry_grid import AngularGrid, Neighborhood, RadialGrid
from lmlp_stream.atoms.symmetry_spec import AngularFunction, RadialFunction, SymmetrySpec, spec_of
from lmlp_stream.errors import UsageError

__all__ = ["AngularFunction", "Descriptors", "RadialFunction", "SymmetryFunctions", "SymmetrySpec", "spec_of"]

CHUNK_BYTES = 256 * 2**20
"""Memory an intermediate array may take; larger structures are evaluated a few atoms at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Descriptors:
    """Symmetry functions of every atom of a structure, with their derivatives; neighbors are padded to a common N.

    Attributes:
        values: G, [A D].
        derivatives: dG_i/d(r_j - r_i) in Å⁻¹, [A D 3*N]: all x, then all y, then all z; zero in the padding.
        neighbor_index: Index j of each neighbor, [A N]; an atom's own index in the padding.
        reverse: Row of each component of the pair seen from j, (j*3 + component)*N + slot, [A 3 N]; the row itself in
            the padding.
        vectors: r_j - r_i in Å, [A N 3]; zero in the padding.
    """

    values: Float[Tensor, "A D"]
    derivatives: Float[Tensor, "A D 3*N"]
    neighbor_index: Int[Tensor, "A N"]
    reverse: Int[Tensor, "A 3 N"]
    vectors: Float[Tensor, "A N 3"]

    @property
    def n_bytes(self) -> int:
        """Memory of all arrays, bytes."""
        arrays = (self.values, self.derivatives, self.neighbor_index, self.reverse, self.vectors)
        return sum(array.numel() * array.element_size() for array in arrays)


class SymmetryFunctions:
    """Evaluates a list of symmetry functions.

    Attributes:
        spec: The functions.
        n_functions: Their number D.
    """

    def __init__(self, spec: SymmetrySpec, dtype: torch.dtype, device: torch.device) -> None:
        self.spec = spec
        self.n_functions = spec.n_functions
        self._dtype, self._device = dtype, device
        self._radial, self._angular = RadialGrid(spec, dtype, device), AngularGrid(spec, dtype, device)
        shells = torch.tensor([*self._radial.shells, *self._angular.shells], dtype=dtype, device=device)
        self._eta, self._r_s = shells.reshape(-1, 2, 1).unbind(1)

    def evaluate(self, structure: Structure) -> Descriptors:
        """Values and derivatives for every atom; equal bit for bit whatever was evaluated before.

        Raises:
            UsageError: The structure holds what is no element.
        """
        last = N_ATOMIC_NUMBERS - 1
        beyond = structure.atomic_numbers[(structure.atomic_numbers < 1) | (structure.atomic_numbers > last)]
        if len(beyond):
            raise UsageError(f"Z = {beyond[0]} is no element, they go from 1 to {last}: leave the structure out")
        pairs = neighbor_list(structure, self.spec.cutoff)
        neighborhood = Neighborhood.of(structure, pairs, self.spec.cutoff, self._dtype, self._device)
        n_atoms, n_neighbors = neighborhood.r.shape
        values = torch.empty(n_atoms, self.n_functions, dtype=self._dtype, device=self._device)
        derivatives = torch.empty(n_atoms, self.n_functions, 3, n_neighbors, dtype=self._dtype, device=self._device)
        n_radial, n_shells = self._radial.n_functions, len(self._radial.shells)
        chunk_size = self._chunk(neighborhood)
        for first in range(0, n_atoms, chunk_size):
            rows = slice(first, first + chunk_size)
            near = neighborhood.rows(rows)
            part, slope = radial_part(near.r[:, None], self._eta, self._r_s, self.spec.cutoff)
            of_radial, of_angular = (rows, slice(n_radial)), (rows, slice(n_radial, None))
            self._radial.evaluate(
                near, part[:, :n_shells], slope[:, :n_shells], values[of_radial], derivatives[of_radial]
            )
            self._angular.evaluate(
                near, part[:, n_shells:], slope[:, n_shells:], values[of_angular], derivatives[of_angular]
            )
        return Descriptors(
            values=values,
            derivatives=derivatives.flatten(2),
            neighbor_index=neighborhood.index,
            reverse=neighborhood.reverse,
            vectors=neighborhood.vectors,
        )

    def _chunk(self, neighborhood: Neighborhood) -> int:
        n_neighbors = max(neighborhood.r.shape[1], 1)
        n_legs = len(neighborhood.elements) * self._angular.n_shells
        largest = max(
            self._angular.n_parts * n_neighbors * max(n_neighbors, 3 * n_legs), 3 * n_neighbors * self.n_functions
        )
        return max(1, CHUNK_BYTES // (largest * self._dtype.itemsize))
