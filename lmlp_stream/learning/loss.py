"""The loss a step lowers: squared errors of energy per atom and of force components, for all members at once.

    L_m = Σ_s w_s (w_E ((E_ms − E_s) / N_s)²) / Σ_s w_s  +  w_F Σ_c w_s(c) (F_mc − F_c)² / Σ_c w_s(c)

with structures s, force components c and the weight w_s of a structure; a missing label (NaN) takes no part in either
sum. Members share no parameter, so the gradient of Σ_m L_m is that of every member alone. Axes: M members, S
structures, n atoms of one part of a batch: of a structure, or of all of a padded batch.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lmlp_stream.atoms.batch import Batch
from lmlp_stream.learning import loss_kernel


class Loss:
    """The loss of one micro-batch: is told what all members predict, answers with its derivative, and adds up.

    Energies are told once, forces once of each part, in the order of the batch; then its values are known.

    Args:
        batch: Labels, structure weights and sizes.
        energy_weight: w_E in (eV/atom)⁻².
        force_weight: w_F in (eV/Å)⁻².
    """

    def __init__(self, batch: Batch, *, energy_weight: float, force_weight: float) -> None:
        sizes = [len(descriptors.values) for descriptors in batch.descriptors]
        self._all_at_once = batch.structure_index if len(sizes) < batch.n_structures else None
        has_energy, has_force = ~torch.isnan(batch.energy), ~torch.isnan(batch.forces)
        n_components = batch.weight.new_zeros(batch.n_structures)
        n_components.index_add_(0, batch.structure_index, has_force.sum(dim=1).to(n_components.dtype))
        self._n_atoms = batch.n_atoms
        self._has_energy, self._energies = has_energy, batch.energy
        self._forces = torch.split(batch.forces, sizes)
        self._of_energies = energy_weight * _shares(has_energy * batch.weight.double())
        self._of_components = force_weight * _shares(n_components * batch.weight) / n_components.clamp_min(1)
        self._energy_alone = energy_weight
        self._component_alone = force_weight / n_components.clamp_min(1)
        self._energy_squares = torch.zeros_like(batch.energy)
        self._force_squares = torch.zeros_like(batch.weight)
        self._n_told = 0

    def by_energy(self, energy: Float[Tensor, "M S"]) -> Float[Tensor, "M S"]:
        """Derivative of Σ_m L_m by total energies in eV, float64."""
        residual = torch.where(self._has_energy, energy - self._energies, 0) / self._n_atoms
        self._energy_squares = residual.square().mean(dim=0)
        return 2 * self._of_energies / self._n_atoms * residual

    def by_forces(self, forces: Float[Tensor, "n 3 M"]) -> Float[Tensor, "n 3 M"]:
        """Derivative of Σ_m L_m by forces in eV/Å of the next part, in their place where parts are structures."""
        index = self._n_told
        self._n_told += 1
        if self._all_at_once is None:
            labels, square = self._forces[index], self._force_squares[index, None]
            loss_kernel.by_forces(forces.numpy(), labels.numpy(), 2 * float(self._of_components[index]), square.numpy())
            return forces
        labels = self._forces[index][:, :, None]
        residual = torch.where(torch.isnan(labels), 0, forces - labels)
        self._force_squares.index_add_(0, self._all_at_once, residual.square().mean(dim=2).sum(dim=1))
        return residual * (2 * self._of_components[self._all_at_once])[:, None, None]

    @property
    def energy(self) -> Float[Tensor, ""]:
        """w_E times the mean squared energy error, averaged over members."""
        return (self._of_energies * self._energy_squares).sum()

    @property
    def force(self) -> Float[Tensor, ""]:
        """w_F times the mean squared force error, averaged over members."""
        return (self._of_components * self._force_squares).sum()

    @property
    def by_structure(self) -> Float[Tensor, "S"]:
        """What the loss would be of each structure alone, averaged over members."""
        of_forces = self._component_alone * self._force_squares
        return self._energy_alone * self._energy_squares + of_forces


def _shares(weights: Tensor) -> Tensor:
    """Weights over their sum; 0 where all are."""
    return weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
