import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

import lmlp_stream
from lmlp_stream.atoms import compiled

PACKAGE = Path(lmlp_stream.__file__).parent
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


CALLER = """
from lmlp_stream.atoms.callee_kernel import value
from lmlp_stream.atoms.compiled import compiled

@compiled
def twice(x: float) -> float:
    return 2 * value(x)
"""


def test_a_change_of_a_function_that_another_kernel_calls_is_seen_by_the_next_process(tmp_path: Path):
    atoms = tmp_path / "lmlp_stream" / "atoms"
    atoms.mkdir(parents=True)
    for name in ("__init__.py", "atoms/__init__.py", "atoms/compiled.py"):
        shutil.copy(PACKAGE / name, tmp_path / "lmlp_stream" / name)
    (atoms / "caller_kernel.py").write_text(CALLER)
    program = "from lmlp_stream.atoms.caller_kernel import twice; print(twice(1.0))"
    found = []
    for factor in (3, 40):
        (atoms / "callee_kernel.py").write_text(
            "from lmlp_stream.atoms.compiled import compiled\n\n"
            f"@compiled\ndef value(x: float) -> float:\n    return {factor} * x\n"
        )
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
        found.append(float(done.stdout))
    assert found == [6.0, 80.0]


def test_what_is_compiled_is_in_files_called_kernels_that_take_nothing_from_other_modules_of_the_package():
    marks = ("\n@compiled", "\n@inlined")
    kernels = {path for path in PACKAGE.rglob("*.py") if any(mark in path.read_text() for mark in marks)}
    assert kernels == set(PACKAGE.rglob("*_kernel.py"))
    imported = {
        line.split()[1] for path in kernels for line in path.read_text().splitlines() if line.startswith("from lmlp_")
    }
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in kernels}
    assert imported <= names | {"lmlp_stream.atoms.compiled"}


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


@pytest.mark.slow
def test_code_from_the_cache_gives_the_bits_of_code_that_was_just_compiled(tmp_path: Path):
    program = (
        "import torch; from ase.build import molecule; from lmlp_stream.atoms.structure import from_ase\n"
        "from lmlp_stream.atoms.symmetry import SymmetryFunctions, spec_of\n"
        "from lmlp_stream.config import SymmetryConfig\n"
        "functions = SymmetryFunctions(spec_of(SymmetryConfig()), torch.float64, torch.device('cpu'))\n"
        "found = functions.evaluate(from_ase(molecule('C6H6')))\n"
        "print(*(array.numpy().tobytes().hex() for array in (found.values, found.radial, found.angular)))"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONHASHSEED": "0"}
    fresh, cached = (
        subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert list(tmp_path.rglob("*.nbc"))
    assert cached.stdout == fresh.stdout


def test_what_is_not_a_number_stays_so():
    assert np.isnan(compiled.compiled(_sum)(np.array([1.0, np.nan])))


def _sum(x: np.ndarray) -> float:
    total = 0.0
    for item in x:
        total += item
    return total
