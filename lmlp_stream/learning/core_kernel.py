"""One step of CoRe for one tensor in a single pass over its numbers, compiled for the CPU."""

import numpy as np
from jaxtyping import Float

from lmlp_stream.atoms.compiled import compiled

Flat = Float[np.ndarray, "T"]


@compiled
def step(
    parameter: Flat,
    raw: Flat,
    gradient: Flat,
    squared: Flat,
    step_size: Flat,
    settings: Float[np.ndarray, "10"],
) -> None:
    """Change a parameter and its moments in place by one step without plasticity.

    Eckhoff & Reiher 2024 (doi 10.1088/2632-2153/ad1f76), eqs. 1-11, in the order of `CoRe.step_by_tensors`.

    Args:
        parameter: What is optimized.
        raw: Gradient of the loss.
        gradient: Average of the gradients.
        squared: Average of their squares.
        step_size: Size of the next step of each number.
        settings: beta_1, beta_2, 1 / (1 - beta_1^n), 1 / (1 - beta_2^n), eta_minus, eta_plus, smallest and largest step
            size, epsilon, decay; in the precision of the parameter.
    """
    beta_1, beta_2, correction, squared_correction = settings[0], settings[1], settings[2], settings[3]
    eta_minus, eta_plus, smallest, largest = settings[4], settings[5], settings[6], settings[7]
    epsilon, decay = settings[8], settings[9]
    zero, one = settings.dtype.type(0), settings.dtype.type(1)
    for t in range(len(parameter)):
        now, before = raw[t], gradient[t]
        averaged = now + beta_1 * (before - now)
        square = beta_2 * squared[t] + (one - beta_2) * now * now
        agreement = averaged * before
        factor = eta_plus if agreement > zero else (eta_minus if agreement < zero else one)
        size = min(max(step_size[t] * factor, smallest), largest)
        update = size * (averaged * correction) / (np.sqrt(square * squared_correction) + epsilon)
        gradient[t], squared[t], step_size[t] = averaged, square, size
        parameter[t] = parameter[t] - decay * abs(update) * parameter[t] - update
