import math

import pytest
import torch

from lmlp_stream.atoms.symmetry_formulas import (
    bracket_power,
    cutoff_exponent,
    multiple_angle,
    radial_part,
    square_root,
)


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def angular_part(cosine: torch.Tensor, lambda_: float, zeta: int, xi: float) -> tuple[torch.Tensor, torch.Tensor]:
    out = (torch.empty_like(cosine), torch.empty_like(cosine))
    bracket_power(*multiple_angle(cosine, zeta), lambda_, xi, out=out)
    return out


def slope_of(value: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(value.sum(), by)[0]


def test_the_cutoff_function_is_the_compact_bump() -> None:
    r = numbers(0.0, 1.0, 3.0, 5.0)
    exponent, slope = cutoff_exponent(r, 6.0)
    expected = [math.exp(1 - 1 / (1 - (x / 6) ** 2)) for x in (0.0, 1.0, 3.0, 5.0)]
    assert exponent.exp().tolist() == pytest.approx(expected, rel=1e-14)
    torch.testing.assert_close(slope, slope_of(exponent, r), rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_radial_part_and_its_slope_end_at_exactly_zero(dtype: torch.dtype) -> None:
    r = torch.tensor([6.0, 6.0 - 1e-6, 6.0 - 1e-3, 7.0, 60.0], dtype=dtype)
    value, slope = radial_part(r, torch.tensor(0.0), torch.tensor(0.0), 6.0)
    assert value.tolist() == [0.0] * 5
    assert slope.tolist() == [0.0] * 5


@pytest.mark.parametrize("r_s", [0.0, 2.0])
def test_the_radial_part_is_a_gaussian_times_the_bump(r_s: float) -> None:
    r = numbers(0.7, 2.0, 4.5)
    value, slope = radial_part(r, torch.tensor(1.5), torch.tensor(r_s), 5.0)
    expected = [math.exp(-1.5 * (x - r_s) ** 2) * math.exp(1 - 1 / (1 - (x / 5) ** 2)) for x in (0.7, 2.0, 4.5)]
    assert value.tolist() == pytest.approx(expected, rel=1e-13)
    torch.testing.assert_close(slope, slope_of(value, r), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_of_radial_parts_are_normal_numbers_or_zero(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).tiny
    r = torch.linspace(0.5, 6.0, 500, dtype=dtype)
    value, slope = radial_part(r, torch.tensor(31.0), torch.tensor(0.9), 6.0)
    assert 0 < value[value > 0].min() ** 2 < 1e4 * tiny
    assert value[value > 0].min() ** 2 >= tiny
    assert torch.equal(value == 0, slope == 0)


@pytest.mark.parametrize("zeta", [1, 2, 3, 7])
def test_a_multiple_angle_needs_no_angle(zeta: int) -> None:
    theta = torch.linspace(0.01, math.pi - 0.01, 50, dtype=torch.float64)
    value, slope = multiple_angle(torch.cos(theta), zeta)
    torch.testing.assert_close(value, torch.cos(zeta * theta), rtol=0, atol=1e-13)
    torch.testing.assert_close(slope, zeta * torch.sin(zeta * theta) / torch.sin(theta), rtol=0, atol=1e-11)


@pytest.mark.parametrize("zeta", [1, 2, 3])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_slope_of_a_multiple_angle_has_its_limit_at_collinear_neighbors(zeta: int, sign: float) -> None:
    _, slope = multiple_angle(torch.tensor([sign], dtype=torch.float64), zeta)
    assert slope.item() == zeta**2 * sign ** (zeta - 1)


@pytest.mark.parametrize("lambda_", [1.0, -1.0, 0.5])
@pytest.mark.parametrize("zeta", [1, 2, 3])
@pytest.mark.parametrize("xi", [1.0, 1.5, 2.0, 3.0, 4.0, 8.0])
def test_the_angular_part_has_four_parameters(lambda_: float, zeta: int, xi: float) -> None:
    theta = torch.linspace(0.05, math.pi - 0.05, 23, dtype=torch.float64)
    cosine = torch.cos(theta).requires_grad_(True)
    value, slope = angular_part(cosine.detach(), lambda_, zeta, xi)
    expected = (0.5 + 0.5 * lambda_ * torch.cos(zeta * torch.acos(cosine))) ** xi
    torch.testing.assert_close(value, expected.detach(), rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(slope, slope_of(expected, cosine), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_angular_part_is_finite_where_the_cosine_leaves_its_range_by_rounding(dtype: torch.dtype) -> None:
    cosine = torch.tensor([1.0, -1.0, 1.0 + 1e-6, -1.0 - 1e-6], dtype=dtype)
    for lambda_ in (1.0, -1.0):
        for xi in (1.0, 1.5, 4.0):
            value, slope = angular_part(cosine, lambda_, 2, xi)
            assert value.isfinite().all()
            assert slope.isfinite().all()


def test_the_square_root_has_no_slope_at_zero() -> None:
    root, slope = square_root(torch.tensor([0.0, 4.0, -1e-20]))
    assert root.tolist() == [0.0, 2.0, 0.0]
    assert slope.tolist() == [0.0, 0.25, 0.0]
