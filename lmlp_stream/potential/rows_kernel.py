"""Products of a few rows with a matrix whose rows are short, compiled for the CPU.

Loops along a row of the matrix go on to the next multiple of `ROW_LANES`, which vectorises without a remainder: what
they read beyond its end belongs to the next row, and ends where nobody looks or meets a zero. The last rows are read as
they are. Offsets are unsigned: a negative index would count from the end, and asking for its sign keeps loops from
being vectorised. Axes: R rows, K rows of the matrix, C numbers in each, W lanes (C rounded up).
"""

import numpy as np
from jaxtyping import Float

from lmlp_stream.atoms.compiled import compiled

ROW_LANES = 8
"""Rows are read to a multiple of this."""


@compiled
def lanes(n: int) -> int:
    """W of so many numbers."""
    return (n + ROW_LANES - 1) // ROW_LANES * ROW_LANES


@compiled
def _n_whole(n_rows: int, width: int, n_lanes: int) -> int:
    """How many rows can be read beyond their end without leaving the matrix, a multiple of 4."""
    return max(0, n_rows - max(n_lanes - 1, 0) // max(width, 1)) // 4 * 4


@compiled
def add_product(
    left: Float[np.ndarray, "R K"], matrix: Float[np.ndarray, "K*C"], out: Float[np.ndarray, "R+1 W"]
) -> None:
    """Add left · matrix; the last row of `out` and its last columns are working memory."""
    (n_rows, n_inner), n_lanes = left.shape, out.shape[1]
    width = len(matrix) // max(n_inner, 1)
    n_whole, flat = _n_whole(n_inner, width, n_lanes), out.reshape(out.size)
    second, third, fourth, of_other = np.uintp(width), np.uintp(2 * width), np.uintp(3 * width), np.uintp(n_lanes)
    for k in range(0, n_whole, 4):
        rows = matrix[k * width : (k + 3) * width + n_lanes]
        for r in range(0, n_rows, 2):
            one, other = left[r], left[min(r + 1, n_rows - 1)]
            a_0, a_1, a_2, a_3 = one[k], one[k + 1], one[k + 2], one[k + 3]
            b_0, b_1, b_2, b_3 = other[k], other[k + 1], other[k + 2], other[k + 3]
            both = flat[r * n_lanes : (r + 2) * n_lanes]
            for t in range(of_other):
                x_0, x_1, x_2, x_3 = rows[t], rows[second + t], rows[third + t], rows[fourth + t]
                of_one = both[t] + (a_0 * x_0 + a_1 * x_1) + (a_2 * x_2 + a_3 * x_3)
                both[of_other + t] += (b_0 * x_0 + b_1 * x_1) + (b_2 * x_2 + b_3 * x_3)
                both[t] = of_one
    for k in range(n_whole, n_inner):
        for r in range(n_rows):
            for t in range(width):
                out[r, t] += left[r, k] * matrix[k * width + t]


@compiled
def product_with_rows(
    left: Float[np.ndarray, "R W"], matrix: Float[np.ndarray, "K*C"], out: Float[np.ndarray, "R K"]
) -> None:
    """Write left · matrixᵀ, or of the first columns of the matrix where `left` has fewer.

    What `left` has beyond C must be zero.
    """
    (n_rows, n_out), n_lanes = out.shape, left.shape[1]
    zero, width = out.dtype.type(0), len(matrix) // max(n_out, 1)
    n_whole = _n_whole(n_out, width, n_lanes)
    second, third, fourth = np.uintp(width), np.uintp(2 * width), np.uintp(3 * width)
    for k in range(0, n_whole, 4):
        rows = matrix[k * width : (k + 3) * width + n_lanes]
        for r in range(0, n_rows, 2):
            last = min(r + 1, n_rows - 1)
            one, other, of_one, of_other = left[r], left[last], out[r], out[last]
            a_0, a_1, a_2, a_3, b_0, b_1, b_2, b_3 = zero, zero, zero, zero, zero, zero, zero, zero
            for t in range(np.uintp(n_lanes)):
                x_0, x_1, x_2, x_3 = rows[t], rows[second + t], rows[third + t], rows[fourth + t]
                a_0 += one[t] * x_0
                a_1 += one[t] * x_1
                a_2 += one[t] * x_2
                a_3 += one[t] * x_3
                b_0 += other[t] * x_0
                b_1 += other[t] * x_1
                b_2 += other[t] * x_2
                b_3 += other[t] * x_3
            of_one[k], of_one[k + 1], of_one[k + 2], of_one[k + 3] = a_0, a_1, a_2, a_3
            of_other[k], of_other[k + 1], of_other[k + 2], of_other[k + 3] = b_0, b_1, b_2, b_3
    for k in range(n_whole, n_out):
        for r in range(n_rows):
            total = zero
            for t in range(min(width, n_lanes)):
                total += left[r, t] * matrix[k * width + t]
            out[r, k] = total
