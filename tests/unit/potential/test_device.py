"""What `prepare_cpu` does to the process; in one of its own, since it cannot be undone."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from lmlp_stream.potential.device import prepare_cpu

prepare_cpu(1)
assert torch.get_num_threads() == 1
for index in range(60):
    if index == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays = [torch.zeros(2**20) for _ in range(4)]
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these limits")
def test_freed_memory_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 5_000
