"""CUDA graphs without a GPU: what they would hold of some work, and what they could not hold."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lmlp_stream.potential import device, linear_algebra
from lmlp_stream.potential.network import MINUS_ONE


class Recorded(TorchDispatchMode):
    """The operations of some work, which are done again with what is in their arrays by then, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        self.operations.append((operation, args, kwargs or {}, made))
        return made

    def replay(self) -> None:
        for operation, args, kwargs, made in self.operations:
            for old, new in zip(tensors(made), tensors(operation(*args, **kwargs)), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class OnTheDevice(TorchDispatchMode):
    """Refuses operations that read or write numbers of the host, as the capture of a CUDA graph does."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        for tensor in tensors((args, kwargs, made)):
            if tensor.device.type != "cuda" and tensor is not MINUS_ONE:
                raise RuntimeError(f"{operation} meets an array of the host")
        return made


def recorded(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """`graphed` for a CPU: the work is done once, then only what was recorded of it."""
    with Recorded() as record:
        work()
    return record.replay


def by_tensors(monkeypatch) -> None:
    """Let nothing but torch compute, as on a GPU: what other libraries do is not recorded."""
    monkeypatch.setattr(linear_algebra, "OPENBLAS", None)
    monkeypatch.setattr(device, "MOST_THREADS", 0)


def tensors(tree: object) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
