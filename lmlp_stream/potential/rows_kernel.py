"""Products of a few rows with a small matrix, compiled for the CPU.

Axes: R rows, K rows of the matrix, C columns. Numbers follow each other along the second axis of every array.
"""

import numpy as np
from jaxtyping import Float

from lmlp_stream.atoms.compiled import compiled
from lmlp_stream.potential.blocks_kernel import (
    N_AHEAD,
    N_BYTES,
    N_DOT_BYTES,
    N_DOT_OTHERS,
    N_DOT_ROWS,
    N_ROWS,
    fetch,
    write_block,
    write_dots,
)


@compiled
def product(left: Float[np.ndarray, "R K"], matrix: Float[np.ndarray, "K C"], out: Float[np.ndarray, "R C"]) -> None:
    """Write left · matrix.

    A matrix of many columns is read some rows at a time, in the order of the memory; the last block of columns begins
    so early that it ends with them.
    """
    (n_rows, n_columns), n_inner, n_lanes = out.shape, len(matrix), N_BYTES // out.itemsize
    if n_columns < n_lanes or n_inner == 0:
        out[:] = 0
        for r in range(n_rows):
            for k in range(n_inner):
                for t in range(n_columns):
                    out[r, t] += left[r, k] * matrix[k, t]
        return
    n_whole = n_columns // n_lanes * n_lanes
    for k in range(0, n_inner, N_AHEAD):
        for t in range(0, n_whole, n_lanes):
            for r in range(0, n_rows, N_ROWS):
                write_block(left, matrix, out, r, t, k, min(k + N_AHEAD, n_inner))
    if n_whole < n_columns:
        for r in range(0, n_rows, N_ROWS):
            write_block(left, matrix, out, r, n_columns - n_lanes, 0, n_inner)


@compiled
def product_with_rows(
    left: Float[np.ndarray, "R c"], matrix: Float[np.ndarray, "K C"], out: Float[np.ndarray, "R K"]
) -> None:
    """Write left · matrixᵀ, of the first columns of the matrix where `left` has fewer.

    Rows ahead are fetched to the cache where there is enough to compute meanwhile.
    """
    (n_rows, n_others), n_columns = out.shape, left.shape[1]
    if n_columns < N_DOT_BYTES // out.itemsize:
        for r in range(n_rows):
            for k in range(n_others):
                total = out.dtype.type(0)
                for t in range(n_columns):
                    total += left[r, t] * matrix[k, t]
                out[r, k] = total
        return
    for k in range(0, n_others, N_DOT_OTHERS):
        if n_rows >= N_ROWS:
            for other in range(N_DOT_OTHERS):
                for t in range(0, n_columns, N_BYTES // out.itemsize):
                    fetch(matrix, k + other, t)
        for r in range(0, n_rows, N_DOT_ROWS):
            write_dots(left, matrix, out, r, k)
