"""Compiled code for few atoms, and the tensor operations that many take."""

import numpy as np
import pytest
import torch

from lmlp_stream.potential import few_atoms_kernel, linear, networks
from lmlp_stream.potential.linear import N_DEVIATING, Features, excess
from lmlp_stream.potential.network import MOST_OF_FEW, fold, forth_and_back, forth_and_back_of_few, init_network
from lmlp_stream.potential.rows_kernel import product, product_with_rows
from lmlp_stream.potential.tanh_kernel import tanh_of_half
from tests.unit.potential.test_ensemble import ALL, ALONE, ETHANOL, METHANOL, THIN_CELL, batch_of, ensemble

MEMBERS, D = 3, 40
SHAPES = [(1, 1, 1), (1, 5, 3), (2, 4, 8), (3, 9, 78), (10, 153, 61), (7, 12, 102), (2, 6, 0), (6, 3, 17), (16, 0, 16)]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def drawn(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def within(array: np.ndarray, *, beyond: int) -> np.ndarray:
    """The array as a part of a larger one, which is no number all around."""
    room = np.full([size + 2 * beyond for size in array.shape], np.nan, array.dtype)
    part = room[tuple(slice(beyond, beyond + size) for size in array.shape)]
    part[:] = array
    return part


@pytest.mark.parametrize("beyond", [0, 3])
@pytest.mark.parametrize(("dtype", "rounding"), [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize(("n_rows", "n_inner", "width"), SHAPES)
def test_rows_times_a_matrix_and_its_transpose(
    n_rows: int, n_inner: int, width: int, dtype: type, rounding: float, beyond: int, generator: torch.Generator
) -> None:
    shapes = [(n_rows, n_inner), (n_inner, width), (n_rows, width)]
    left, matrix, right = (within(drawn(generator, *shape).numpy().astype(dtype), beyond=beyond) for shape in shapes)
    ahead, back = (within(np.full(shape, np.nan, dtype), beyond=beyond) for shape in (shapes[2], shapes[0]))
    product(left, matrix, ahead)
    product_with_rows(right, matrix, back)
    np.testing.assert_allclose(ahead, left @ matrix, rtol=rounding, atol=rounding)
    np.testing.assert_allclose(back, right @ matrix.T, rtol=rounding, atol=rounding)
    for written in (ahead, back):
        around = written.base
        assert around is None or np.isnan(around).sum() == around.size - written.size


def test_rows_times_the_first_columns_of_a_matrix(generator: torch.Generator) -> None:
    matrix, right = drawn(generator, 7, 30).numpy(), drawn(generator, 3, 10).numpy()
    found = np.empty((3, 7))
    product_with_rows(right, matrix, found)
    np.testing.assert_allclose(found, right @ matrix[:, :10].T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dtype", "rounding"), [(np.float32, 2.4e-7), (np.float64, 4.5e-16)])
def test_tanh_is_right_to_the_rounding_of_one(dtype: type, rounding: float) -> None:
    x = np.concatenate([np.linspace(-70, 70, 20001), np.linspace(-1e-3, 1e-3, 2001), [0.0, 1e30, -1e30]]).astype(dtype)
    found = 2 * x
    tanh_of_half(found, np.empty_like(x))
    assert np.abs(found - np.tanh(x.astype(np.float64))).max() <= rounding
    special = np.array([np.inf, -np.inf, np.nan], dtype)
    tanh_of_half(special, np.empty_like(special))
    np.testing.assert_array_equal(special, [1, -1, np.nan])


@pytest.mark.parametrize("hidden", [(30, 20, 9), (5,)])
@pytest.mark.parametrize("n_atoms", [1, 2, 5, MOST_OF_FEW])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_networks_of_few_atoms(
    n_atoms: int, hidden: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator
) -> None:
    values = drawn(generator, n_atoms, D).to(dtype)
    parameters = {
        name: array + 0.1 * drawn(generator, *array.shape).to(dtype)
        for name, array in init_network(D, hidden, MEMBERS, generator, drawn(generator, 50, D).to(dtype)).items()
    }
    folded, expected = fold(parameters), values.new_empty(n_atoms, MEMBERS, D)
    energies, gradients = values.new_empty(n_atoms, MEMBERS), torch.empty_like(expected)
    forth_and_back_of_few(folded, values, energies, gradients)
    exact = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 2e-5}
    torch.testing.assert_close(energies.T, forth_and_back(folded, values, expected).energies, **exact)
    torch.testing.assert_close(gradients, expected, **exact)


@pytest.mark.parametrize("n_features", [N_DEVIATING // 2, N_DEVIATING + 50])
def test_the_linear_part_of_few_atoms(n_features: int, generator: torch.Generator) -> None:
    values = drawn(generator, 5, D)
    relevance = torch.ones(D, dtype=torch.float64)
    features = Features.drawn(values[:1], n_features, generator, relevance, members=MEMBERS)
    features = features.with_coefficients(drawn(generator, n_features))
    features = features.with_deviations(drawn(generator, *features.deviations.shape))
    features = features.covering(values[:2])
    of_few, of_many = ((torch.ones(5, MEMBERS).double(), torch.ones(5, MEMBERS, D).double()) for _ in range(2))
    own = tuple(torch.full(shape, torch.nan, dtype=torch.float64) for shape in [(5,), (5, D)] * 2)
    features.of_few(values, 0.4, *of_few, *own)
    evaluated = features.evaluate(values)
    features.deviate(evaluated, 0.4, *of_many)
    expected_own = (*features.energies(evaluated), *excess(values, features.lowest, features.highest))
    assert expected_own[2][2:].min() > 0
    for found, expected in zip((*own, *of_few), (*expected_own, *of_many), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_few_and_many_are_predicted_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = ensemble(), batch_of(ALL)
    few = model.predict(batch)
    for room in (networks, linear):
        monkeypatch.setattr(room, "are_few", lambda _: False)
    many = model.predict(batch)
    for name in ("energy", "forces", "stress"):
        torch.testing.assert_close(getattr(few, name), getattr(many, name), rtol=1e-10, atol=1e-10, equal_nan=True)


def test_no_structure_makes_compiled_code_compile_again() -> None:
    model = ensemble()
    model.predict(batch_of([ETHANOL]))
    compiled = [kernel for kernel in vars(few_atoms_kernel).values() if hasattr(kernel, "signatures")]
    before = [list(kernel.signatures) for kernel in compiled]
    for some in ([ALONE], [METHANOL, ALONE], [THIN_CELL], ALL):
        model.predict(batch_of(some))
    assert [list(kernel.signatures) for kernel in compiled] == before
