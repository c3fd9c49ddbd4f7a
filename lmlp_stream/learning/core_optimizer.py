"""CoRe, the continual resilient optimizer, over groups of tensors that may be added while it runs.

Eckhoff & Reiher, Mach. Learn.: Sci. Technol. 5, 015018 (2024), doi 10.1088/2632-2153/ad1f76, eqs. 1-11. Each step
equals that of the authors' package `core-optimizer` 1.1.0 in double precision.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from math import exp, sqrt

import numpy as np
import torch
from torch import Tensor

from lmlp_stream.config import CoreConfig
from lmlp_stream.errors import ConfigError
from lmlp_stream.learning import core_kernel

EPSILON = 1e-8
"""Added to the denominator of the update (authors' default)."""
SETTLED_SHARE = 0.1
"""The largest step size of a settled group falls to this share of the configured one."""
TOP_SCORE_TOLERANCE = 0.999999
"""A score this close to the k-th highest counts as among the k highest (authors' code)."""


@dataclass(slots=True)
class _Group:
    parameters: list[Tensor]
    weight_decay: list[float]
    n_frozen: list[int]
    gradient: list[Tensor]
    squared: list[Tensor]
    step_size: list[Tensor]
    score: list[Tensor]
    arrays: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    n_steps: int = 0

    def moments(self) -> Iterator[tuple[str, list[Tensor]]]:
        """The state of each kind by name, in one order."""
        yield "gradient", self.gradient
        yield "squared", self.squared
        yield "step_size", self.step_size
        yield "score", self.score

    @property
    def in_one_pass(self) -> bool:
        """Whether compiled code can make the step: on a CPU, where gradients are averaged and no scores are kept."""
        on_cpu = all(tensor.device.type == "cpu" for tensor in self.parameters)
        return on_cpu and bool(self.squared) and not self.score

    def flat(self) -> list[tuple[np.ndarray, ...]]:
        """Parameter, gradient, squared and step size of each tensor as flat arrays of the same memory."""
        tensors = zip(self.parameters, self.gradient, self.squared, self.step_size, strict=True)
        return [tuple(_flat(tensor) for tensor in of_one) for of_one in tensors]


class CoRe:
    """The optimizer; a group is a list of tensors with one step count of its own.

    Args:
        config: Step sizes, etas, betas, weight decay, score history and frozen share.
        independent_axes: 1 where the first axis of every tensor counts independent models, so that the frozen share
            is taken within each; 0 as in the authors' package.

    Raises:
        ConfigError: A setting is outside its range.
    """

    def __init__(self, config: CoreConfig, *, independent_axes: int = 0) -> None:
        _check(config)
        self._config = config
        self._independent_axes = independent_axes
        self._groups: dict[int, _Group] = {}

    def add_group(
        self,
        key: int,
        parameters: Sequence[Tensor],
        *,
        weight_decay: Sequence[float] = (),
        frozen: Sequence[float] = (),
    ) -> None:
        """Optimize `parameters` under `key` from now on.

        Args:
            key: Name of the group; a group whose key is absent from a step is not touched by it.
            parameters: Tensors changed in place by `step`.
            weight_decay: Decay of each tensor, repeated cyclically; empty: the configured one.
            frozen: Share of frozen weights of each tensor, repeated cyclically; empty: the configured one.
        """
        if key in self._groups:
            raise ValueError(f"group {key} exists")
        history = self._config.score_history > 0
        shares = _repeated(frozen or [self._config.frozen], len(parameters))
        self._groups[key] = _Group(
            parameters=list(parameters),
            weight_decay=_repeated(weight_decay or [self._config.weight_decay], len(parameters)),
            n_frozen=[
                int(share * self._rows(tensor).shape[1]) for share, tensor in zip(shares, parameters, strict=True)
            ],
            gradient=[torch.zeros_like(tensor) for tensor in parameters],
            squared=[torch.zeros_like(tensor) for tensor in parameters] if self._config.betas[3] >= 0 else [],
            step_size=[torch.full_like(tensor, self._config.learning_rate) for tensor in parameters],
            score=[torch.zeros_like(tensor) for tensor in parameters] if history else [],
        )

    def n_steps(self, key: int) -> int:
        """Steps a group took part in."""
        return self._groups[key].n_steps

    @torch.no_grad()
    def rescale(self, key: int, index: int, factor: Tensor) -> None:
        """Take over that tensor `index` of a group was multiplied by `factor` where the loss stayed what it was."""
        group = self._groups[key]
        group.gradient[index].div_(factor)
        if group.squared:
            group.squared[index].div_(factor.square())

    @torch.no_grad()
    def step(self, gradients: Mapping[int, Sequence[Tensor]]) -> None:
        """Change the parameters of the groups in `gradients` in place by one step each.

        Args:
            gradients: Gradient of the loss for each tensor of each group that takes part.
        """
        for key, raw in gradients.items():
            self._step_group(self._groups[key], list(raw))

    def _step_group(self, group: _Group, raw: list[Tensor]) -> None:
        beta_a, beta_b, beta_c, _ = self._config.betas
        beta_1 = beta_b + (beta_a - beta_b) * exp(-((group.n_steps / beta_c) ** 2))
        if group.in_one_pass:
            self._step_in_one_pass(group, raw, beta_1)
        else:
            self._step_by_tensors(group, raw, beta_1)
        group.n_steps += 1

    def _step_in_one_pass(self, group: _Group, raw: list[Tensor], beta_1: float) -> None:
        beta_2, n_steps = self._config.betas[3], group.n_steps + 1
        corrections = (1.0 / (1.0 - beta_1**n_steps), 1.0 / (1.0 - beta_2**n_steps))
        shared = (beta_1, beta_2, *corrections, *self._config.etas, *self._bounds(group), EPSILON)
        arrays = group.arrays = group.arrays or group.flat()
        settings = {decay: np.array([*shared, decay], dtype=arrays[0][0].dtype) for decay in set(group.weight_decay)}
        for slope, decay, (parameter, gradient, squared, step_size) in zip(
            raw, group.weight_decay, arrays, strict=True
        ):
            core_kernel.step(parameter, _flat(slope.contiguous()), gradient, squared, step_size, settings[decay])

    def _step_by_tensors(self, group: _Group, raw: list[Tensor], beta_1: float) -> None:
        beta_2 = self._config.betas[3]
        if beta_2 >= 0:
            torch._foreach_mul_(group.squared, beta_2)
            torch._foreach_addcmul_(group.squared, raw, raw, value=1.0 - beta_2)
        averaged = list(torch._foreach_lerp(raw, group.gradient, beta_1))
        plasticity = self._plasticity(group)
        self._adapt_step_sizes(group, averaged, plasticity)
        update = _direction(group, averaged, beta_1, beta_2)
        torch._foreach_mul_(update, group.step_size)
        if plasticity:
            torch._foreach_mul_(update, plasticity)
        if group.score:
            torch._foreach_addcmul_(group.score, averaged, update, value=1.0 / self._config.score_history)
        for parameter, change, decay in zip(group.parameters, update, group.weight_decay, strict=True):
            if decay > 0:
                parameter.add_(change.abs().mul_(-decay).mul_(parameter))
        torch._foreach_sub_(group.parameters, update)
        group.gradient = averaged

    def _plasticity(self, group: _Group) -> list[Tensor]:
        """Factors P, 0 for the highest-scored weights and 1 elsewhere; empty while all are 1."""
        history = self._config.score_history
        if not history or group.n_steps < history or not any(group.n_frozen):
            return []
        factors = []
        for score, n_frozen in zip(group.score, group.n_frozen, strict=True):
            if n_frozen == 0:
                factors.append(torch.ones_like(score))
                continue
            rows = self._rows(score)
            threshold = TOP_SCORE_TOLERANCE * rows.topk(n_frozen, dim=1).values[:, -1:]
            factors.append((rows < threshold).to(score.dtype).reshape(score.shape))
            score.mul_(1.0 - 1.0 / history)
        return factors

    def _adapt_step_sizes(self, group: _Group, averaged: list[Tensor], plasticity: list[Tensor]) -> None:
        agreement = list(torch._foreach_mul(averaged, group.gradient))
        if plasticity:
            torch._foreach_mul_(agreement, plasticity)
        eta_minus, eta_plus = self._config.etas
        for factor in agreement:
            rises, falls = factor > 0, factor < 0
            factor.fill_(1.0).masked_fill_(rises, eta_plus).masked_fill_(falls, eta_minus)
        torch._foreach_mul_(group.step_size, agreement)
        smallest, largest = self._bounds(group)
        torch._foreach_clamp_min_(group.step_size, smallest)
        torch._foreach_clamp_max_(group.step_size, largest)

    def _bounds(self, group: _Group) -> tuple[float, float]:
        """Smallest and largest step size of a group now; the largest falls once it has settled (our extension).

        Steps that fall as one over the root of their number average out noise (Robbins & Monro 1951,
        doi 10.1214/aoms/1177729586). They stop at a share of the largest: a stream never ends, and what it brings late
        is to be learned as well.
        """
        smallest, largest = self._config.step_sizes
        settling = self._config.settling_steps
        if settling and group.n_steps > settling:
            largest = max(smallest, largest * max(SETTLED_SHARE, sqrt(settling / group.n_steps)))
        return smallest, largest

    def _rows(self, tensor: Tensor) -> Tensor:
        return tensor.reshape(tensor.shape[0] if self._independent_axes else 1, -1)

    def state_dict(self) -> dict[str, Tensor]:
        """Step counts and moments of every group as `<key>.n_steps` and `<key>.<tensor>.<moment>` (not copied)."""
        state: dict[str, Tensor] = {}
        for key, group in self._groups.items():
            state[f"{key}.n_steps"] = torch.tensor(group.n_steps, dtype=torch.int64)
            for moment, tensors in group.moments():
                state |= {f"{key}.{index}.{moment}": tensor for index, tensor in enumerate(tensors)}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over the state of another optimizer; the same groups must have been added.

        Raises:
            KeyError: A group of this optimizer is not in the state.
        """
        for key, group in self._groups.items():
            group.n_steps = int(state[f"{key}.n_steps"])
            for moment, tensors in group.moments():
                for index, tensor in enumerate(tensors):
                    tensor.copy_(state[f"{key}.{index}.{moment}"])


def _direction(group: _Group, averaged: list[Tensor], beta_1: float, beta_2: float) -> list[Tensor]:
    """Update u before step sizes: bias-corrected as in Adam, or the sign alone where beta_2 < 0."""
    if beta_2 < 0:
        return [tensor.sign() for tensor in averaged]
    update = list(torch._foreach_div(averaged, 1.0 - beta_1 ** (group.n_steps + 1)))
    spread = list(torch._foreach_div(group.squared, 1.0 - beta_2 ** (group.n_steps + 1)))
    torch._foreach_sqrt_(spread)
    torch._foreach_add_(spread, EPSILON)
    torch._foreach_div_(update, spread)
    return update


def _flat(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().view(-1).numpy()
    return array


def _repeated(values: Sequence[float], length: int) -> list[float]:
    return list(islice(cycle(values), length))


def _check(config: CoreConfig) -> None:
    smallest, largest = config.step_sizes
    if smallest > largest:
        raise ConfigError(f"core.step_sizes = {config.step_sizes}: the first must not exceed the second")
    eta_minus, eta_plus = config.etas
    if not eta_minus <= 1.0 <= eta_plus:
        raise ConfigError(f"core.etas = {config.etas}: the first must be at most 1 and the second at least 1")
    beta_a, beta_b, beta_c, beta_2 = config.betas
    if not (0.0 <= beta_a < 1.0 and 0.0 <= beta_b < 1.0 and beta_c > 0.0 and beta_2 < 1.0):
        raise ConfigError(f"core.betas = {config.betas}: beta1a and beta1b in [0, 1), beta1c above 0, beta2 below 1")
