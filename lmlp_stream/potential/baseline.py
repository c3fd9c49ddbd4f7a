"""Atomic reference energies: the part of the total energy that depends on the composition alone."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lmlp_stream.atoms.batch import Batch, composition_of
from lmlp_stream.atoms.elements import N_ATOMIC_NUMBERS
from lmlp_stream.atoms.structure import LabelledStructure

NEGLIGIBLE_SHARE = 1e-8
"""A composition whose new part is a smaller share of it brings nothing new."""


class Baseline:
    """Energy of one atom of each element, fitted once for each new direction in the space of compositions.

    A composition that comes first brings the part of it that is at right angles to all earlier ones. The atomic
    energies move along that part alone, until they sum to the median energy of the structures that bring it: a label in
    another unit among them moves nothing. So the sum for every earlier composition stays what it was, and networks
    never see their task shift.
    """

    def __init__(self, atomic_energies: Mapping[int, float]) -> None:
        """Begin with known energies (eV) by atomic number, which stay."""
        self._energies = np.zeros(N_ATOMIC_NUMBERS)
        self._given = np.zeros(N_ATOMIC_NUMBERS, dtype=np.bool_)
        self._directions = np.zeros((0, N_ATOMIC_NUMBERS))
        for z, energy in atomic_energies.items():
            self._energies[z], self._given[z] = energy, True

    def fit(self, structures: Iterable[LabelledStructure]) -> None:
        """Learn the compositions that are new, in the order they come; structures without energy are passed over."""
        known = [structure for structure in structures if np.isfinite(structure.energy)]
        self.fit_energies(
            [composition_of(structure.atomic_numbers) for structure in known], [structure.energy for structure in known]
        )

    def fit_energies(self, compositions: Iterable[Float[np.ndarray, "119"]], energies: Iterable[float]) -> None:
        """The same from compositions and energies in eV; NaN is passed over."""
        by_composition: dict[bytes, list[float]] = {}
        for composition, energy in zip(compositions, energies, strict=True):
            if np.isfinite(energy):
                by_composition.setdefault(composition.tobytes(), []).append(energy)
        for key, values in by_composition.items():
            composition = np.frombuffer(key)
            new = self.unknown_part(composition)
            if not new.any():
                continue
            residual = float(np.median(values)) - float(composition @ self._energies)
            self._energies = self._energies + new * (residual / float(new @ new))
            self._directions = np.vstack([self._directions, new / np.linalg.norm(new)])

    def covers(self, composition: Float[np.ndarray, "119"]) -> bool:
        """Whether the energy of a composition follows from what was given and learned."""
        return not self.unknown_part(composition).any()

    def energy(self, composition: Float[Tensor, "S 119"]) -> Float[Tensor, "S"]:
        """Sum of atomic reference energies in eV, float64."""
        return composition @ torch.as_tensor(self._energies, device=composition.device)

    def above(
        self, energies: Float[np.ndarray, "S"], compositions: Float[np.ndarray, "S 119"]
    ) -> Float[np.ndarray, "S"]:
        """Energies less their sums of atomic reference energies, as far as these are known, eV."""
        return energies - compositions @ self._energies

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that `from_state` needs."""
        return {
            "energies": torch.tensor(self._energies),
            "given": torch.tensor(self._given),
            "directions": torch.tensor(self._directions),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """The baseline `state_dict` described."""
        baseline = cls({})
        baseline._energies = state["energies"].cpu().numpy().copy()
        baseline._given = state["given"].cpu().numpy().copy()
        baseline._directions = state["directions"].cpu().numpy().copy()
        return baseline

    def unknown_part(self, composition: Float[np.ndarray, "119"]) -> Float[np.ndarray, "119"]:
        """The part of a composition at right angles to all that was given and learned; zero where it is covered."""
        free = np.where(self._given, 0.0, composition)
        new = free
        for _ in range(2):  # the second pass removes what rounding left of the first
            new = new - self._directions.T @ (self._directions @ new)
        negligible = np.linalg.norm(new) <= NEGLIGIBLE_SHARE * np.linalg.norm(free)
        return np.zeros_like(free) if negligible else new


def of_free_atoms(baselines: Sequence[Baseline], batch: Batch) -> Float[Tensor, "S"]:
    """Sum of atomic reference energies of each structure in eV, float64, by the baseline of its head."""
    energies = baselines[0].energy(batch.composition)
    for head, baseline in enumerate(baselines[1:], start=1):
        energies = torch.where(batch.head == head, baseline.energy(batch.composition), energies)
    return energies
