"""Symmetry functions against a slow reference: loops over pairs and triples, written straight from the formulas.

Formulas: SCINE Parrot 1.0.0 (`gaussian_bump`, `cos`, `sqrt`), form of doi 10.1021/acs.jctc.3c00279. The reference works
with the angle itself and the published clamp of its cosine, which costs it 1e-12 at collinear triples. It shares no
code with the package but the element table.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch

from lmlp_stream.atoms.elements import MAXIMA, NUMBERS, element_numbers
from lmlp_stream.atoms.neighbors import neighbor_list
from lmlp_stream.atoms.structure import Structure
from lmlp_stream.atoms.symmetry import (
    AngularFunction,
    Descriptors,
    RadialFunction,
    SymmetryFunctions,
    SymmetrySpec,
    spec_of,
)
from lmlp_stream.atoms.symmetry_tensors import TensorFunctions
from lmlp_stream.config import SymmetryConfig
from tests.unit.atoms.derivatives import derivatives

CPU = torch.device("cpu")
CLAMP = 0.999999999999


def radial(r: float, eta: float, r_s: float, cutoff: float) -> tuple[float, float]:
    x = r / cutoff
    if x >= 1:
        return 0.0, 0.0
    value = math.exp(-eta * (r - r_s) ** 2) * math.exp(1 - 1 / (1 - x * x))
    return value, value * (-2 * eta * (r - r_s) - 2 * x / cutoff / (1 - x * x) ** 2)


def angular(theta: float, lambda_: float, zeta: int, xi: float) -> tuple[float, float]:
    bracket = 0.5 + 0.5 * lambda_ * math.cos(zeta * theta)
    slope = xi * bracket ** (xi - 1) * (-0.5 * lambda_ * zeta * math.sin(zeta * theta))
    return bracket**xi, slope


def factor(name: str, *neighbors: int) -> float:
    kind, _, of = name.rpartition(":")
    if kind == "product":
        t, u = of.split("*")
        j, k = neighbors
        return (share(t, j) * share(u, k) + share(u, j) * share(t, k)) / 2
    h = [share(of, z) for z in neighbors]
    if kind == "difference":
        largest = MAXIMA[NUMBERS.index(of)]
        return 0.0 if h[0] == 0 and h[1] == 0 else abs(h[0] - h[1]) + 1 / largest
    return sum(h) / len(h)


def share(name: str, z: int) -> float:
    """A periodic-table number over its maximum, or how much an element has of a trait."""
    if name in NUMBERS:
        t = NUMBERS.index(name)
        return element_numbers(z)[t] / MAXIMA[t]
    if name == "hydrogen":
        return float(z == 1)
    if z == 1:
        return 0.0
    _, n, sp = element_numbers(z)[:3]
    if name == "other":
        return 1.0
    return (n - 1) / 4 if name == "n-1" else math.exp(-(((sp - float(name[3:])) / 1.2) ** 2))


def neighbors_of(structure: Structure, i: int, cutoff: float) -> list[tuple[int, np.ndarray]]:
    ranges = [range(-6, 7) if periodic else (0,) for periodic in structure.pbc]
    found = []
    for j, shift in product(range(structure.n_atoms), product(*ranges)):
        vector = structure.positions[j] - structure.positions[i] + np.array(shift) @ structure.cell
        if 1e-10 < np.linalg.norm(vector) < cutoff:
            found.append((j, vector))
    return found


@cache
def reference(structure: Structure, spec: SymmetrySpec) -> tuple[np.ndarray, np.ndarray]:
    """G [A D] and dG_i/dr_a [A D A 3]."""
    n_atoms = structure.n_atoms
    values = np.zeros((n_atoms, spec.n_functions))
    slopes = np.zeros((n_atoms, spec.n_functions, n_atoms, 3))
    for i in range(n_atoms):
        near = neighbors_of(structure, i, spec.cutoff)
        for mu, f in enumerate((*spec.radial, *spec.angular)):
            if isinstance(f, RadialFunction):
                value, parts = radial_sum(structure, near, f, spec.cutoff)
            else:
                value, parts = angular_sum(structure, near, f, spec.cutoff)
            values[i, mu] = math.sqrt(value)
            for (j, _), part in zip(near, parts, strict=True):
                scaled = part / (2 * math.sqrt(value)) if value else np.zeros(3)
                slopes[i, mu, j] += scaled
                slopes[i, mu, i] -= scaled
    return values, slopes


def radial_sum(
    structure: Structure, near: list[tuple[int, np.ndarray]], f: RadialFunction, cutoff: float
) -> tuple[float, list[np.ndarray]]:
    total, parts = 0.0, []
    for j, vector in near:
        r = float(np.linalg.norm(vector))
        h = factor(f.factor, int(structure.atomic_numbers[j]))
        value, slope = radial(r, f.eta, f.r_s, cutoff)
        total += h * value
        parts.append(h * slope * vector / r)
    return total, parts


def angular_sum(
    structure: Structure, near: list[tuple[int, np.ndarray]], f: AngularFunction, cutoff: float
) -> tuple[float, list[np.ndarray]]:
    total, parts = 0.0, [np.zeros(3) for _ in near]
    for one in range(len(near)):
        for two in range(one + 1, len(near)):
            (j, v), (k, w) = near[one], near[two]
            h = factor(f.factor, int(structure.atomic_numbers[j]), int(structure.atomic_numbers[k]))
            rv, rw = float(np.linalg.norm(v)), float(np.linalg.norm(w))
            cosine = float(np.clip(v @ w / (rv * rw), -CLAMP, CLAMP))
            theta = math.acos(cosine)
            (fv, dfv), (fw, dfw) = radial(rv, f.eta, f.r_s, cutoff), radial(rw, f.eta, f.r_s, cutoff)
            a, da = angular(theta, f.lambda_, f.zeta, f.xi)
            by_cosine = -da / math.sin(theta)
            total += h * fv * fw * a
            parts[one] += h * fw * (dfv * a * v / rv + fv * by_cosine * (w / rw - cosine * v / rv) / rv)
            parts[two] += h * fv * (dfw * a * w / rw + fw * by_cosine * (v / rv - cosine * w / rw) / rw)
    return total, parts


def by_position(descriptors: Descriptors) -> np.ndarray:
    """dG_i/dr_a [A D A 3] from the derivatives by neighbor vectors."""
    n_atoms, n_functions = descriptors.values.shape
    split = derivatives(descriptors).view(n_atoms, n_functions, 3, -1).permute(0, 1, 3, 2).numpy()
    slopes = np.zeros((n_atoms, n_functions, n_atoms, 3))
    for i, row in enumerate(descriptors.neighbor_index.tolist()):
        for slot, j in enumerate(row):
            slopes[i, :, j] += split[i, :, slot]
            slopes[i, :, i] -= split[i, :, slot]
    return slopes


def molecule(numbers: list[int], seed: int = 0, scale: float = 1.6) -> Structure:
    rng = np.random.default_rng(seed)
    positions = np.array(list(product(range(3), repeat=3))[: len(numbers)]) * scale
    return Structure(
        atomic_numbers=np.array(numbers),
        positions=positions + rng.normal(scale=0.15, size=positions.shape),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
    )


def crystal(numbers: list[int], pbc: tuple[bool, bool, bool] = (True, True, True)) -> Structure:
    """Two atoms in a skewed cell that is thinner than the cutoff in every direction."""
    return Structure(
        atomic_numbers=np.array(numbers),
        positions=np.array([[0.1, 0.2, -0.1], [1.5, 1.6, 1.4]]),
        cell=np.array([[3.1, 0.1, 0.0], [0.2, 3.2, 0.3], [-0.4, 0.0, 3.3]]),
        pbc=np.array(pbc),
    )


STRUCTURES = {
    "organic": molecule([6, 1, 8, 7, 1, 6, 16]),
    "metals among main groups": molecule([26, 8, 41, 42, 1, 17], seed=1),
    "two atoms": molecule([9, 1], seed=2),
    "one atom": molecule([10]),
    "crystal": crystal([41, 42]),
    "slab": crystal([14, 14], (True, True, False)),
    "chain": crystal([29, 8], (False, False, True)),
}

MIXED = SymmetrySpec(
    cutoff=4.6,
    radial=(RadialFunction(0.3, 0.0, "9-sp"), RadialFunction(4.0, 1.7, "11-d"), RadialFunction(0.3, 0.0, "1")),
    angular=(
        AngularFunction(0.1, 0.0, 1.0, 3, 2.5, "difference:9-sp"),
        AngularFunction(0.8, 1.5, -1.0, 1, 1.0, "sum:6-n"),
        AngularFunction(0.1, 0.0, 0.7, 2, 4.0, "sum:d"),
    ),
)


SPECS = {
    "published": spec_of(SymmetryConfig(preset="published", cutoff=4.4)),
    "default": spec_of(SymmetryConfig(cutoff=4.4)),
    "list": MIXED,
    "radial": replace(MIXED, angular=()),
    "angular": replace(MIXED, radial=()),
}


def by_tensors(structure: Structure, spec: SymmetrySpec) -> Descriptors:
    """What tensor operations, the way on a device, make of it; the neighbors are the same."""
    values, radial_, angular_ = TensorFunctions(spec, torch.float64, CPU).evaluate(
        structure.atomic_numbers, neighbor_list(structure, spec.cutoff)
    )
    return replace(by_compiled_code(structure, spec), values=values, radial=radial_, angular=angular_)


def by_compiled_code(structure: Structure, spec: SymmetrySpec) -> Descriptors:
    return SymmetryFunctions(spec, torch.float64, CPU).evaluate(structure)


def check(descriptors: Descriptors, structure: Structure, spec: SymmetrySpec) -> None:
    values, slopes = reference(structure, spec)
    atol = 5e-13 if structure is STRUCTURES["chain"] else 1e-15  # sums of collinear triples alone feel the clamp
    np.testing.assert_allclose(descriptors.values.numpy(), values, rtol=1e-12, atol=atol)
    np.testing.assert_allclose(by_position(descriptors), slopes, rtol=1e-12, atol=atol)


@pytest.mark.parametrize("evaluate", [by_compiled_code, by_tensors])
@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES.keys())
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_values_and_derivatives_are_those_of_the_slow_reference(
    structure: Structure, spec: SymmetrySpec, evaluate: Callable[[Structure, SymmetrySpec], Descriptors]
) -> None:
    check(evaluate(structure, spec), structure, spec)


@pytest.mark.parametrize("evaluate", [by_compiled_code, by_tensors])
def test_the_default_cutoff_is_that_of_the_slow_reference_too(
    evaluate: Callable[[Structure, SymmetrySpec], Descriptors],
) -> None:
    structure, spec = STRUCTURES["metals among main groups"], spec_of(SymmetryConfig())
    check(evaluate(structure, spec), structure, spec)
