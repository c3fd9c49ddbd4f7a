"""What happens between the products of matrices on the way through a network and back, compiled for the CPU.

Each function reads its arrays once, where operations on tensors would come back to them: they are too large for the
cache. Axes: M members, D symmetry functions, o neurons of the first layer, T any number of all others.
"""

import numpy as np
from jaxtyping import Float

from lmlp_stream.atoms.compiled import compiled

Flat = Float[np.ndarray, "T"]


@compiled
def through_slopes(by_input: Flat, upstream: Flat, hidden: Flat) -> None:
    """Back through dE/dx = dE/dh (1 - h²), where h = tanh(x).

    Args:
        by_input: dE/dx; dE/dx · upstream · h is written instead, half of what the loss loses by h.
        upstream: Derivative of the loss by dE/dx; that by dE/dh is written instead.
        hidden: h.
    """
    one = upstream.dtype.type(1)
    for t in range(len(upstream)):
        h, u = hidden[t], upstream[t]
        by_input[t] = by_input[t] * u * h
        upstream[t] = u * (one - h * h)


@compiled
def through_values(upstream: Flat, hidden: Flat, by_slope: Flat) -> None:
    """Back through h = tanh(x).

    Args:
        upstream: Derivative of the loss by h; that by x is written instead.
        hidden: h.
        by_slope: What `through_slopes` wrote.
    """
    one, two = upstream.dtype.type(1), upstream.dtype.type(2)
    for t in range(len(upstream)):
        h = hidden[t]
        upstream[t] = upstream[t] * (one - h * h) - two * by_slope[t]


@compiled
def fold(
    offset: Float[np.ndarray, "M D"],
    scale: Float[np.ndarray, "M D"],
    weight: Float[np.ndarray, "M D o"],
    folded_weight: Float[np.ndarray, "M D o"],
    folded_bias: Float[np.ndarray, "M 1 o"],
) -> None:
    """Write scale · weight, and take offset · scale · weight from the bias."""
    for m in range(len(offset)):
        bias = folded_bias[m, 0]
        for d in range(offset.shape[1]):
            row, folded = weight[m, d], folded_weight[m, d]
            for t in range(len(row)):
                folded[t] = scale[m, d] * row[t]
            for t in range(len(row)):
                bias[t] -= offset[m, d] * folded[t]


@compiled
def through_fold(
    offset: Float[np.ndarray, "M D"],
    scale: Float[np.ndarray, "M D"],
    weight: Float[np.ndarray, "M D o"],
    by_bias: Float[np.ndarray, "M 1 o"],
    by_weight: Float[np.ndarray, "M D o"],
    by_shift: Float[np.ndarray, "M D"],
    by_scale: Float[np.ndarray, "M D"],
) -> None:
    """Back through `fold`; offsets are shifts less a center.

    Args:
        offset: As of `fold`.
        scale: As of `fold`.
        weight: As of `fold`.
        by_bias: Derivative of the loss by the folded bias.
        by_weight: By the folded weight; that by the weight is written instead.
        by_shift: Where the derivative by the shift is written.
        by_scale: Where that by the scale is written.
    """
    zero = offset.dtype.type(0)
    for m in range(len(offset)):
        bias = by_bias[m, 0]
        for d in range(offset.shape[1]):
            row, by_row, of_shift, of_scale = weight[m, d], by_weight[m, d], zero, zero
            for t in range(len(row)):
                by_folded = by_row[t] - offset[m, d] * bias[t]
                of_shift += row[t] * bias[t]
                of_scale += row[t] * by_folded
                by_row[t] = scale[m, d] * by_folded
            by_shift[m, d] = -scale[m, d] * of_shift
            by_scale[m, d] = of_scale
