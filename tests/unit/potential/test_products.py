"""Products of stacks of matrices agree with torch's, whatever library multiplies and however the matrices lie."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lmlp_stream.potential import products
from lmlp_stream.potential.products import product

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
        monkeypatch.setattr(products, "OPENBLAS", {})


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


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with products._environment(OPENBLAS_CORETYPE="SkylakeX", OPENBLAS_NUM_THREADS="1"):
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
        (rows(2, 5, 3), (products.AS_IT_IS, 3)),
        (rows(2, 5, 3)[:, :, :2], (products.AS_IT_IS, 3)),
        (interleaved(2, 5, 3), (products.AS_IT_IS, 6)),
        (columns(2, 5, 3), (products.TRANSPOSED, 5)),
        (rows(2, 5, 1), (products.AS_IT_IS, 1)),
        (columns(2, 5, 1), (products.AS_IT_IS, 1)),
        (columns(2, 1, 3), (products.AS_IT_IS, 3)),
        (scattered(2, 5, 3), (0, 2)),
        (rows(2, 1, 3).expand(2, 5, 3), (0, 0)),
    ],
)
def test_the_order_of_elements_is_recognised(matrices: Tensor, layout: tuple[int, int]) -> None:
    assert products._layout(matrices) == layout


def test_scipy_keeps_its_own_library() -> None:
    code = """
import numpy as np
import torch
from lmlp_stream.potential.products import product

product(torch.ones(1, 2, 2), torch.ones(1, 2, 2))
import scipy.linalg

assert abs(scipy.linalg.svdvals(np.diag([3.0, 1.0])) - [3.0, 1.0]).max() < 1e-12
"""
    subprocess.run([sys.executable, "-c", code], check=True)
