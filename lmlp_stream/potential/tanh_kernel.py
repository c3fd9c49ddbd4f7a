"""The hyperbolic tangent of many numbers, compiled for the CPU; T any number of them."""

import numpy as np
from jaxtyping import Float, Int

from lmlp_stream.atoms.compiled import compiled

LARGEST = 40.0
"""Where 2 x is larger, tanh(x) is 1 in double precision."""
LOG2_E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.693359375, -0.00021219444005469058
"""ln 2 in two parts; the first has so few digits that its products with small whole numbers are exact."""
SERIES = tuple(1.0 / float(np.prod(np.arange(1.0, k + 1))) for k in range(13, -1, -1))
"""Of exp, highest power first: to the rounding of double precision where |x| < ln 2 / 2."""
Flat = Float[np.ndarray, "T"]


@compiled
def tanh_of_half(doubled: Flat, power: Flat) -> None:
    """tanh(x) of 2 x, in place, as 2 / (1 + exp(-2 x)) - 1: to the rounding of 1. What is no number stays so.

    exp is 2^k exp(r), with |r| < ln 2 / 2; of the number 2^k the bits are written.

    Args:
        doubled: 2 x.
        power: Working memory of at least the same size.
    """
    if doubled.itemsize == 4:
        _tanh_of_half(doubled, power, power.view(np.int32), 127, 23)
    else:
        _tanh_of_half(doubled, power, power.view(np.int64), 1023, 52)


@compiled
def _tanh_of_half(doubled: Flat, power: Flat, bits: Int[np.ndarray, "T"], bias: int, digits: int) -> None:
    """`bits` are those of `power`: 2^k has k + bias, after so many digits."""
    dtype = doubled.dtype.type
    one, two, half, largest = dtype(1), dtype(2), dtype(0.5), dtype(LARGEST)
    log2_e, high, low = dtype(LOG2_E), dtype(LN2_HIGH), dtype(LN2_LOW)
    for t in range(len(doubled)):
        x = -doubled[t]
        x = largest if x > largest else x
        x = -largest if x < -largest else x
        k = np.floor(x * log2_e + half)
        r = (x - k * high) - k * low
        series = dtype(SERIES[0])
        for coefficient in SERIES[1:]:
            series = series * r + dtype(coefficient)
        bits[t] = (np.int32(k) + bias) << digits
        doubled[t] = series
    for t in range(len(doubled)):
        doubled[t] = two / (one + doubled[t] * power[t]) - one
