"""Functions compiled to machine code when they are first called, and kept on disk for the next process."""

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from numba import njit
from numba.extending import intrinsic

P = ParamSpec("P")
T = TypeVar("T")


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """The function in machine code.

    Its code is kept beside the package, or in the user's cache folder where the package cannot be written; where
    neither can, each process compiles anew. It is kept under the function's qualified name, which gets a digest of all
    kernels: machine code holds that of the functions it calls, whose files numba does not look at. Code of earlier
    digests stays.

    Sums may be reassociated and multiplications contracted with additions, but what is not finite stays so. Equal input
    gives equal bits on one machine. Do not call exp in a kernel: code from the disk gave other bits with it than code
    that was just compiled.
    """
    try:
        function.__qualname__ += f"_{_digest()}"
        return _in_machine_code(function, cache=True)
    except (OSError, RuntimeError):  # the package is no folder, or there is none where code can be kept
        return _in_machine_code(function, cache=False)


def inlined(function: Callable[..., Any]) -> Callable[..., None]:
    """What compiled functions may call: the given one tells its signature in numba's types and writes LLVM code."""
    made: Callable[..., None] = intrinsic(function)
    return made


@cache
def _digest() -> str:
    """Of this file and all kernels of the package: code that functions may have been compiled from."""
    kernels = sorted(Path(__file__).parents[1].rglob("*_kernel.py"))
    return sha256(b"".join(path.read_bytes() for path in (Path(__file__), *kernels))).hexdigest()[:16]


def _in_machine_code(function: Callable[P, T], *, cache: bool) -> Callable[P, T]:
    compile_ = njit(cache=cache, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
    made: Callable[P, T] = compile_(function)
    return made
