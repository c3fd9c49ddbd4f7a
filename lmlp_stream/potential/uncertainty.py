"""From the disagreement of members to a calibrated uncertainty.

Source: SCINE Parrot 1.0.0, `lmlp.py`; form: Eckhoff & Reiher 2023 (doi 10.1021/acs.jctc.3c00279). Members that agree
may all be wrong by the error that was measured on the hold-out: it is the floor.
"""

from jaxtyping import Float, Int
from torch import Tensor


def energy_uncertainty(
    disagreement: Float[Tensor, "S"], n_atoms: Int[Tensor, "S"], *, rmse: float, scale: float
) -> Float[Tensor, "S"]:
    """u(E) = max(N · RMSE_E, c · std(E)) in eV, from the hold-out RMSE in eV per atom and the scale c."""
    return (scale * disagreement).maximum(n_atoms * rmse)


def forces_uncertainty(disagreement: Float[Tensor, "A 3"], *, rmse: float, scale: float) -> Float[Tensor, "A 3"]:
    """u(F) = max(RMSE_F, c · std(F)) of each component in eV/Å, from the hold-out RMSE in eV/Å and the scale c."""
    return (scale * disagreement).clamp(min=rmse)
