"""What linear algebra gives is that of torch, whatever library computes and however the matrices lie."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lmlp_stream.potential import linear_algebra, openblas
from lmlp_stream.potential.linear_algebra import lower_cholesky, product

GENERATOR = torch.Generator().manual_seed(5)


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def columns(count: int, n_rows: int, n_columns: int) -> Tensor:
    return rows(count, n_columns, n_rows).transpose(1, 2)


def interleaved(count: int, n_rows: int, n_columns: int) -> Tensor:
    return rows(n_rows, count, n_columns).transpose(0, 1)


def shared(count: int, n_rows: int, n_columns: int) -> Tensor:
    return rows(n_rows, n_columns).expand(count, -1, -1)


def scattered(count: int, n_rows: int, n_columns: int) -> Tensor:
    return rows(count, n_rows, n_columns, 2)[..., 0]


LAYOUTS = (rows, columns, interleaved, shared, scattered)
SHAPES = [
    (3, 7, 5, 4),
    (2, 1, 6, 3),
    (2, 6, 1, 3),
    (2, 6, 3, 1),
    (1, 1, 1, 1),
    (10, 70, 33, 20),
    (2, 70, 120, 130),
    (2, 3, 0, 4),
    (0, 3, 2, 4),
]


@pytest.fixture(params=["the processor's library", "torch"])
def _library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr(linear_algebra, "OPENBLAS", None)


@pytest.mark.usefixtures("_library")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("left_layout", LAYOUTS)
@pytest.mark.parametrize("right_layout", LAYOUTS)
def test_equals_the_product_of_torch(
    shape: tuple[int, int, int, int], left_layout: Callable, right_layout: Callable, dtype: torch.dtype
) -> None:
    count, i, k, o = shape
    left, right = left_layout(count, i, k), right_layout(count, k, o)
    made = product(left.to(dtype), right.to(dtype), factor=1.5)
    assert made.is_contiguous()
    error = 1e-12 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(made.double(), 1.5 * torch.bmm(left, right), rtol=error, atol=error)


@pytest.mark.usefixtures("_library")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", [rows, columns, interleaved, scattered])
@pytest.mark.parametrize("keep", [0.0, 1.0, -2.0])
def test_is_added_in_place(shape: tuple[int, int, int, int], layout: Callable, keep: float) -> None:
    count, i, k, o = shape
    left, right, out = rows(count, i, k), rows(count, k, o), layout(count, i, o)
    expected = keep * out + torch.bmm(left, right)
    assert product(left, right, out=out, keep=keep) is out
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("_library")
def test_what_is_not_kept_does_not_matter() -> None:
    left, right = rows(2, 5, 6), rows(2, 6, 4)
    out = product(left, right, out=torch.full((2, 5, 4), torch.nan, dtype=torch.float64))
    torch.testing.assert_close(out, torch.bmm(left, right), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("_library")
@pytest.mark.parametrize("size", [1, 7, 300])
def test_the_lower_factor_is_that_of_torch(size: int) -> None:
    square = rows(1, size, size + 3)[0]
    matrix = square @ square.T
    below_alone = matrix.tril() + rows(1, size, size)[0].triu(1)
    before = below_alone.clone()
    found = lower_cholesky(below_alone)
    assert found is not None
    assert torch.equal(below_alone, before)
    torch.testing.assert_close(found.tril(), torch.linalg.cholesky(matrix), rtol=1e-10, atol=1e-10)


def test_a_factor_in_single_precision_is_left_to_torch() -> None:
    found = lower_cholesky(torch.tensor([[4.0, 0.0], [2.0, 5.0]]))
    assert found is not None
    assert found.tril().tolist() == [[2.0, 0.0], [1.0, 2.0]]


@pytest.mark.usefixtures("_library")
def test_what_is_not_positive_definite_has_no_factor() -> None:
    assert lower_cholesky(torch.diag(torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))) is None


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with openblas._environment(OPENBLAS_CORETYPE="SkylakeX", OPENBLAS_NUM_THREADS="1"):
        assert (os.environ["OPENBLAS_CORETYPE"], os.environ["OPENBLAS_NUM_THREADS"]) == ("SkylakeX", "1")
    assert os.environ["OPENBLAS_CORETYPE"] == "Haswell"
    assert "OPENBLAS_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(
    ("left", "right", "out"),
    [
        (rows(2, 3, 4), rows(2, 5, 3), None),
        (rows(2, 3, 4), rows(1, 4, 5), None),
        (rows(2, 3, 4), rows(2, 4, 5).float(), None),
        (rows(2, 3, 4), rows(2, 4, 5), rows(2, 3, 4)),
        (rows(2, 3, 4).float(), rows(2, 4, 5).float(), rows(2, 3, 5)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(left: Tensor, right: Tensor, out: Tensor | None) -> None:
    with pytest.raises(RuntimeError):
        product(left, right, out=out)


@pytest.mark.parametrize(
    ("matrices", "layout"),
    [
        (rows(2, 5, 3), (linear_algebra.AS_IT_IS, 3)),
        (rows(2, 5, 3)[:, :, :2], (linear_algebra.AS_IT_IS, 3)),
        (interleaved(2, 5, 3), (linear_algebra.AS_IT_IS, 6)),
        (columns(2, 5, 3), (linear_algebra.TRANSPOSED, 5)),
        (rows(2, 5, 1), (linear_algebra.AS_IT_IS, 1)),
        (columns(2, 5, 1), (linear_algebra.AS_IT_IS, 1)),
        (columns(2, 1, 3), (linear_algebra.AS_IT_IS, 3)),
        (scattered(2, 5, 3), (0, 2)),
        (rows(2, 1, 3).expand(2, 5, 3), (0, 0)),
    ],
)
def test_the_order_of_elements_is_recognised(matrices: Tensor, layout: tuple[int, int]) -> None:
    assert linear_algebra._layout(matrices) == layout


def test_scipy_keeps_its_own_library() -> None:
    code = """
import numpy as np
import torch
from lmlp_stream.potential.linear_algebra import lower_cholesky, product

product(torch.ones(1, 2, 2), torch.ones(1, 2, 2))
import scipy.linalg

assert abs(scipy.linalg.svdvals(np.diag([3.0, 1.0])) - [3.0, 1.0]).max() < 1e-12
"""
    subprocess.run([sys.executable, "-c", code], check=True)
