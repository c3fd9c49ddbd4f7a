"""Batches of fixed shapes: what is missing is filled up with atoms that say nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import nan

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lmlp_stream.atoms.batch import Batch
from lmlp_stream.atoms.elements import N_ATOMIC_NUMBERS
from lmlp_stream.atoms.symmetry import Descriptors, SymmetrySpec

ATOMS_AT_ONCE, NEIGHBORS_AT_ONCE = 32, 8
"""Capacities are multiples of these."""
ROOM = 1.125
"""A capacity that is exceeded grows to so many times what was needed, so that it seldom is."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a padded batch can hold.

    Attributes:
        n_structures: Structures.
        atoms: Atoms of each element, by atomic number, ascending.
        n_neighbors: Neighbors of an atom.
    """

    n_structures: int = 0
    atoms: Mapping[int, int] = field(default_factory=dict)
    n_neighbors: int = 0

    @property
    def n_pairs(self) -> int:
        """Neighbors of all atoms."""
        return sum(self.atoms.values()) * self.n_neighbors

    def grown(self, batch: Batch, elements: Iterable[int]) -> "Capacity":
        """An equal one where it has these elements and the batch fits, else a larger one."""
        widest = max(descriptors.neighbor_index.shape[1] for descriptors in batch.descriptors)
        needed = {z: len(batch.atoms_of.get(z, ())) for z in elements}
        return Capacity(
            n_structures=max(self.n_structures, batch.n_structures),
            atoms={z: _grown(self.atoms.get(z, 0), count, ATOMS_AT_ONCE) for z, count in needed.items()},
            n_neighbors=_grown(self.n_neighbors, widest, NEIGHBORS_AT_ONCE),
        )


def _grown(there: int, needed: int, at_once: int) -> int:
    return there if there > 0 and there >= needed else -(-max(1, int(needed * ROOM)) // at_once) * at_once


class PaddedBatch:
    """Arrays of fixed shapes and addresses, and the structures that were last put into them.

    The atoms of all structures are one part, for the sums of `potential.forces`. What is left of a capacity is held by
    structures without labels and weight, the last of which owns atoms that fill up each element: without neighbors, all
    symmetry functions 0. Neither stress nor volume is told, nor any distance.

    Attributes:
        batch: The structures, `capacity.n_structures` + 1.
    """

    def __init__(self, capacity: Capacity, spec: SymmetrySpec, dtype: torch.dtype, device: torch.device) -> None:
        self._atoms = dict(capacity.atoms)
        n_structures, n_atoms, n_neighbors = capacity.n_structures + 1, sum(self._atoms.values()), capacity.n_neighbors

        def zeros(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        def count(n: int) -> Int[Tensor, "n"]:
            return torch.arange(n, device=device)

        self._own, self._slots = count(n_atoms), count(n_neighbors)
        self._own_rows = count(n_atoms * 3 * n_neighbors).view(n_atoms, 3, n_neighbors)
        self._numbers = torch.tensor([z for z, n in self._atoms.items() for _ in range(n)], device=device)
        order, values = count(n_atoms), zeros(n_atoms, spec.n_functions)
        parts = torch.split(order, list(self._atoms.values()))
        self.batch = Batch(
            n_structures=n_structures,
            structure_index=zeros(n_atoms, dtype=torch.int64),
            atomic_numbers=self._numbers.clone(),
            order=order,
            rows=count(n_atoms),
            atoms_of=dict(zip(self._atoms, parts, strict=True)),
            values=values,
            descriptors=(
                Descriptors(
                    values=values,
                    radial=zeros(n_atoms, n_neighbors, len(spec.radial)),
                    angular=zeros(n_atoms, len(spec.angular), 3 * n_neighbors),
                    units=zeros(n_atoms, 3, n_neighbors),
                    distances=zeros(n_atoms, 0),
                    neighbor_index=zeros(n_atoms, n_neighbors, dtype=torch.int64),
                    reverse=zeros(n_atoms, 3, n_neighbors, dtype=torch.int64),
                ),
            ),
            volume=zeros(n_structures).fill_(nan),
            any_volume=False,
            n_atoms=zeros(n_structures, dtype=torch.int64),
            energy=zeros(n_structures, dtype=torch.float64),
            forces=zeros(n_atoms, 3),
            stress=zeros(n_structures, 3, 3).fill_(nan),
            weight=zeros(n_structures),
            head=zeros(n_structures, dtype=torch.int64),
            composition=zeros(n_structures, N_ATOMIC_NUMBERS, dtype=torch.float64),
        )

    def put(self, batch: Batch) -> None:
        """Take the structures of a batch in the place of those that were there; it must fit."""
        here = self.batch
        _fill(here.structure_index, batch.structure_index, here.n_structures - 1)
        _fill(here.values, batch.values, 0)
        _fill(here.n_atoms, batch.n_atoms, 1)
        _fill(here.energy, batch.energy, nan)
        _fill(here.forces, batch.forces, nan)
        _fill(here.weight, batch.weight, 0)
        _fill(here.head, batch.head, 0)
        _fill(here.composition, batch.composition, 0)
        self._put_order(batch)
        self._put_neighbors(batch.descriptors)

    def _put_order(self, batch: Batch) -> None:
        here, none = self.batch, self._own[:0]
        known = [batch.atoms_of.get(z, none) for z in self._atoms]
        missing = [n - len(atoms) for n, atoms in zip(self._atoms.values(), known, strict=True)]
        padding = torch.split(self._own[len(batch.values) :], missing)
        torch.cat([atoms for pair in zip(known, padding, strict=True) for atoms in pair], out=here.order)
        here.rows.index_copy_(0, here.order, self._own)
        torch.index_select(self._numbers, 0, here.rows, out=here.atomic_numbers)

    def _put_neighbors(self, parts: tuple[Descriptors, ...]) -> None:
        (here,) = self.batch.descriptors
        n_atoms, n_neighbors = here.neighbor_index.shape
        sizes = [len(part.values) for part in parts]
        widths = [part.neighbor_index.shape[1] for part in parts]
        for array in (here.radial, here.angular, here.units):
            array.zero_()
        _copy(here.radial.transpose(1, 2), [part.radial.transpose(1, 2) for part in parts])
        _copy(
            here.angular.view(n_atoms, -1, 3, n_neighbors),
            [part.angular.view(*part.angular.shape[:2], 3, n) for n, part in zip(widths, parts, strict=True)],
        )
        _copy(here.units, [part.units for part in parts])
        _copy(here.neighbor_index, [part.neighbor_index for part in parts])
        _copy(here.reverse, [part.reverse for part in parts])
        firsts = np.cumsum(sizes) - sizes
        told = np.zeros((2, n_atoms), np.int64)
        told[:, : sum(sizes)] = np.repeat([firsts, widths], sizes, axis=1)
        first, width = torch.as_tensor(told, device=here.values.device)[:, :, None]
        is_told = self._slots < width
        torch.where(is_told, here.neighbor_index + first, self._own[:, None], out=here.neighbor_index)
        first, width, row = first[:, None], width.clamp_min(1)[:, None], here.reverse
        row = (row // width + 3 * first) * n_neighbors + row % width
        torch.where(is_told[:, None], row, self._own_rows, out=here.reverse)


def _fill(array: Tensor, begin: Tensor, rest: float) -> None:
    """Put the rows of a smaller array into a larger one, and a number into all others."""
    array[: len(begin)].copy_(begin)
    array[len(begin) :].fill_(rest)


def _copy(array: Tensor, parts: list[Tensor]) -> None:
    """Put arrays one below the other into a larger one, each into its first columns."""
    rows = torch.split(array[: sum(map(len, parts))], [len(part) for part in parts])
    torch._foreach_copy_([some[..., : part.shape[-1]] for some, part in zip(rows, parts, strict=True)], parts)
