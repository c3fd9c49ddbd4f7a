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
from lmlp_stream.atoms.structure import Structure
from lmlp_stream.atoms.symmetry_formulas import angular_part, radial_part, square_root
from lmlp_stream.atoms.symmetry_spec import SymmetrySpec

Part = TypeVar("Part")


@dataclass(frozen=True, slots=True, eq=False)
class Neighborhood:
    """The neighbors of each atom, padded to a common number N.

    Attributes:
        index: Index of each neighbor; an atom's own index in the padding.
        reverse_slot: Neighbor slot of the same pair seen from the neighbor; the slot itself in the padding.
        vectors: r_j - r_i in Å; zero in the padding.
        r: Distances in Å; the cutoff in the padding, where every radial part vanishes.
        units: Unit vectors; zero in the padding.
        numbers: Atomic number of each neighbor; 0 in the padding.
        elements: Atomic numbers in the structure, ascending.
    """

    index: Int[Tensor, "C N"]
    reverse_slot: Int[Tensor, "C N"]
    vectors: Float[Tensor, "C N 3"]
    r: Float[Tensor, "C N"]
    units: Float[Tensor, "C 3 N"]
    numbers: Int[Tensor, "C N"]
    elements: Int[Tensor, "E"]

    @classmethod
    def of(
        cls, structure: Structure, pairs: NeighborList, cutoff: float, dtype: torch.dtype, device: torch.device
    ) -> Self:
        """The padded form of a neighbor list."""
        counts = np.bincount(pairs.center_index, minlength=structure.n_atoms)
        n_neighbors = int(counts.max(initial=0))
        slots = np.arange(len(pairs.center_index)) - np.repeat(np.cumsum(counts) - counts, counts)
        at = (pairs.center_index, slots)
        shape = (structure.n_atoms, n_neighbors)
        index = np.repeat(np.arange(structure.n_atoms)[:, None], n_neighbors, axis=1)
        index[at] = pairs.neighbor_index
        reverse_slot = np.repeat(np.arange(n_neighbors)[None, :], structure.n_atoms, axis=0)
        reverse_slot[at] = slots[pairs.reverse_index]
        vectors = np.zeros((*shape, 3))
        vectors[at] = pairs.vectors
        distances = np.linalg.norm(pairs.vectors, axis=1)
        r = np.full(shape, cutoff)
        r[at] = distances
        units = np.zeros((structure.n_atoms, 3, n_neighbors))
        units[at[0], :, at[1]] = pairs.vectors / distances[:, None]
        numbers = np.zeros(shape, dtype=np.int64)
        numbers[at] = structure.atomic_numbers[pairs.neighbor_index]
        return cls(
            index=torch.as_tensor(index, device=device),
            reverse_slot=torch.as_tensor(reverse_slot, device=device),
            vectors=torch.as_tensor(vectors, dtype=dtype, device=device),
            r=torch.as_tensor(r, dtype=dtype, device=device),
            units=torch.as_tensor(units, dtype=dtype, device=device),
            numbers=torch.as_tensor(numbers, device=device),
            elements=torch.as_tensor(np.unique(structure.atomic_numbers), device=device),
        )

    def rows(self, some: slice) -> "Neighborhood":
        """The neighborhood of some of the centers."""
        return Neighborhood(
            index=self.index[some],
            reverse_slot=self.reverse_slot[some],
            vectors=self.vectors[some],
            r=self.r[some],
            units=self.units[some],
            numbers=self.numbers[some],
            elements=self.elements,
        )


class RadialGrid:
    """The radial functions G = S( sum_j H_j r(R_ij) ) of a list.

    Attributes:
        n_functions: Their number.
    """

    def __init__(self, spec: SymmetrySpec, dtype: torch.dtype, device: torch.device) -> None:
        shells = _unique((f.eta, f.r_s) for f in spec.radial)
        factors = _unique(f.factor for f in spec.radial)
        self.n_functions = len(spec.radial)
        self._cutoff = spec.cutoff
        self._shells = _column_pair(shells, dtype, device)
        self._factors = _table([radial_factor_table(h) for h in factors], dtype, device)
        places = [factors.index(f.factor) * len(shells) + shells.index((f.eta, f.r_s)) for f in spec.radial]
        self._selection = _selection(places, len(factors) * len(shells), device)

    def evaluate(self, near: Neighborhood, values: Float[Tensor, "C D"], derivatives: Float[Tensor, "C D 3*N"]) -> None:
        """Write the values and their derivatives by each neighbor vector (Å⁻¹) into the given arrays."""
        if not self.n_functions:
            return
        shell, slope = radial_part(near.r[:, None, :], *self._shells, self._cutoff)
        factor = self._factors[:, near.numbers].transpose(0, 1)
        root, root_slope = square_root(factor @ shell.transpose(1, 2))
        vectors = slope[:, :, None, :] * near.units[:, None, :, :]
        shape = (*root.shape, 3, near.r.shape[1])
        products = derivatives.view(shape) if self._selection is None else derivatives.new_empty(shape)
        torch.mul(factor[:, :, None, None, :], vectors[:, None], out=products)
        products.mul_(root_slope[..., None, None])
        _select(root, products, self._selection, values, derivatives)


