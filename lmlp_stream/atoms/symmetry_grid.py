"""Evaluation of symmetry functions: every combination of unique shells, angular parts and element factors at once.

A list of functions is the product of few unique parts. The parts are evaluated once each, and their products are taken
by matrix multiplication and broadcasting. Axes: C centers, N neighbors, E elements of the structure, S shells (unique
eta and r_s), L angular parts (unique lambda, zeta and xi), H element factors, 3 Cartesian components.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmlp_stream.atoms.elements import angular_factor_table, radial_factor_table
from lmlp_stream.atoms.neighbors import NeighborList
from lmlp_stream.atoms.symmetry_formulas import bracket_power, multiple_angle, square_root
from lmlp_stream.atoms.symmetry_spec import SymmetrySpec

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True, eq=False)
class Neighborhood:
    """The neighbors of each atom, padded to a common number N.

    Attributes:
        r: Distances in Å; the cutoff in the padding, where every radial part vanishes.
        units: Unit vectors; zero in the padding.
        numbers: Atomic number of each neighbor; 0 in the padding.
        elements: Atomic numbers in the structure, ascending.
    """

    r: Float[Tensor, "C N"]
    units: Float[Tensor, "C 3 N"]
    numbers: Int[Tensor, "C N"]
    elements: Int[Tensor, "E"]

    @classmethod
    def of(
        cls,
        atomic_numbers: Int[np.ndarray, "A"],
        pairs: NeighborList,
        cutoff: float,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Self:
        """The padded form of a neighbor list."""
        at = (pairs.center_index, pairs.slots)
        shape = (len(atomic_numbers), pairs.n_neighbors)
        r = np.full(shape, cutoff)
        r[at] = pairs.distances
        units = np.zeros((shape[0], 3, shape[1]))
        units[at[0], :, at[1]] = pairs.vectors / pairs.distances[:, None]
        numbers = np.zeros(shape, dtype=np.int64)
        numbers[at] = atomic_numbers[pairs.neighbor_index]
        return cls(
            r=torch.as_tensor(r, dtype=dtype, device=device),
            units=torch.as_tensor(units, dtype=dtype, device=device),
            numbers=torch.as_tensor(numbers, device=device),
            elements=torch.as_tensor(np.unique(atomic_numbers), device=device),
        )

    def rows(self, some: slice) -> "Neighborhood":
        """The neighborhood of some of the centers."""
        return Neighborhood(r=self.r[some], units=self.units[some], numbers=self.numbers[some], elements=self.elements)


class RadialGrid:
    """The radial functions G = S( sum_j H_j r(R_ij) ) of a list.

    Attributes:
        n_functions: Their number.
        shells: Unique pairs of eta and r_s.
        n_shells: Their number.
    """

    def __init__(self, spec: SymmetrySpec, dtype: torch.dtype, device: torch.device) -> None:
        shells = _unique((f.eta, f.r_s) for f in spec.radial)
        factors = _unique(f.factor for f in spec.radial)
        self.n_functions, self.shells = len(spec.radial), shells
        self.n_shells = len(shells)
        self._factors = _table([radial_factor_table(h) for h in factors], dtype, device)
        places = [factors.index(f.factor) * len(shells) + shells.index((f.eta, f.r_s)) for f in spec.radial]
        self._selection = _selection(places, len(factors) * len(shells), device)

    def evaluate(
        self,
        near: Neighborhood,
        part: Float[Tensor, "C S N"],
        slope: Float[Tensor, "C S N"],
        values: Float[Tensor, "C D"],
        derivatives: Float[Tensor, "C D N"],
    ) -> None:
        """Write the values and their derivatives by each distance (Å⁻¹) into the given arrays."""
        if not self.n_functions:
            return
        factor = self._factors[:, near.numbers].transpose(0, 1)
        root, root_slope = square_root(factor @ part.transpose(1, 2))
        shape = (*root.shape, near.r.shape[1])
        products = derivatives.view(shape) if self._selection is None else derivatives.new_empty(shape)
        torch.mul(factor[:, :, None], slope[:, None], out=products).mul_(root_slope[..., None])
        _select(root, products, self._selection, values, derivatives)


class AngularGrid:
    """The angular functions G = S( sum_{j<k} H_jk r(R_ij) r(R_ik) a(theta_jik) ) of a list.

    Attributes:
        n_functions: Their number.
        shells: Unique pairs of eta and r_s of the legs.
        n_shells: Their number.
        n_parts: Number of unique angular parts.
    """

    def __init__(self, spec: SymmetrySpec, dtype: torch.dtype, device: torch.device) -> None:
        shells = _unique((f.eta, f.r_s) for f in spec.angular)
        parts = _unique((f.lambda_, f.zeta, f.xi) for f in spec.angular)
        factors = _unique(f.factor for f in spec.angular)
        self.n_functions, self.shells = len(spec.angular), shells
        self.n_shells, self.n_parts = len(shells), len(parts)
        self._parts = parts
        self._factors = _table([angular_factor_table(h) for h in factors], dtype, device)
        n_products = len(shells) * len(parts)
        places = [
            factors.index(f.factor) * n_products
            + shells.index((f.eta, f.r_s)) * len(parts)
            + parts.index((f.lambda_, f.zeta, f.xi))
            for f in spec.angular
        ]
        self._selection = _selection(places, len(factors) * n_products, device)

    def evaluate(
        self,
        near: Neighborhood,
        leg: Float[Tensor, "C S N"],
        leg_slope: Float[Tensor, "C S N"],
        values: Float[Tensor, "C D"],
        derivatives: Float[Tensor, "C D 3 N"],
    ) -> None:
        """Write the values and their derivatives by each neighbor vector (Å⁻¹) into the given arrays.

        With r' and a' the derivatives of the radial part by R and of the angular part by cos(theta), and with
        W = sum_k r(R_ik) a and Q = sum_k r(R_ik) a' u_k over the neighbors k of one element, the derivative by the
        vector to j, before the square root, is the sum over elements of
        H_jk [ W r'(R_ij) u_j + r(R_ij)/R_ij (Q - (Q·u_j) u_j) ].
        """
        n_centers, n_neighbors = near.r.shape
        n_elements = len(near.elements)
        if not self.n_functions:
            return
        shape = (self.n_parts, n_centers, n_elements, self.n_shells)
        part, part_slope = self._angular_parts(near.units)
        of_element = (near.numbers[:, None, :] == near.elements[:, None]).to(leg.dtype)
        legs = leg[:, None] * of_element[:, :, None]
        sums = (legs.flatten(1, 2) @ part).view(*shape, n_neighbors)
        leg_vectors = legs[:, :, :, None] * near.units[:, None, None]
        vector_sums = (leg_vectors.flatten(1, 3) @ part_slope).view(*shape, 3, n_neighbors)

        factor = self._factors[:, near.numbers[:, None, :], near.elements[:, None]].transpose(0, 1)
        weighted = (sums * leg[:, None]).permute(1, 2, 4, 3, 0).flatten(3).flatten(1, 2)
        root, root_slope = square_root(0.5 * (factor.flatten(2) @ weighted))

        across = (leg / near.r[:, None])[:, None, :, None]
        sideways = vector_sums * across
        x, y, z = (near.units[:, None, None, component] for component in range(3))
        along = sideways[..., 0, :] * x
        along.addcmul_(sideways[..., 1, :], y).addcmul_(sideways[..., 2, :], z)
        stretch = torch.mul(sums, leg_slope[:, None]).sub_(along)[..., None, :]
        units = near.units[:, None, None]
        vectors = leg.new_empty(*shape[1:], self.n_parts, 3, n_neighbors)
        torch.addcmul(sideways, stretch, units, out=vectors.permute(3, 0, 1, 2, 4, 5))
        vectors = vectors.flatten(2, 3)
        grid = (*factor.shape[:2], *vectors.shape[2:])
        products = derivatives.view(grid) if self._selection is None else derivatives.new_empty(grid)
        torch.mul(factor[:, :, 0, None, None], vectors[:, None, 0], out=products)
        for element in range(1, n_elements):
            products.addcmul_(factor[:, :, element, None, None], vectors[:, None, element])
        products.mul_(root_slope.view(*grid[:3], 1, 1))
        _select(root, products, self._selection, values, derivatives)

    def _angular_parts(
        self, units: Float[Tensor, "C 3 N"]
    ) -> tuple[Float[Tensor, "L C N N"], Float[Tensor, "L C N N"]]:
        """Angular parts of all pairs of neighbors and their derivatives by the cosine; 0 for a neighbor with itself."""
        cosine = units.transpose(1, 2) @ units
        multiples = {zeta: multiple_angle(cosine, zeta) for _, zeta, _ in self._parts}
        part, slope = cosine.new_empty(2, self.n_parts, *cosine.shape)
        for (lambda_, zeta, xi), *out in zip(self._parts, part, slope, strict=True):
            bracket_power(*multiples[zeta], lambda_, xi, out=(out[0], out[1]))
        for array in (part, slope):
            array.diagonal(dim1=2, dim2=3).zero_()
        return part, slope


def _select(
    root: Float[Tensor, "C H F"],
    products: Float[Tensor, "C H F ..."],
    selection: Int[Tensor, "D"] | None,
    values: Float[Tensor, "C D"],
    derivatives: Float[Tensor, "C D ..."],
) -> None:
    """Take the listed functions of the grid in the order of the list; a whole grid already lies in `derivatives`."""
    if selection is None:
        values.copy_(root.flatten(1))
    else:
        values.copy_(root.flatten(1)[:, selection])
        derivatives.copy_(products.flatten(1, 2)[:, selection])


def _unique(items: Iterable[Part]) -> list[Part]:
    return list(dict.fromkeys(items))


def _table(tables: list[np.ndarray], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.as_tensor(np.array(tables), dtype=dtype, device=device)


def _selection(places: list[int], n_products: int, device: torch.device) -> Int[Tensor, "D"] | None:
    if places == list(range(n_products)):
        return None
    return torch.tensor(places, dtype=torch.int64, device=device)
