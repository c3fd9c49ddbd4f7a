"""The formulas of the element-embracing atom-centered symmetry functions (eeACSF), one function each.

Functional form: Eckhoff & Reiher, J. Chem. Theory Comput. 2023, 19, 3509 (doi 10.1021/acs.jctc.3c00279), as their
inference code SCINE Parrot 1.0.0 evaluates it.
"""

import torch
from torch import Tensor


def cutoff_function(r: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """f_c(R) = exp(1 - 1/(1 - (R/R_c)²)) and its derivative; every derivative vanishes at R_c.

    Source: SCINE Parrot 1.0.0, `gaussian_bump`. Where 1 - (R/R_c)² is below 10⁻³ both are below the smallest number.
    """
    room = (1 - (r / cutoff) ** 2).clamp(min=1e-3)
    value = torch.exp(1 - 1 / room)
    return value, value * (-2 / cutoff**2) * r / room**2


def radial_part(r: Tensor, eta: Tensor, r_s: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """r(R) = exp(-eta (R - r_s)²) f_c(R) and its derivative; the arguments broadcast.

    Source: SCINE Parrot 1.0.0, `gaussian_bump` (r_s = 0); the shift is that of Behler & Parrinello 2007
    (doi 10.1103/PhysRevLett.98.146401, eq. 5).
    """
    value, slope = cutoff_function(r, cutoff)
    gaussian = torch.exp(-eta * (r - r_s) ** 2)
    return gaussian * value, gaussian * (slope - 2 * eta * (r - r_s) * value)


def multiple_angle(cosine: Tensor, zeta: int) -> tuple[Tensor, Tensor]:
    """cos(zeta theta) and its derivative by cos(theta), from cos(theta).

    These are the Chebyshev polynomials T_zeta and zeta U_(zeta-1) (DLMF 18.5.1-2 and 18.9.21), which need neither the
    angle nor a clamp and are smooth through 0° and 180°.
    """
    below, value = torch.ones_like(cosine), cosine
    slope_below, slope = torch.zeros_like(cosine), torch.ones_like(cosine)
    for _ in range(zeta - 1):
        below, value = value, 2 * cosine * value - below
        slope_below, slope = slope, 2 * cosine * slope - slope_below
    return value, zeta * slope


def angular_part(cosine: Tensor, lambda_: float, zeta: int, xi: float) -> tuple[Tensor, Tensor]:
    """a(theta) = [1/2 + (lambda/2) cos(zeta theta)]^xi and its derivative by cos(theta), from cos(theta).

    Source: SCINE Parrot 1.0.0, angular option `cos`.
    """
    multiple, slope = multiple_angle(cosine, zeta)
    bracket = (0.5 + 0.5 * lambda_ * multiple).clamp(min=0)
    power = bracket ** (xi - 1)
    return power * bracket, (0.5 * lambda_ * xi) * power * slope


def square_root(x: Tensor) -> tuple[Tensor, Tensor]:
    """S(x) = sqrt(x) and its derivative 1/(2 sqrt(x)), which is 0 where x is 0.

    Source: SCINE Parrot 1.0.0, scaling option `sqrt`.
    """
    root = torch.sqrt(x.clamp(min=0))
    return root, torch.where(root > 0, 0.5 / root, 0)
