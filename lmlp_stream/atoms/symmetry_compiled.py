"""Symmetry functions and their derivatives by compiled code: the way on a CPU."""

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmlp_stream.atoms.angular_kernel import LANES
from lmlp_stream.atoms.elements import N_ATOMIC_NUMBERS, angular_factor_table, radial_factor_table
from lmlp_stream.atoms.neighbors import NeighborList
from lmlp_stream.atoms.symmetry_formulas import radial_part
from lmlp_stream.atoms.symmetry_kernel import Angular, Pairs, Radial, Shells, evaluate
from lmlp_stream.atoms.symmetry_spec import SymmetrySpec

Part = TypeVar("Part", bound=Hashable)


class CompiledFunctions:
    """Evaluates a list of symmetry functions on a CPU."""

    def __init__(self, spec: SymmetrySpec, dtype: torch.dtype) -> None:
        self._cutoff, self._dtype = spec.cutoff, dtype
        self._exact = np.dtype(str(dtype).removeprefix("torch."))
        radial_shells, of_radial = _numbered((f.eta, f.r_s) for f in spec.radial)
        radial_factors, factor_of_radial = _numbered(f.factor for f in spec.radial)
        angular_shells, of_angular = _numbered((f.eta, f.r_s) for f in spec.angular)
        angular_factors, factor_of_angular = _numbered(f.factor for f in spec.angular)
        parts, part_of_angular = _numbered((f.lambda_, f.zeta, f.xi) for f in spec.angular)
        shells = torch.tensor([*radial_shells, *angular_shells], dtype=dtype)
        self._eta, self._r_s = shells.reshape(-1, 2, 1).unbind(1)
        self._n_radial_shells = len(radial_shells)
        tables = [radial_factor_table(factor) for factor in radial_factors]
        self._radial_factors = np.array(tables, self._exact).reshape(-1, N_ATOMIC_NUMBERS)
        tables = [angular_factor_table(factor) for factor in angular_factors]
        self._angular_factors = np.array(tables, self._exact).reshape(-1, N_ATOMIC_NUMBERS, N_ATOMIC_NUMBERS)
        self._parts = np.array(parts, self._exact).reshape(-1, 3)
        self._radial_functions = np.stack([factor_of_radial, of_radial], axis=1)
        self._angular_functions = np.stack([factor_of_angular, of_angular * len(parts) + part_of_angular], axis=1)

    def evaluate(
        self, atomic_numbers: Int[np.ndarray, "A"], pairs: NeighborList
    ) -> tuple[Float[Tensor, "A D"], Float[Tensor, "A N R"], Float[Tensor, "A Q 3*N"]]:
        """Values, and `radial` and `angular` of `symmetry.Descriptors`."""
        elements = np.flatnonzero(np.bincount(atomic_numbers))
        kinds = np.searchsorted(elements, atomic_numbers)
        n_radial, n_angular = len(self._radial_functions), len(self._angular_functions)
        n_atoms, n_neighbors = len(atomic_numbers), pairs.n_neighbors
        values = torch.empty(n_atoms, n_radial + n_angular, dtype=self._dtype)
        by_distance = torch.empty(n_atoms, n_neighbors, n_radial, dtype=self._dtype)
        room = torch.empty(n_atoms * n_angular * 3 * n_neighbors + LANES, dtype=self._dtype)
        radial_shells, angular_shells = self._shells(pairs.distances)
        evaluate(
            Pairs(
                pairs.starts,
                kinds[pairs.neighbor_index],
                (pairs.vectors / pairs.distances[:, None]).astype(self._exact),
            ),
            radial_shells,
            angular_shells,
            Radial(self._radial_factors[:, elements], self._radial_functions),
            Angular(
                self._angular_factors[:, elements[:, None], elements[None, :]], self._parts, self._angular_functions
            ),
            n_neighbors,
            values.numpy(),
            by_distance.numpy(),
            room.numpy(),
        )
        return values, by_distance, room[:-LANES].view(n_atoms, n_angular, 3 * n_neighbors)

    def _shells(self, distances: Float[np.ndarray, "P"]) -> tuple[Shells, Shells]:
        """Radial parts of the radial and of the angular functions."""
        r = torch.from_numpy(distances.astype(self._exact))
        legs, slopes = radial_part(r, self._eta, self._r_s, self._cutoff)
        all_shells, n_radial = (legs.numpy(), slopes.numpy(), (legs / r).numpy()), self._n_radial_shells
        return Shells(*(array[:n_radial] for array in all_shells)), Shells(*(array[n_radial:] for array in all_shells))


def _numbered(items: Iterable[Part]) -> tuple[Sequence[Part], Int[np.ndarray, "d"]]:
    """What is different among the items, in the order it comes; and the number of each item."""
    listed = list(items)
    unique = list(dict.fromkeys(listed))
    return unique, np.array([unique.index(item) for item in listed], dtype=np.int64)
