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


@dataclass(frozen=True, slots=True, eq=False)
class OpenBLAS:
    """Functions of the library, which computes on one thread.

    Attributes:
        multiply: `cblas_?gemm_batch_strided` by precision.
        factorize: `dpotrf` of LAPACK.
    """

    multiply: dict[torch.dtype, Callable[..., None]]
    factorize: Callable[..., None]


def load() -> OpenBLAS | None:
    """The library of the wheel `scipy-openblas64`; None where it is not the fastest, or not installed.

    The MKL that torch brings leaves the AVX-512 units of AMD's processors idle, and so would the wheel: it holds no
    kernels of Zen processors, and would take those of Haswell without a word.
    """
    features = get_host_cpu_features()
    if not (get_host_cpu_name().startswith("znver") and all(features.get(name) for name in AVX_512)):
        return None
    try:
        installed = files("scipy-openblas64") or []
        path = next(str(file.locate()) for file in installed if file.name.startswith("libscipy_openblas"))
        with _environment(OPENBLAS_CORETYPE="SkylakeX", OPENBLAS_NUM_THREADS="1"):
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
    return OpenBLAS(multiply, factorize)


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
