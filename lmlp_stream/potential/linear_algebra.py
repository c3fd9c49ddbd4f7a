"""Products and triangular factors of matrices, by the library that is fastest on the processor.

`OPENBLAS`, where there is one, computes what it is faster at than torch (`tests/bench/linear_algebra.py`); torch
computes the rest.
"""

import ctypes

import torch
from jaxtyping import Float
from torch import Tensor

from lmlp_stream.potential.openblas import OPENBLAS, OpenBLAS

ROW_MAJOR, AS_IT_IS, TRANSPOSED = 101, 111, 112
"""How CBLAS calls the order of elements in memory."""
FEWEST_ROWS = 32
"""A large product of fewer rows at once is slower than one with copies."""


def product(
    left: Float[Tensor, "M i k"],
    right: Float[Tensor, "M k o"],
    *,
    out: Float[Tensor, "M i o"] | None = None,
    keep: float = 0.0,
    factor: float = 1.0,
) -> Float[Tensor, "M i o"]:
    """The sum keep · out + factor · left right of each pair of matrices, without a graph.

    Args:
        left: First factors.
        right: Second ones, of the same precision.
        out: Where the result is written; None: a new array.
        keep: Share of `out` that remains; where it is 0, the array may hold anything.
        factor: Of the products.
    """
    if out is None:
        out = left.new_empty(left.shape[0], left.shape[1], right.shape[2])
    library = _faster_than_torch(left)
    if library is not None and _multiplied(library, left, right, out, keep, factor):
        return out
    return torch.baddbmm(out, left, right, beta=keep, alpha=factor, out=out)


def lower_cholesky(matrix: Float[Tensor, "K K"]) -> Float[Tensor, "K K"] | None:
    """L of matrix = L Lᵀ, float64; None where the matrix is not positive definite.

    Neither what is above the diagonal of the matrix nor what is there in the result has a meaning.
    """
    library = _faster_than_torch(matrix)
    if library is None or matrix.dtype != torch.float64:
        factor = torch.linalg.cholesky_ex(matrix)
        return None if int(factor.info) else factor.L
    lower = matrix.clone(memory_format=torch.contiguous_format)
    size, info = ctypes.c_int64(len(matrix)), ctypes.c_int64()
    # LAPACK reads columns where torch has rows: what is below the diagonal here is above it there.
    library.factorize(b"U", size, lower.data_ptr(), size, info, 1)
    return None if info.value else lower


def _faster_than_torch(array: Tensor) -> OpenBLAS | None:
    return OPENBLAS if OPENBLAS and array.is_cpu and torch.get_num_threads() <= OPENBLAS.most_threads else None


def _multiplied(library: OpenBLAS, left: Tensor, right: Tensor, out: Tensor, keep: float, factor: float) -> bool:
    """Whether the library could take the arrays; if so, the sum is in `out`."""
    multiply = library.multiply.get(left.dtype)
    count, n_rows, n_inner = left.shape
    n_columns = right.shape[2]
    if multiply is None or right.shape != (count, n_inner, n_columns) or out.shape != (count, n_rows, n_columns):
        return False
    if not (left.dtype == right.dtype == out.dtype and count and min(n_rows, n_inner, n_columns) >= library.fewest):
        return False
    (by_left, of_left), (by_right, of_right), (by_out, of_out) = _layout(left), _layout(right), _layout(out)
    if not (by_left and by_right and by_out == AS_IT_IS):
        return False
    at_once = library.small // (n_columns * n_inner) // 8 * 8
    if by_left == TRANSPOSED or by_right == TRANSPOSED or at_once < FEWEST_ROWS:
        at_once = n_rows
    to_left, to_right, to_out = left.stride(0), right.stride(0), out.stride(0)
    for first in range(0, n_rows, at_once):
        n_some = min(at_once, n_rows - first)
        from_left = left.data_ptr() + first * of_left * left.itemsize
        from_out = out.data_ptr() + first * of_out * out.itemsize
        multiply(
            *(ROW_MAJOR, by_left, by_right, n_some, n_columns, n_inner),
            *(factor, from_left, of_left, to_left, right.data_ptr(), of_right, to_right),
            *(keep, from_out, of_out, to_out, count),
        )
    return True


def _layout(matrices: Float[Tensor, "M i o"]) -> tuple[int, int]:
    """How CBLAS calls the order of elements, 0 where it has no name, and from where to where the next row begins."""
    _, n_rows, n_columns = matrices.shape
    _, by_row, by_column = matrices.stride()
    if by_column == 1 or n_columns == 1:
        step = by_row if n_rows > 1 else n_columns
        return AS_IT_IS if step >= n_columns else 0, step
    return TRANSPOSED if (by_row == 1 or n_rows == 1) and by_column >= n_rows else 0, by_column
