"""Symmetry functions and their derivatives in one pass over the centers of a structure, compiled for the CPU.

The formulas are those of `symmetry_formulas`, factored by shells, angular parts and element factors as in
`symmetry_grid`; what one center needs stays in the cache. Sums may be reassociated and multiplications contracted with
additions, so results differ from those of tensors by rounding; equal input gives equal bits. Axes: P directed pairs, K
kinds (elements of the structure), S shells, L angular parts, H element factors, D functions, the R radial ones before
the Q angular ones, N neighbors, J lanes (N rounded up, zeros at the end), W = 3 N rounded up, and J more.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from lmlp_stream.atoms.angular_kernel import (
    Array,
    Flat,
    Space,
    angular_parts,
    complete,
    rounded,
    sum_over,
    tile,
    working_space,
)
from lmlp_stream.atoms.compiled import compiled


class Pairs(NamedTuple):
    """The pairs of a structure, by center, then by kind of the neighbor."""

    starts: Int[np.ndarray, "A+1"]
    kinds: Int[np.ndarray, "P"]
    units: Float[np.ndarray, "P 3"]


class Shells(NamedTuple):
    """r(R_ij) of each shell and pair, its derivative, and r over R."""

    legs: Float[np.ndarray, "S P"]
    slopes: Float[np.ndarray, "S P"]
    across: Float[np.ndarray, "S P"]


class Radial(NamedTuple):
    """Factor H of each kind; factor and shell of each function."""

    factors: Float[np.ndarray, "H K"]
    functions: Int[np.ndarray, "d 2"]


class Angular(NamedTuple):
    """Factor H of each two kinds; lambda, zeta and xi of each part; factor and shell·L + part of each function."""

    factors: Float[np.ndarray, "H K K"]
    parts: Float[np.ndarray, "L 3"]
    functions: Int[np.ndarray, "d 2"]


class Near(NamedTuple):
    """The neighbors of one center, and the first of each kind."""

    unit: Float[np.ndarray, "3 J"]
    leg: Float[np.ndarray, "S J"]
    slope: Float[np.ndarray, "S J"]
    across: Float[np.ndarray, "S J"]
    runs: Int[np.ndarray, "K+1"]


class Products(NamedTuple):
    """What functions are put together from: element factors; sums over neighbors; vectors, x, y, z in a row."""

    factors: Float[np.ndarray, "H K W"]
    sums: Float[np.ndarray, "K F J"]
    vectors: Float[np.ndarray, "K F W"]


@compiled
def evaluate(
    pairs: Pairs,
    radial_shells: Shells,
    angular_shells: Shells,
    radial: Radial,
    angular: Angular,
    n_neighbors: int,
    values: Float[np.ndarray, "A D"],
    by_distance: Float[np.ndarray, "A N R"],
    by_vector: Float[np.ndarray, "A*Q*3*N+LANES"],
) -> None:
    """Write G, the derivatives of radial functions by each distance, and those of angular ones by each neighbor vector.

    Both in Å⁻¹, the latter all x, then all y, then all z. A row of `by_vector` is written a little too far; the next
    one mends it, and the last one needs `LANES` more.
    """
    n_radial, n_angular = len(radial.functions), len(angular.functions)
    n_kinds, n_shells, n_parts = angular.factors.shape[1], len(angular_shells.legs), len(angular.parts)
    factors = np.empty((len(radial.factors), n_neighbors), values.dtype)
    near = _near(n_shells, n_kinds, n_neighbors, values)
    products = _products(len(angular.factors), n_kinds, n_shells * n_parts, n_neighbors, values)
    space = working_space(n_parts, n_neighbors, values)
    for i in range(len(values)):
        kinds = pairs.kinds[pairs.starts[i] : pairs.starts[i + 1]]
        _radial_functions(kinds, pairs.starts[i], radial_shells, radial, factors, values[i, :n_radial], by_distance[i])
        _load(pairs, i, angular_shells, near)
        _angular_products(kinds, near, angular, space, products, n_neighbors)
        row = by_vector[3 * n_neighbors * n_angular * i :]
        _angular_functions(products, angular.functions, values[i, n_radial:], row, n_neighbors)


@compiled
def _radial_functions(
    kinds: Int[np.ndarray, "n"],
    first: int,
    shells: Shells,
    radial: Radial,
    factors: Float[np.ndarray, "H N"],
    values: Float[np.ndarray, "R"],
    derivatives: Float[np.ndarray, "N R"],
) -> None:
    """S of the sums over neighbors, and its derivatives; `factors` is room for those of each neighbor."""
    count = len(kinds)
    for h in range(len(factors)):
        for j in range(count):
            factors[h, j] = radial.factors[h, kinds[j]]
    for d in range(len(radial.functions)):
        h, shell = radial.functions[d]
        leg, slope = shells.legs[shell, first : first + count], shells.slopes[shell, first : first + count]
        total = values.dtype.type(0)
        for j in range(count):
            total += factors[h, j] * leg[j]
        scale = _write_root(total, d, values)
        for j in range(count):
            derivatives[j, d] = scale * factors[h, j] * slope[j]
    derivatives[count:] = 0


@compiled
def _write_root(total: float, d: int, values: Flat) -> float:
    """Write S of a sum, and return its slope: `symmetry_formulas.square_root`."""
    zero, half = values.dtype.type(0), values.dtype.type(0.5)
    root = np.sqrt(max(total, zero))
    values[d] = root
    slope: float = half / root if root > zero else zero
    return slope


@compiled
def _near(n_shells: int, n_kinds: int, n_neighbors: int, like: Array) -> Near:
    n_lanes = rounded(n_neighbors)
    legs, slopes, across = np.zeros((3, n_shells, n_lanes), like.dtype)
    return Near(np.zeros((3, n_lanes), like.dtype), legs, slopes, across, np.zeros(n_kinds + 1, np.int64))


@compiled
def _products(n_factors: int, n_kinds: int, n_products: int, n_neighbors: int, like: Array) -> Products:
    n_lanes, n_even = rounded(n_neighbors), n_kinds + n_kinds % 2
    width = max(2 * n_neighbors + n_lanes, rounded(3 * n_neighbors))
    return Products(
        np.zeros((n_factors, n_even, width), like.dtype),
        np.zeros((n_even, n_products, n_lanes), like.dtype),
        np.zeros((n_even, n_products, width), like.dtype),
    )


@compiled
def _load(pairs: Pairs, i: int, shells: Shells, near: Near) -> None:
    """The neighbors of center i, lanes last."""
    first, count = pairs.starts[i], pairs.starts[i + 1] - pairs.starts[i]
    near.unit[:], near.leg[:], near.slope[:], near.across[:], near.runs[:] = 0, 0, 0, 0, 0
    for j in range(count):
        p = first + j
        near.runs[pairs.kinds[p] + 1] += 1
        for component in range(3):
            near.unit[component, j] = pairs.units[p, component]
    for s in range(len(shells.legs)):
        for j in range(count):
            near.leg[s, j] = shells.legs[s, first + j]
            near.slope[s, j] = shells.slopes[s, first + j]
            near.across[s, j] = shells.across[s, first + j]
    for kind in range(len(near.runs) - 1):
        near.runs[kind + 1] += near.runs[kind]


@compiled
def _thrice(row: Flat, j: int, n_neighbors: int, value: float) -> None:
    row[j] = value
    row[n_neighbors + j] = value
    row[2 * n_neighbors + j] = value


@compiled
def _angular_products(
    kinds: Int[np.ndarray, "n"], near: Near, angular: Angular, space: Space, products: Products, n_neighbors: int
) -> None:
    for h in range(len(angular.factors)):
        for kind in range(len(near.runs) - 1):
            for j in range(len(kinds)):
                _thrice(products.factors[h, kind], j, n_neighbors, angular.factors[h, kinds[j], kind])
    angular_parts(angular.parts, len(kinds), near.unit, space)
    for component in range(3):
        tile(near.unit[component], space.tiled[component])
    for s in range(len(near.leg)):
        tile(near.leg[s], space.tiled[3])
        tile(near.slope[s], space.tiled[4])
        tile(near.across[s], space.tiled[5])
        for kind in range(len(near.runs) - 1):
            sum_over(near.runs[kind], near.runs[kind + 1], near.unit, near.leg[s], space)
            complete(space.tiled, space.sums)
            for part in range(len(angular.parts)):
                _keep(space.sums, part, products, kind, s * len(angular.parts) + part, n_neighbors)


@compiled
def _keep(
    sums: Float[np.ndarray, "4 L*J"], part: int, products: Products, kind: int, product: int, n_neighbors: int
) -> None:
    n_lanes = products.sums.shape[2]
    first = part * n_lanes
    for j in range(n_lanes):
        products.sums[kind, product, j] = sums[0, first + j]
    for j in range(n_lanes):
        products.vectors[kind, product, j] = sums[1, first + j]
    for j in range(n_lanes):
        products.vectors[kind, product, n_neighbors + j] = sums[2, first + j]
    for j in range(n_lanes):
        products.vectors[kind, product, 2 * n_neighbors + j] = sums[3, first + j]


@compiled
def _angular_functions(
    products: Products,
    functions: Int[np.ndarray, "d 2"],
    values: Float[np.ndarray, "Q"],
    derivatives: Flat,
    n_neighbors: int,
) -> None:
    """S of half the sums over kinds, each pair of neighbors being met twice, and its derivatives."""
    zero, half = values.dtype.type(0), values.dtype.type(0.5)
    n_lanes, width = products.sums.shape[2], rounded(3 * n_neighbors)
    factors, sums, vectors = products.factors, products.sums, products.vectors
    for d in range(len(functions)):
        h, product = functions[d]
        total = zero
        for kind in range(0, len(sums), 2):
            for j in range(n_lanes):
                total += factors[h, kind, j] * sums[kind, product, j]
                total += factors[h, kind + 1, j] * sums[kind + 1, product, j]
        scale = _write_root(half * total, d, values)
        row = derivatives[3 * n_neighbors * d :]
        for t in range(width):
            one = factors[h, 0, t] * vectors[0, product, t]
            row[t] = scale * (one + factors[h, 1, t] * vectors[1, product, t])
        for kind in range(2, len(sums), 2):
            for t in range(width):
                one = factors[h, kind, t] * vectors[kind, product, t]
                row[t] += scale * (one + factors[h, kind + 1, t] * vectors[kind + 1, product, t])
