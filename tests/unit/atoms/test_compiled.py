import subprocess
import sys

import numba
import numpy as np
import pytest

from lmlp_stream.atoms import compiled

PROGRAM = """
import sys
import numpy as np
from numba.core import event
from lmlp_stream.atoms.angular_kernel import tile

with event.install_recorder("numba:compile") as compilations:
    tiled = np.zeros(4, dtype=sys.argv[1])
    tile(np.array([1, 2], dtype=sys.argv[1]), tiled)
assert tiled.tolist() == [1, 2, 1, 2]
print(len(compilations.buffer))
"""


def compilations(dtype: str) -> int:
    """Steps of compilation that a new process takes to call a function of the package."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, dtype], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_new_process_finds_the_code_that_an_earlier_one_compiled():
    compilations("float32")
    assert compilations("float32") == 0


def test_where_no_code_can_be_kept_it_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def njit_in_a_package_without_a_cache(*, cache: bool, **options: object):
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(compiled, "njit", njit_in_a_package_without_a_cache)

    double = compiled.compiled(lambda x: x + x)

    assert double(np.float32(1.5)) == 3.0
    assert asked == [True, False]


def test_what_is_not_a_number_stays_so():
    assert np.isnan(compiled.compiled(_sum)(np.array([1.0, np.nan])))


def _sum(x: np.ndarray) -> float:
    total = 0.0
    for item in x:
        total += item
    return total
