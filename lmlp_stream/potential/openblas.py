"""OpenBLAS, where it is the fastest library for matrices that a process can have."""

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files

import torch
from llvmlite.binding import get_host_cpu_features, get_host_cpu_name

AVX_512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
"""What OpenBLAS's kernels for Skylake-X ask of a processor."""
AVX_2 = ("avx2", "fma")
"""What those for Haswell ask."""
SMALL_OF_SKYLAKE_X = 100**3
"""Its `gemm_small_kernel_permit`."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenBLAS:
    """Functions of the library, which computes on one thread, and where they are faster than torch.

    Attributes:
        multiply: `cblas_?gemm_batch_strided` by precision.
        factorize: `dpotrf` of LAPACK.
        most_threads: Threads up to which one of this library is faster than torch on all of them. It keeps to one: its
            threads and those of torch wait for each other.
        fewest: Rows, columns and what is summed over that a product needs, so that it is faster.
        small: Up to so many multiplications, matrices are read where they are; of larger ones copies are made first.
    """

    multiply: dict[torch.dtype, Callable[..., None]]
    factorize: Callable[..., None]
    most_threads: int
    fewest: int
    small: int


def load() -> OpenBLAS | None:
    """The library of the wheel `scipy-openblas64`; None where it is not the fastest, or not installed.

    The MKL that torch brings leaves the AVX-512 units of AMD's processors idle, and so would the wheel: it holds no
    kernels of Zen processors, and would take those of Haswell without a word. These are a tenth faster than MKL on an
    AMD processor without AVX-512, but not for matrices of few rows.
    """
    features = get_host_cpu_features()
    if not (get_host_cpu_name().startswith("znver") and all(features.get(name) for name in AVX_2)):
        return None
    wide = all(features.get(name) for name in AVX_512)
    try:
        installed = files("scipy-openblas64") or []
        path = next(str(file.locate()) for file in installed if file.name.startswith("libscipy_openblas"))
        with _environment(OPENBLAS_CORETYPE="SkylakeX" if wide else "Haswell", OPENBLAS_NUM_THREADS="1"):
            library = ctypes.CDLL(path)
    except (PackageNotFoundError, StopIteration, OSError):
        return None
    number, enumerated, pointer = ctypes.c_int64, ctypes.c_int, ctypes.c_void_p
    multiply: dict[torch.dtype, Callable[..., None]] = {}
    for dtype, letter, real in ((torch.float32, "s", ctypes.c_float), (torch.float64, "d", ctypes.c_double)):
        function, array = library[f"scipy_cblas_{letter}gemm_batch_strided64_"], (pointer, number, number)
        function.argtypes = (*[enumerated] * 3, *[number] * 3, real, *array, *array, real, *array, number)
        function.restype = None
        multiply[dtype] = function
    factorize, by_reference = library["scipy_dpotrf_64_"], ctypes.POINTER(number)
    factorize.argtypes = (ctypes.c_char_p, by_reference, pointer, by_reference, by_reference, ctypes.c_size_t)
    factorize.restype = None
    if wide:
        return OpenBLAS(multiply, factorize, most_threads=2, fewest=1, small=SMALL_OF_SKYLAKE_X)
    return OpenBLAS(multiply, factorize, most_threads=1, fewest=32, small=0)


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


OPENBLAS = load()
"""The library, loaded once."""
