"""Structures prepared for learning, and many of them as one set of arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmlp_stream.atoms.elements import N_ATOMIC_NUMBERS
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.atoms.symmetry import Descriptors


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A structure with what was computed once for it; `structure.unlabelled` makes one of a plain `Structure`.

    Attributes:
        structure: The structure.
        descriptors: Its symmetry functions.
        head: Number of the networks' output that its labels belong to, by their level of theory.
    """

    structure: LabelledStructure
    descriptors: Descriptors
    head: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Structures side by side: atoms are concatenated in order.

    Arrays of one precision hold what networks touch; what is summed to total energies is float64.

    Attributes:
        n_structures: S.
        structure_index: Structure of each atom.
        atomic_numbers: Z of each atom.
        order: Indices of the atoms by element, ascending, then as they come.
        rows: Place of each atom in `order`.
        atoms_of: The part of `order` that each element has, by atomic number.
        values: Symmetry functions G.
        descriptors: Neighbors and derivatives of each structure; by far the largest arrays, so not copied. Those of all
            structures as one in a padded batch (`padding`).
        volume: Cell volume in Å³; NaN where the structure does not repeat in all three directions.
        any_volume: Whether any volume is a number.
        n_atoms: Atoms of each structure.
        energy: Reference energies in eV, float64; NaN where missing.
        forces: Reference forces in eV/Å; NaN where missing.
        stress: Reference stress in eV/Å³; NaN where missing.
        weight: Weight of each structure in the loss.
        head: Output of the networks that its labels belong to.
        composition: Number of atoms by structure and atomic number, float64.
    """

    n_structures: int
    structure_index: Int[Tensor, "A"]
    atomic_numbers: Int[Tensor, "A"]
    order: Int[Tensor, "A"]
    rows: Int[Tensor, "A"]
    atoms_of: dict[int, Int[Tensor, "n"]]
    values: Float[Tensor, "A D"]
    descriptors: tuple[Descriptors, ...]
    volume: Float[Tensor, "S"]
    any_volume: bool
    n_atoms: Int[Tensor, "S"]
    energy: Float[Tensor, "S"]
    forces: Float[Tensor, "A 3"]
    stress: Float[Tensor, "S 3 3"]
    weight: Float[Tensor, "S"]
    head: Int[Tensor, "S"]
    composition: Float[Tensor, "S 119"]


def composition_of(atomic_numbers: Int[np.ndarray, "A"]) -> Float[np.ndarray, "119"]:
    """Number of atoms of each element, by atomic number."""
    return np.bincount(atomic_numbers, minlength=N_ATOMIC_NUMBERS).astype(np.float64)


def collate(examples: Sequence[Example]) -> Batch:
    """One batch of at least one example, on the device and in the precision of their descriptors."""
    structures = [example.structure for example in examples]
    descriptors = [example.descriptors for example in examples]
    values = torch.cat([d.values for d in descriptors])
    dtype, device = values.dtype, values.device
    numbers = np.concatenate([s.atomic_numbers for s in structures])
    n_atoms = np.array([s.n_atoms for s in structures])
    by_element = np.argsort(numbers, kind="stable")
    of_elements = np.bincount(numbers)
    elements = np.flatnonzero(of_elements)
    unknown_stress = np.full((3, 3), np.nan)
    volumes = np.array([abs(np.linalg.det(s.cell)) if s.pbc.all() else np.nan for s in structures])

    def tensor(array: np.ndarray, dtype: torch.dtype = dtype) -> Tensor:
        return torch.as_tensor(array, dtype=dtype, device=device)

    order = tensor(by_element, torch.int64)
    return Batch(
        n_structures=len(examples),
        structure_index=tensor(np.repeat(np.arange(len(examples)), n_atoms), torch.int64),
        atomic_numbers=tensor(numbers, torch.int64),
        order=order,
        rows=tensor(np.argsort(by_element), torch.int64),
        atoms_of=dict(zip(elements.tolist(), torch.split(order, of_elements[elements].tolist()), strict=True)),
        values=values,
        descriptors=tuple(descriptors),
        volume=tensor(volumes),
        any_volume=bool(np.isfinite(volumes).any()),
        n_atoms=tensor(n_atoms, torch.int64),
        energy=tensor(np.array([s.energy for s in structures]), torch.float64),
        forces=tensor(np.concatenate([s.forces for s in structures])),
        stress=tensor(np.array([unknown_stress if s.stress is None else s.stress for s in structures])),
        weight=tensor(np.array([s.weight for s in structures])),
        head=tensor(np.array([example.head for example in examples]), torch.int64),
        composition=tensor(np.array([composition_of(s.atomic_numbers) for s in structures]), torch.float64),
    )