class AngularGrid:
    """The angular functions G = S( sum_{j<k} H_jk r(R_ij) r(R_ik) a(theta_jik) ) of a list.

    Attributes:
        n_functions: Their number.
        n_shells: Number of unique shells of the legs.
        n_parts: Number of unique angular parts.
    """

    def __init__(self, spec: SymmetrySpec, dtype: torch.dtype, device: torch.device) -> None:
        shells = _unique((f.eta, f.r_s) for f in spec.angular)
        parts = _unique((f.lambda_, f.zeta, f.xi) for f in spec.angular)
        factors = _unique(f.factor for f in spec.angular)
        self.n_functions, self.n_shells, self.n_parts = len(spec.angular), len(shells), len(parts)
        self._cutoff = spec.cutoff
        self._shells = _column_pair(shells, dtype, device)
        self._parts = parts
        self._factors = _table([angular_factor_table(h) for h in factors], dtype, device)
        places = [
            (factors.index(f.factor) * len(shells) + shells.index((f.eta, f.r_s))) * len(parts)
            + parts.index((f.lambda_, f.zeta, f.xi))
            for f in spec.angular
        ]
        self._selection = _selection(places, len(factors) * len(shells) * len(parts), device)

    def evaluate(self, near: Neighborhood, values: Float[Tensor, "C D"], derivatives: Float[Tensor, "C D 3*N"]) -> None:
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
        leg, leg_slope = radial_part(near.r[:, None, :], *self._shells, self._cutoff)
        part, part_slope = self._angular_parts(near.units)
        of_element = (near.numbers[:, None, :] == near.elements[:, None]).to(leg.dtype)
        legs = of_element[:, :, None, :] * leg[:, None, :, :]
        sums = legs.flatten(1, 2) @ part
        sums = sums.view(n_centers, n_elements, self.n_shells, self.n_parts, n_neighbors)
        leg_vectors = legs[:, :, :, None, :] * near.units[:, None, None, :, :]
        vector_sums = leg_vectors.flatten(1, 3) @ part_slope
        vector_sums = vector_sums.view(n_centers, n_elements, self.n_shells, 3, self.n_parts, n_neighbors)

        factor = self._factors[:, near.numbers[:, None, :], near.elements[:, None]].transpose(0, 1)
        weighted = (sums * leg[:, None, :, None, :]).flatten(2, 3).transpose(2, 3)
        pairs = 0.5 * (factor.flatten(2) @ weighted.flatten(1, 2))
        root, root_slope = square_root(pairs)

        vectors = self._by_vector(near, leg, leg_slope, sums, vector_sums)
        shape = (*root.shape, 3, n_neighbors)
        products = derivatives.view(shape) if self._selection is None else derivatives.new_empty(shape)
        torch.mul(factor[:, :, 0, None, None, :], vectors[:, None, 0], out=products)
        for element in range(1, n_elements):
            products.addcmul_(factor[:, :, element, None, None, :], vectors[:, None, element])
        products.mul_(root_slope[..., None, None])
        _select(root, products, self._selection, values, derivatives)

    def _angular_parts(self, units: Float[Tensor, "C 3 N"]) -> tuple[Tensor, Tensor]:
        n_centers, _, n_neighbors = units.shape
        cosine = units.transpose(1, 2) @ units
        others = 1 - torch.eye(n_neighbors, dtype=units.dtype, device=units.device)
        shape = (n_centers, n_neighbors, self.n_parts, n_neighbors)
        part, slope = units.new_empty(shape), units.new_empty(shape)
        for index, (lambda_, zeta, xi) in enumerate(self._parts):
            value, by_cosine = angular_part(cosine, lambda_, zeta, xi)
            torch.mul(value, others, out=part[:, :, index])
            torch.mul(by_cosine, others, out=slope[:, :, index])
        return part.flatten(2), slope.flatten(2)

    def _by_vector(
        self,
        near: Neighborhood,
        leg: Float[Tensor, "C S N"],
        leg_slope: Float[Tensor, "C S N"],
        sums: Float[Tensor, "C E S L N"],
        vector_sums: Float[Tensor, "C E S 3 L N"],
    ) -> Float[Tensor, "C E S*L 3 N"]:
        across = (leg / near.r[:, None, :])[:, None, :, None, :]
        x, y, z = (near.units[:, None, None, None, component, :] for component in range(3))
        along = vector_sums[:, :, :, 0] * x
        along.addcmul_(vector_sums[:, :, :, 1], y).addcmul_(vector_sums[:, :, :, 2], z)
        stretch = sums * leg_slope[:, None, :, None, :] - across * along
        vectors = across[..., None, :] * vector_sums.transpose(3, 4)
        vectors.addcmul_(stretch[..., None, :], near.units[:, None, None, None, :, :])
        return vectors.flatten(2, 3)


def _select(
    root: Float[Tensor, "C H F"],
    products: Float[Tensor, "C H F 3 N"],
    selection: Int[Tensor, "D"] | None,
    values: Float[Tensor, "C D"],
    derivatives: Float[Tensor, "C D 3*N"],
) -> None:
    """Take the listed functions of the grid in the order of the list; a whole grid already lies in `derivatives`."""
    if selection is None:
        values.copy_(root.flatten(1))
    else:
        values.copy_(root.flatten(1)[:, selection])
        derivatives.copy_(products.flatten(1, 2).flatten(2)[:, selection])


def _unique(items: Iterable[Part]) -> list[Part]:
    return list(dict.fromkeys(items))


def _column_pair(
    shells: list[tuple[float, float]], dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "S 1"], Float[Tensor, "S 1"]]:
    columns = torch.tensor(shells, dtype=dtype, device=device).reshape(-1, 2)
    return columns[:, :1], columns[:, 1:]


def _table(tables: list[np.ndarray], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.as_tensor(np.array(tables), dtype=dtype, device=device)


def _selection(places: list[int], n_products: int, device: torch.device) -> Int[Tensor, "D"] | None:
    if places == list(range(n_products)):
        return None
    return torch.tensor(places, dtype=torch.int64, device=device)
