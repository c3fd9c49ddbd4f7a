"""The loss a step lowers: squared errors of energy per atom and of force components, for all members at once.

    L_m = Σ_s w_s (w_E ((E_ms − E_s) / N_s)²) / Σ_s w_s  +  w_F Σ_c w_s(c) (F_mc − F_c)² / Σ_c w_s(c)

with structures s, force components c and the weight w_s of a structure; a missing label (NaN) takes no part in either
sum. Members share no parameter, so the gradient of Σ_m L_m is that of every member alone.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
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
        by_structure: What the loss would be of each structure alone, averaged over members, detached.
    """

    total: Tensor
    energy: Tensor
    force: Tensor
    by_structure: Float[Tensor, "S"]


def loss(prediction: Prediction, batch: Batch, *, energy_weight: float, force_weight: float) -> Loss:
    """The loss of a prediction.

    Args:
        prediction: Energies [M S] and forces [M A 3] with their graph.
        batch: Labels, structure weights and sizes.
        energy_weight: w_E in (eV/atom)⁻².
        force_weight: w_F in (eV/Å)⁻².
    """
    owner = batch.structure_index[:, None].expand(-1, 3)
    per_atom = _residuals(prediction.energy / batch.n_atoms, batch.energy / batch.n_atoms)
    per_component = _residuals(prediction.forces, batch.forces)
    energy = energy_weight * _mean_square(*per_atom, batch.weight)
    force = force_weight * _mean_square(*per_component, batch.weight[owner])
    with torch.no_grad():
        by_structure = energy_weight * per_atom[0].square().mean(dim=0)
        squares = per_component[0].square().mean(dim=0).flatten()
        sums, counts = by_structure.new_zeros(2, batch.n_structures).unbind()
        sums.index_add_(0, owner.flatten(), squares.to(sums.dtype))
        counts.index_add_(0, owner.flatten(), per_component[1].flatten().to(counts.dtype))
        by_structure = by_structure + force_weight * sums / counts.clamp_min(1)
    return Loss(
        total=(energy + force).sum(),
        energy=energy.detach().mean(),
        force=force.detach().mean(),
        by_structure=by_structure,
    )


def _residuals(predicted: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Predicted minus label, 0 where the label is NaN; and where it is not. [M ...], [...] -> [M ...], [...]."""
    known = ~torch.isnan(label)
    return torch.where(known, predicted - label, torch.zeros_like(label)), known


def _mean_square(residual: Tensor, known: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of squared residuals over the known labels; 0 where none is. [M ...], [...], [...] -> [M]."""
    known_weight = torch.where(known, weight, torch.zeros_like(weight)).to(residual.dtype)
    sums = (known_weight * residual.square()).flatten(1).sum(1)
    return sums / known_weight.sum().clamp_min(torch.finfo(residual.dtype).tiny)
