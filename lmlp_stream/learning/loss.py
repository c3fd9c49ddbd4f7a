"""The loss a step lowers: squared errors of energy per atom and of force components, for all members at once.

    L_m = Σ_s w_s (w_E ((E_ms − E_s) / N_s)²) / Σ_s w_s  +  w_F Σ_c w_s(c) (F_mc − F_c)² / Σ_c w_s(c)

with structures s, force components c and the weight w_s of a structure; a missing label (NaN) takes no part in either
sum. Members share no parameter, so the gradient of Σ_m L_m is that of every member alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lmlp_stream.atoms.batch import Batch
from lmlp_stream.potential.ensemble import Prediction


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """The loss and its terms.

    Attributes:
        total: Σ_m L_m, differentiable, without unit.
        energy: w_E times the mean squared energy error, averaged over members, detached.
        force: w_F times the mean squared force error, averaged over members, detached.
    """

    total: Tensor
    energy: Tensor
    force: Tensor


def loss(prediction: Prediction, batch: Batch, *, energy_weight: float, force_weight: float) -> Loss:
    """The loss of a prediction.

    Args:
        prediction: Energies [M S] and forces [M A 3] with their graph.
        batch: Labels, structure weights and sizes.
        energy_weight: w_E in (eV/atom)⁻².
        force_weight: w_F in (eV/Å)⁻².
    """
    energy = _mean_square(prediction.energy / batch.n_atoms, batch.energy / batch.n_atoms, batch.weight)
    force = _mean_square(prediction.forces, batch.forces, batch.weight[batch.structure_index, None].expand(-1, 3))
    energy, force = energy_weight * energy, force_weight * force
    return Loss(total=(energy + force).sum(), energy=energy.detach().mean(), force=force.detach().mean())


def _mean_square(predicted: Tensor, label: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of squared residuals over the labels that are not NaN; 0 where none is. [M ...], [...] -> [M]."""
    known = ~torch.isnan(label)
    residual = torch.where(known, predicted - label, torch.zeros_like(label))
    known_weight = torch.where(known, weight, torch.zeros_like(weight)).to(residual.dtype)
    sums = (known_weight * residual.square()).flatten(1).sum(1)
    return sums / known_weight.sum().clamp_min(torch.finfo(residual.dtype).tiny)
