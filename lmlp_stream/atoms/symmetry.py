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
from lmlp_stream.atoms.symmetry_compiled import CompiledFunctions
from lmlp_stream.atoms.symmetry_spec import AngularFunction, RadialFunction, SymmetrySpec, spec_of
from lmlp_stream.atoms.symmetry_tensors import TensorFunctions
from lmlp_stream.errors import UsageError

__all__ = ["AngularFunction", "Descriptors", "RadialFunction", "SymmetryFunctions", "SymmetrySpec", "spec_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Descriptors:
    """Symmetry functions of every atom of a structure, with their derivatives; neighbors are padded to a common N.

    Attributes:
        values: G, [A D].
        radial: dG_i/dR_ij of the R radial functions, which come first, in Å⁻¹, [A N R]; zero in the padding. By
            r_j - r_i, the derivative of such a function is this along the unit vector.
        angular: dG_i/d(r_j - r_i) of the Q angular functions in Å⁻¹, [A Q 3*N]: all x, then all y, then all z; zero in
            the padding.
        units: Unit vector from each atom to each neighbor, [A 3 N]; zero in the padding.
        distances: R_ij in Å, [A N]; zero in the padding.
        neighbor_index: Index j of each neighbor, [A N]; an atom's own index in the padding.
        reverse: Row of each component of the pair seen from j, (j*3 + component)*N + slot, [A 3 N]; the row itself in
            the padding. For devices where sums over `neighbor_index` would have no fixed order.
    """

    values: Float[Tensor, "A D"]
    radial: Float[Tensor, "A N R"]
    angular: Float[Tensor, "A Q 3*N"]
    units: Float[Tensor, "A 3 N"]
    distances: Float[Tensor, "A N"]
    neighbor_index: Int[Tensor, "A N"]
    reverse: Int[Tensor, "A 3 N"]

    @property
    def n_bytes(self) -> int:
        """Memory of all arrays, bytes."""
        of_functions, of_neighbors = (self.values, self.radial, self.angular), (self.units, self.distances)
        arrays = (*of_functions, *of_neighbors, self.neighbor_index, self.reverse)
        return sum(array.numel() * array.element_size() for array in arrays)


class SymmetryFunctions:
    """Evaluates a list of symmetry functions: by compiled code on a CPU, by tensor operations on another device.

    Attributes:
        spec: The functions.
        n_functions: Their number D.
    """

    def __init__(self, spec: SymmetrySpec, dtype: torch.dtype, device: torch.device) -> None:
        self.spec = spec
        self.n_functions = spec.n_functions
        self._dtype, self._device = dtype, device
        on_cpu = device.type == "cpu"
        self._functions = CompiledFunctions(spec, dtype) if on_cpu else TensorFunctions(spec, dtype, device)

    def evaluate(self, structure: Structure) -> Descriptors:
        """Values and derivatives for every atom; equal bit for bit whatever was evaluated before.

        Raises:
            UsageError: The structure holds what is no element, atoms coincide, or positions or cell are not finite or
                span no volume.
        """
        last = N_ATOMIC_NUMBERS - 1
        beyond = structure.atomic_numbers[(structure.atomic_numbers < 1) | (structure.atomic_numbers > last)]
        if len(beyond):
            raise UsageError(f"Z = {beyond[0]} is no element, they go from 1 to {last}: leave the structure out")
        pairs = neighbor_list(structure, self.spec.cutoff)
        values, radial, angular = self._functions.evaluate(structure.atomic_numbers, pairs)
        index, reverse, units, distances = pairs.padded()
        return Descriptors(
            values=values,
            radial=radial,
            angular=angular,
            units=torch.as_tensor(units, dtype=self._dtype, device=self._device),
            distances=torch.as_tensor(distances, dtype=self._dtype, device=self._device),
            neighbor_index=torch.as_tensor(index, device=self._device),
            reverse=torch.as_tensor(reverse, device=self._device),
        )
