"""Products of stacks of matrices, by the library that is fastest on the processor.

The MKL that torch brings leaves the AVX-512 units of AMD's processors idle. There OpenBLAS, which the wheel
`scipy-openblas64` brings for Linux, multiplies the matrices that occur here twice as fast on one thread
(`tests/bench/products.py`); everywhere else torch multiplies.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, files

import torch
from jaxtyping import Float
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name
from torch import Tensor

MOST_THREADS = 2
"""With more threads torch is faster. OpenBLAS keeps to one: its threads and those of torch wait for each other."""
AVX_512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
"""What OpenBLAS's kernels for Skylake-X ask of a processor."""
ROW_MAJOR, AS_IT_IS, TRANSPOSED = 101, 111, 112
"""How CBLAS calls the order of elements in memory."""
SMALL = 100**3
"""Up to so many multiplications OpenBLAS for Skylake-X reads matrices where they are; of larger ones it makes copies
first (its `gemm_small_kernel_permit`)."""
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
    where_fast = left.is_cpu and torch.get_num_threads() <= MOST_THREADS and left.dtype in OPENBLAS
    if where_fast and _by_openblas(left, right, out, keep, factor):
        return out
    return torch.baddbmm(out, left, right, beta=keep, alpha=factor, out=out)


def _by_openblas(left: Tensor, right: Tensor, out: Tensor, keep: float, factor: float) -> bool:
    """Whether OpenBLAS could take the arrays; if so, the sum is in `out`."""
    count, n_rows, n_inner = left.shape
    n_columns = right.shape[2]
    if right.shape != (count, n_inner, n_columns) or out.shape != (count, n_rows, n_columns):
        return False
    if not (left.dtype == right.dtype == out.dtype and left.numel() and right.numel()):
        return False
    (by_left, of_left), (by_right, of_right), (by_out, of_out) = _layout(left), _layout(right), _layout(out)
    if not (by_left and by_right and by_out == AS_IT_IS):
        return False
    at_once = SMALL // (n_columns * n_inner) // 8 * 8
    if by_left == TRANSPOSED or by_right == TRANSPOSED or at_once < FEWEST_ROWS:
        at_once = n_rows
    multiply, to_left, to_right, to_out = OPENBLAS[left.dtype], left.stride(0), right.stride(0), out.stride(0)
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


def _openblas() -> dict[torch.dtype, Callable[..., None]]:
    """The library's products by precision; none where it is not the fastest, or is not installed.

    The wheel holds no kernels of Zen processors: without a word it would take those of Haswell, which has no AVX-512.
    """
    features = get_host_cpu_features()
    if not (get_host_cpu_name().startswith("znver") and all(features.get(name) for name in AVX_512)):
        return {}
    try:
        installed = files("scipy-openblas64") or []
        path = next(str(file.locate()) for file in installed if file.name.startswith("libscipy_openblas"))
        with _environment(OPENBLAS_CORETYPE="SkylakeX", OPENBLAS_NUM_THREADS="1"):
            library = ctypes.CDLL(path)
    except (PackageNotFoundError, StopIteration, OSError):
        return {}
    number, enumerated, pointer = ctypes.c_int64, ctypes.c_int, ctypes.c_void_p
    found: dict[torch.dtype, Callable[..., None]] = {}
    for dtype, letter, real in ((torch.float32, "s", ctypes.c_float), (torch.float64, "d", ctypes.c_double)):
        multiply = library[f"scipy_cblas_{letter}gemm_batch_strided64_"]
        array = (pointer, number, number)
        multiply.argtypes = (*[enumerated] * 3, *[number] * 3, real, *array, *array, real, *array, number)
        multiply.restype = None
        found[dtype] = multiply
    return found


@contextmanager
def _environment(**names: str) -> Iterator[None]:
    """The environment with these variables, which OpenBLAS reads when it is loaded."""
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


OPENBLAS = _openblas()
"""The products of OpenBLAS by precision, where they are the fastest; empty elsewhere."""
