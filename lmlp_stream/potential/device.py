"""Where a potential computes."""

import re

import torch

from lmlp_stream.config import DEVICE
from lmlp_stream.errors import LmlpStreamError


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
