"""The angular parts of symmetry functions between the neighbors of one center, and their sums; compiled for the CPU.

Formulas are those of `symmetry_formulas` and of `symmetry_grid`. Axes: N neighbors, J lanes (N rounded up, zeros at the
end), L angular parts, T any flat loop.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from lmlp_stream.atoms.compiled import compiled

LANES = 32
"""Loops over neighbors go to a multiple of this, which vectorises without a remainder."""

Array = np.ndarray
Flat = Float[np.ndarray, "T"]


class Space(NamedTuple):
    """Working memory: angular parts of every two neighbors, steps towards them, neighbors once for each part, sums."""

    part: Float[np.ndarray, "N L*J"]
    slope: Float[np.ndarray, "N L*J"]
    work: Float[np.ndarray, "6 N*J"]
    tiled: Float[np.ndarray, "6 L*J"]
    sums: Float[np.ndarray, "4 L*J"]


@compiled
def rounded(n: int) -> int:
    """The number or a little more: a multiple of `LANES`, at least once."""
    return -(-max(n, 1) // LANES) * LANES


@compiled
def working_space(n_parts: int, n_neighbors: int, like: Array) -> Space:
    """Room for the neighbors of a center."""
    n_lanes = rounded(n_neighbors)
    return Space(
        np.empty((n_neighbors, n_parts * n_lanes), like.dtype),
        np.empty((n_neighbors, n_parts * n_lanes), like.dtype),
        np.empty((6, n_neighbors * n_lanes), like.dtype),
        np.empty((6, n_parts * n_lanes), like.dtype),
        np.empty((4, n_parts * n_lanes), like.dtype),
    )


@compiled
def angular_parts(parts: Float[np.ndarray, "L 3"], count: int, unit: Float[np.ndarray, "3 J"], space: Space) -> None:
    """The angular part of every two neighbors and its derivative by the cosine; 0 for a neighbor with itself."""
    n_lanes = unit.shape[1]
    n_flat = count * n_lanes
    cosine, multiple, by_cosine = space.work[0, :n_flat], space.work[1, :n_flat], space.work[2, :n_flat]
    bracket, power, spare = space.work[3, :n_flat], space.work[4, :n_flat], space.work[5, :n_flat]
    _cosines(unit, count, cosine)
    half, last_zeta = parts.dtype.type(0.5), 0
    for index in range(len(parts)):
        lambda_, zeta, xi = parts[index]
        if zeta != last_zeta:
            _multiple_angle(cosine, int(zeta), multiple, by_cosine, bracket, power)
            last_zeta = zeta
        middle = half * lambda_
        for t in range(n_flat):
            bracket[t] = middle * multiple[t] + half
        _power(bracket, xi - parts.dtype.type(1), power, spare)
        scale = middle * xi
        for k in range(count):
            part, slope = space.part[k], space.slope[k]
            for j in range(n_lanes):
                t = k * n_lanes + j
                part[index * n_lanes + j] = power[t] * bracket[t]
                slope[index * n_lanes + j] = scale * power[t] * by_cosine[t]
            part[index * n_lanes + k] = 0
            slope[index * n_lanes + k] = 0


@compiled
def _cosines(unit: Float[np.ndarray, "3 J"], count: int, cosine: Float[np.ndarray, "n*J"]) -> None:
    n_lanes = unit.shape[1]
    ux, uy, uz = unit[0], unit[1], unit[2]
    for k in range(count):
        x, y, z = ux[k], uy[k], uz[k]
        row = cosine[k * n_lanes : (k + 1) * n_lanes]
        for j in range(n_lanes):
            row[j] = x * ux[j] + y * uy[j] + z * uz[j]


@compiled
def _multiple_angle(cosine: Flat, zeta: int, value: Flat, slope: Flat, below: Flat, slope_below: Flat) -> None:
    """`symmetry_formulas.multiple_angle`."""
    one = cosine.dtype.type(1)
    for t in range(len(cosine)):
        value[t] = cosine[t]
        slope[t] = one
        below[t] = one
        slope_below[t] = 0
    for _ in range(zeta - 1):
        for t in range(len(cosine)):
            twice = cosine[t] + cosine[t]
            above, slope_above = twice * value[t] - below[t], twice * slope[t] - slope_below[t]
            below[t], slope_below[t] = value[t], slope[t]
            value[t], slope[t] = above, slope_above
    if zeta > 1:
        factor = cosine.dtype.type(zeta)
        for t in range(len(cosine)):
            slope[t] *= factor


@compiled
def _power(x: Flat, exponent: float, out: Flat, square: Flat) -> None:
    """x^exponent, by squaring where the exponent is whole."""
    zero, one = x.dtype.type(0), x.dtype.type(1)
    if exponent != np.floor(exponent):
        for t in range(len(x)):
            out[t] = max(x[t], zero) ** exponent
        return
    for t in range(len(x)):
        out[t] = one
        square[t] = x[t]
    left = int(exponent)
    while left > 0:
        if left % 2:
            for t in range(len(x)):
                out[t] *= square[t]
        left //= 2
        if left:
            for t in range(len(x)):
                square[t] *= square[t]


@compiled
def tile(lanes: Flat, tiled: Flat) -> None:
    """Write a row of lanes over and over."""
    for first in range(0, len(tiled), len(lanes)):
        tiled[first : first + len(lanes)] = lanes


@compiled
def sum_over(first: int, last: int, unit: Float[np.ndarray, "3 J"], leg: Flat, space: Space) -> None:
    """W = sum_k r(R_ik) a and Q = sum_k r(R_ik) a' u_k over the neighbors of one kind, for every neighbor j."""
    w, x, y, z = space.sums[0], space.sums[1], space.sums[2], space.sums[3]
    space.sums[:] = 0
    for k in range(first, last):
        part, slope = space.part[k], space.slope[k]
        r, rx, ry, rz = leg[k], leg[k] * unit[0, k], leg[k] * unit[1, k], leg[k] * unit[2, k]
        for t in range(len(w)):
            w[t] += r * part[t]
        for t in range(len(w)):
            x[t] += rx * slope[t]
        for t in range(len(w)):
            y[t] += ry * slope[t]
        for t in range(len(w)):
            z[t] += rz * slope[t]


@compiled
def complete(tiled: Float[np.ndarray, "6 L*J"], sums: Float[np.ndarray, "4 L*J"]) -> None:
    """W and Q become r(R_ij) W and W r'(R_ij) u_j + r(R_ij)/R_ij (Q - (Q·u_j) u_j), as in `AngularGrid.evaluate`."""
    w, x, y, z = sums[0], sums[1], sums[2], sums[3]
    ux, uy, uz, leg, slope, across = tiled[0], tiled[1], tiled[2], tiled[3], tiled[4], tiled[5]
    for t in range(len(w)):
        qx, qy, qz = across[t] * x[t], across[t] * y[t], across[t] * z[t]
        stretch = w[t] * slope[t] - (qx * ux[t] + qy * uy[t] + qz * uz[t])
        w[t] *= leg[t]
        x[t] = qx + stretch * ux[t]
        y[t] = qy + stretch * uy[t]
        z[t] = qz + stretch * uz[t]
