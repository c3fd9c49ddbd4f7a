"""Work on a GPU that is told once and done many times."""

from collections.abc import Callable

import torch

WARM_UPS = 3
"""So often the work is done before it is captured: libraries allocate what they need meanwhile."""


def graphed(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """The same work: on a GPU as one CUDA graph, elsewhere as it is.

    The work must wait for nothing, and find all that it reads and writes at the same addresses each time. It is done
    several times on the way here.

    Args:
        work: What is to be done with tensors of the device; neither shapes nor operations may depend on numbers.
        device: Where these are.
    """
    if device.type != "cuda":
        return work
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.device(device):
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            work()
    return graph.replay
