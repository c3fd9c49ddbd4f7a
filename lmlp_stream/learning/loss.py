"""The loss a step lowers: squared errors of energy per atom and of force components, for all members at once.

    L_m = Σ_s w_s (w_E ((E_ms − E_s) / N_s)²) / Σ_s w_s  +  w_F Σ_c w_s(c) (F_mc − F_c)² / Σ_c w_s(c)

with structures s, force components c and the weight w_s of a structure; a missing label (NaN) takes no part in either
sum. Members share no parameter, so the gradient of Σ_m L_m is that of every member alone. Axes: M members, S
structures, n atoms of one structure.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lmlp_stream.atoms.batch import Batch


class Loss:
    """The loss of one micro-batch: is told what all members predict, answers with its derivative, and adds up.

    Args:
        batch: Labels, structure weights and sizes.
        energy_weight: w_E in (eV/atom)⁻².
        force_weight: w_F in (eV/Å)⁻².
    """

    def __init__(self, batch: Batch, *, energy_weight: float, force_weight: float) -> None:
        self._n_atoms = batch.n_atoms
        has_energy, has_force = ~torch.isnan(batch.energy), ~torch.isnan(batch.forces)
        self._energies = batch.energy.nan_to_num()
        self._energy_weights = energy_weight * _shares(has_energy * batch.weight.double())
        self._plain_energy_weights = energy_weight * has_energy.double()
        shares = _shares(has_force * batch.weight[batch.structure_index, None])
        self._force_shares = shares.new_zeros(batch.n_structures).index_add_(0, batch.structure_index, shares.sum(1))
        sizes = [len(descriptors.values) for descriptors in batch.descriptors]
        self._forces = torch.split(batch.forces.nan_to_num()[:, :, None], sizes)
        self._force_weights = torch.split(2 * force_weight * shares[:, :, None], sizes)
        self._energy_squares = torch.zeros_like(batch.energy)
        self._force_terms: list[Tensor] = []

    def by_energy(self, energy: Float[Tensor, "M S"]) -> Float[Tensor, "M S"]:
        """Derivative of Σ_m L_m by total energies in eV, float64."""
        residual = (energy - self._energies) / self._n_atoms
        self._energy_squares = residual.square().mean(dim=0)
        return 2 * self._energy_weights / self._n_atoms * residual

    def by_forces(self, forces: Float[Tensor, "n 3 M"]) -> Float[Tensor, "n 3 M"]:
        """Derivative of Σ_m L_m by forces in eV/Å; structures come one after the other."""
        index, n_members = len(self._force_terms), forces.shape[2]
        residual = forces - self._forces[index]
        derivative = residual * self._force_weights[index]
        self._force_terms.append(torch.dot(residual.view(-1), derivative.view(-1)) / (2 * n_members))
        return derivative

    @property
    def energy(self) -> Float[Tensor, ""]:
        """w_E times the mean squared energy error, averaged over members."""
        return (self._energy_weights * self._energy_squares).sum()

    @property
    def force(self) -> Float[Tensor, ""]:
        """w_F times the mean squared force error, averaged over members."""
        return torch.stack(self._force_terms).sum()

    @property
    def by_structure(self) -> Float[Tensor, "S"]:
        """What the loss would be of each structure alone, averaged over members."""
        of_forces = torch.stack(self._force_terms) / _not_zero(self._force_shares)
        return self._plain_energy_weights * self._energy_squares + of_forces


def _shares(weights: Tensor) -> Tensor:
    """Weights over their sum; 0 where all are."""
    return weights / _not_zero(weights.sum())


def _not_zero(sums: Tensor) -> Tensor:
    return sums.clamp_min(torch.finfo(sums.dtype).tiny)
