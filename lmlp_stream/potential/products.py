"""Products of stacks of matrices, by the library that is fastest on the processor.

The MKL that torch brings leaves the AVX-512 units of AMD's processors idle. There OpenBLAS, which the wheel
`scipy-openblas64` brings for Linux, multiplies the matrices that occur here twice as fast on one thread
(`tests/bench/products.py`); everywhere else torch multiplies.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path

import torch
from jaxtyping import Float
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name
from torch import Tensor

MOST_THREADS = 2
"""With more threads torch is faster. OpenBLAS keeps to one: its threads and those of torch wait for each other."""
ROW_MAJOR, AS_IT_IS, TRANSPOSED = 101, 111, 112
"""How CBLAS calls the order of elements in memory."""

Multiply = Callable[..., None]


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
        out = left.new_empty(len(left), left.shape[1], right.shape[2])
    multiply = _multiply(left) if left.numel() and right.numel() else None
    layouts = [_layout(array) for array in (left, right, out)]
    if multiply is None or 0 in layouts or layouts[2] < 0:
        return torch.baddbmm(out, left, right, beta=keep, alpha=factor, out=out)
    multiply(
        ROW_MAJOR,
        *(AS_IT_IS if step > 0 else TRANSPOSED for step in layouts[:2]),
        *(*out.shape[1:], left.shape[2], factor),
        *(left.data_ptr(), abs(layouts[0]), left.stride(0)),
        *(right.data_ptr(), abs(layouts[1]), right.stride(0)),
        *(keep, out.data_ptr(), layouts[2], out.stride(0)),
        len(out),
    )
    return out


def _layout(matrices: Tensor) -> int:
    """Elements from one row to the next where rows are contiguous, minus those from column to column, 0 for neither."""
    _, n_rows, n_columns = matrices.shape
    _, by_row, by_column = matrices.stride()
    if by_column == 1 or n_columns == 1:
        step = by_row if n_rows > 1 else n_columns
        return step if step >= n_columns else 0
    step = by_column if n_columns > 1 else n_rows
    return -step if (by_row == 1 or n_rows == 1) and step >= n_rows else 0


def _multiply(array: Tensor) -> Multiply | None:
    if array.device.type != "cpu" or torch.get_num_threads() > MOST_THREADS:
        return None
    return _openblas().get(array.dtype)


@cache
def _openblas() -> dict[torch.dtype, Multiply]:
    """The library's products by precision; none where it is not the fastest or not installed."""
    if not (get_host_cpu_name().startswith("znver") and get_host_cpu_features().get("avx512vl")):
        return {}
    with _environment(OPENBLAS_CORETYPE="SkylakeX", OPENBLAS_NUM_THREADS="1"):
        try:
            package = import_module("scipy_openblas64")
        except ImportError:
            return {}
    library = ctypes.CDLL(str(Path(package.get_lib_dir()) / package.get_library(fullname=True)))
    number, enumerated, pointer = ctypes.c_int64, ctypes.c_int, ctypes.c_void_p
    found: dict[torch.dtype, Multiply] = {}
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
