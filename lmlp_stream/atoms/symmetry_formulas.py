"""The formulas of the element-embracing atom-centered symmetry functions (eeACSF), one function each.

Functional form: Eckhoff & Reiher, J. Chem. Theory Comput. 2023, 19, 3509 (doi 10.1021/acs.jctc.3c00279), as their
inference code SCINE Parrot 1.0.0 evaluates it.
"""

from math import inf, log

import torch
from torch import Tensor
from torch.nn.functional import threshold


def cutoff_exponent(r: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """The logarithm of the cutoff function f_c(R) = exp(1 - 1/(1 - (R/R_c)²)), and its derivative.

    Source: SCINE Parrot 1.0.0, `gaussian_bump`. Every derivative of f_c vanishes at R_c; where 1 - (R/R_c)² is below
    10⁻³, f_c is below the smallest number.
    """
    room = (1 - (r / cutoff) ** 2).clamp(min=1e-3)
    return 1 - 1 / room, (-2 / cutoff**2) * r / room**2


def radial_part(r: Tensor, eta: Tensor, r_s: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """r(R) = exp(-eta (R - r_s)²) f_c(R) and its derivative; the arguments broadcast.

    Source: SCINE Parrot 1.0.0, `gaussian_bump` (r_s = 0); the shift is that of Behler & Parrinello 2007
    (doi 10.1103/PhysRevLett.98.146401, eq. 5). Both are 0 where the exponent is not above `least_exponent`.
    """
    exponent, slope = cutoff_exponent(r, cutoff)
    offset = r - r_s
    steep = eta * offset
    exponent = torch.addcmul(exponent, steep, offset, value=-1)
    part = threshold(exponent, least_exponent(exponent.dtype), -inf).exp_()
    return part, part * torch.sub(slope, steep, alpha=2)


def least_exponent(dtype: torch.dtype) -> float:
    """Logarithm of the root of the smallest normal number; that root is 10⁻¹⁹ in float32.

    A product of two smaller radial parts would be subnormal, and processors calculate up to a hundred times slower with
    such numbers. Without them a radial function, the root of a sum, changes by less than 3.3·10⁻¹⁰ times the root of
    the sum of its element factors.
    """
    return 0.5 * log(torch.finfo(dtype).tiny)


def multiple_angle(cosine: Tensor, zeta: int) -> tuple[Tensor, Tensor]:
    """cos(zeta theta) and its derivative by cos(theta), from cos(theta).

    These are the Chebyshev polynomials T_zeta and zeta U_(zeta-1) (DLMF 18.5.1-2 and 18.9.21), which need neither the
    angle nor a clamp and are smooth through 0° and 180°.
    """
    below: Tensor | float = 1.0
    slope_below: Tensor | float = 0.0
    value, slope, twice = cosine, torch.ones_like(cosine), 2 * cosine
    for _ in range(zeta - 1):
        below, value = value, twice * value - below
        slope_below, slope = slope, twice * slope - slope_below
    return value, slope if zeta == 1 else zeta * slope


def bracket_power(
    multiple: Tensor, slope: Tensor, lambda_: float, xi: float, *, out: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """a(theta) = [1/2 + (lambda/2) cos(zeta theta)]^xi and its derivative by cos(theta), written into `out`.

    Source: SCINE Parrot 1.0.0, angular option `cos`.

    Args:
        multiple: cos(zeta theta).
        slope: Its derivative by cos(theta).
        lambda_: Parameter.
        xi: Parameter.
        out: Where the result goes.
    """
    bracket = (0.5 * lambda_ * multiple).add_(0.5)
    power = _whole_power(bracket, int(xi) - 1) if xi == int(xi) else bracket.clamp_(min=0) ** (xi - 1)
    torch.mul(power, bracket, out=out[0])
    torch.mul(power * (0.5 * lambda_ * xi), slope, out=out[1])
    return out


def _whole_power(x: Tensor, exponent: int) -> Tensor:
    """x^exponent by squaring, several times as fast as the general power."""
    if exponent == 0:
        return torch.ones_like(x)
    if exponent == 1:
        return x
    root = _whole_power(x, exponent // 2)
    square = root * root
    return square * x if exponent % 2 else square


def square_root(x: Tensor) -> tuple[Tensor, Tensor]:
    """S(x) = sqrt(x) and its derivative 1/(2 sqrt(x)), which is 0 where x is 0.

    Source: SCINE Parrot 1.0.0, scaling option `sqrt`.
    """
    root = torch.sqrt(x.clamp(min=0))
    return root, torch.where(root > 0, 0.5 / root, 0)
