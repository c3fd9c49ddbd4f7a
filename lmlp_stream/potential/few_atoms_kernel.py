"""Networks and linear part of one element for few atoms, forth and back at once, compiled for the CPU.

What is one call here would be some thirty tensor operations, which take longer to call than to compute. Members come
one after the other, so that their weights are still in the cache on the way back. Axes: M members, n atoms, D symmetry
functions, o neurons of a layer and i of the one before, F random features, U of them that members differ in.
"""

import numpy as np
from jaxtyping import Float

from lmlp_stream.atoms.compiled import compiled
from lmlp_stream.potential.rows_kernel import product, product_with_rows
from lmlp_stream.potential.tanh_kernel import tanh_of_half

Flat = Float[np.ndarray, "T"]


@compiled
def networks(
    values: Float[np.ndarray, "n D"],
    center: Float[np.ndarray, "D"],
    weights: tuple[Float[np.ndarray, "M i o"], ...],
    biases: tuple[Float[np.ndarray, "M 1 o"], ...],
    energies: Float[np.ndarray, "n M"],
    gradients: Float[np.ndarray, "n M D"],
) -> None:
    """Write what `network.forth_and_back` does for a folded network: atomic energies and their derivatives by G."""
    n_atoms, n_hidden, widest = len(values), len(weights) - 1, 0
    for weight in weights:
        widest = max(widest, weight.shape[2])
    inputs, dtype = values - center, values.dtype.type
    room = np.empty((n_hidden, n_atoms * widest), values.dtype)
    slopes = np.empty((2, n_atoms * widest), values.dtype)
    power = np.empty(n_atoms * widest, values.dtype)
    for m in range(energies.shape[1]):
        left = inputs
        for layer in range(n_hidden):
            weight = weights[layer][m]
            hidden = _matrix(room[layer], n_atoms, weight.shape[1])
            product(left, weight, hidden)
            _activate(hidden, biases[layer][m, 0], power)
            left = hidden
        last, bias = weights[n_hidden][m, :, 0], biases[n_hidden][m, 0, 0]
        slope = _matrix(slopes[n_hidden % 2], n_atoms, len(last))
        for i in range(n_atoms):
            energies[i, m] = bias
            for t in range(len(last)):
                energies[i, m] += left[i, t] * last[t]
                slope[i, t] = last[t] * (dtype(1) - left[i, t] * left[i, t])
        for layer in range(n_hidden - 1, 0, -1):
            weight = weights[layer][m]
            hidden = _matrix(room[layer - 1], n_atoms, len(weight))
            before = _matrix(slopes[layer % 2], n_atoms, len(weight))
            product_with_rows(slope, weight, before)
            for i in range(n_atoms):
                for t in range(len(weight)):
                    before[i, t] *= dtype(1) - hidden[i, t] * hidden[i, t]
            slope = before
        product_with_rows(slope, weights[0][m], gradients[:, m])


@compiled
def linear(
    values: Float[np.ndarray, "n D"],
    directions: Float[np.ndarray, "D F"],
    offsets: Float[np.ndarray, "F"],
    coefficients: Float[np.ndarray, "F"],
    deviations: Float[np.ndarray, "U M"],
    share: float,
    member_energies: Float[np.ndarray, "n M"],
    member_gradients: Float[np.ndarray, "n M D"],
    energies: Float[np.ndarray, "n"],
    gradients: Float[np.ndarray, "n D"],
) -> None:
    """Add a share of what members differ by; write atomic energies of the linear part and their derivatives by G.

    What `linear.Features` does in `evaluate`, `deviate` and `energies`.
    """
    (n_atoms, n_functions), n_features, dtype = values.shape, len(offsets), values.dtype.type
    (n_deviating, n_members), share = deviations.shape, dtype(share)
    features = np.empty((n_atoms, n_features), values.dtype)
    product(values, directions, features)
    _activate(features, offsets, np.empty(features.size, values.dtype))
    slope = np.empty((n_atoms, n_features), values.dtype)
    apart = np.ascontiguousarray(deviations.T)
    deviating = np.empty((n_members, n_deviating), values.dtype)
    change = np.empty((n_members, n_functions), values.dtype)
    for i in range(n_atoms):
        total = dtype(0)
        for t in range(n_features):
            total += coefficients[t] * features[i, t]
            slope[i, t] = coefficients[t] * (dtype(1) - features[i, t] * features[i, t])
        energies[i] = total
        for m in range(n_members):
            total = dtype(0)
            for t in range(n_deviating):
                weight = share * apart[m, t]
                total += weight * features[i, t]
                deviating[m, t] = weight * (dtype(1) - features[i, t] * features[i, t])
            member_energies[i, m] += total
        product_with_rows(deviating, directions, change)
        for m in range(n_members):
            for d in range(n_functions):
                member_gradients[i, m, d] += change[m, d]
    product_with_rows(slope, directions, gradients)


@compiled
def excess(
    values: Float[np.ndarray, "n D"],
    lowest: Float[np.ndarray, "D"],
    highest: Float[np.ndarray, "D"],
    margin: float,
    least_margin: float,
    beyond: Float[np.ndarray, "n"],
    gradients: Float[np.ndarray, "n D"],
) -> None:
    """Write what `linear.excess` gives: how far atoms are beyond a range, and the derivatives by G."""
    dtype = values.dtype.type
    margin, least_margin, zero, four = dtype(margin), dtype(least_margin), dtype(0), dtype(4)
    for i in range(len(values)):
        total = zero
        for d in range(values.shape[1]):
            unit = margin * (highest[d] - lowest[d]) + least_margin
            apart = (max(values[i, d] - highest[d], zero) + min(values[i, d] - lowest[d], zero)) / unit
            total += apart * apart * apart * apart
            gradients[i, d] = four * apart * apart * apart / unit
        beyond[i] = total


@compiled
def _matrix(room: Flat, n_rows: int, n_columns: int) -> Float[np.ndarray, "R W"]:
    return room[: n_rows * n_columns].reshape(n_rows, n_columns)


@compiled
def _activate(arguments: Float[np.ndarray, "n o"], bias: Float[np.ndarray, "o"], power: Flat) -> None:
    """The tanh of arguments and bias, in place."""
    two = arguments.dtype.type(2)
    for i in range(len(arguments)):
        row = arguments[i]
        for t in range(len(bias)):
            row[t] = two * (row[t] + bias[t])
    tanh_of_half(arguments.reshape(arguments.size), power)
