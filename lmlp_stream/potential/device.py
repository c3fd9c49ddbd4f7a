"""Where a potential computes."""

import ctypes
import re
import sys

import torch
from torch import Tensor

from lmlp_stream.config import DEVICE
from lmlp_stream.errors import LmlpStreamError
from lmlp_stream.potential.openblas import OPENBLAS

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""What glibc's mallopt calls the two limits."""
LARGEST_KEPT = 32 * 2**20
"""Bytes of the largest array whose memory is used again; older glibc allows no more."""
MOST_KEPT = 256 * 2**20
"""Bytes of free memory above all that is in use that are kept at most."""

MOST_THREADS = 2
"""With more, operations on tensors by all of them are taken to be faster than compiled code on one; not measured."""


def is_for_compiled_code(array: Tensor) -> bool:
    """Whether compiled code on a single core of the CPU is taken to be the fastest way through an array."""
    return array.is_cpu and torch.get_num_threads() <= MOST_THREADS


def find_device(name: str, *, setting: str, error: type[LmlpStreamError]) -> torch.device:
    """The device that `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N` names.

    Args:
        name: The name.
        setting: What it is the value of.
        error: What is raised where the name is another one, or where there is no such device here.
    """
    if not re.fullmatch(DEVICE, name):
        raise error(f"{setting} = {name!r} is none of auto, cpu, cuda and cuda:N")
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if n_gpus else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= n_gpus:
        raise error(f"{setting} = {name!r}, but torch finds {n_gpus} GPUs here; use auto or cpu")
    return device


def prepare_cpu(threads: int) -> None:
    """Give the linear algebra so many threads, and let freed memory be used again.

    With 0 it gets one per core, but a single one where a second would only wait: beside OpenBLAS with AVX-512, on two
    cores, training steps of the default potential took as long on the clock with two, and twice the CPU time.

    By default glibc gives the memory of large arrays back to the system and asks for it anew in every training step,
    which takes a tenth of its time.
    """
    if not threads and OPENBLAS and torch.get_num_threads() <= OPENBLAS.most_threads:
        threads = 1
    if threads:
        torch.set_num_threads(threads)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)
        mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        mallopt(M_TRIM_THRESHOLD, MOST_KEPT)
