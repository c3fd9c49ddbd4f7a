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
from jaxtyping import Bool, Float
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
N_SETTINGS = 6
"""Numbers that `CoRe.settings` tells."""


@dataclass(slots=True)
class _Group:
    """Tensors with a step count of their own; moments of all of them lie in one array each, at one address for ever."""

    parameters: list[Tensor]
    weight_decay: list[float]
    n_frozen: list[int]
    gradient: Float[Tensor, "T"]
    squared: Float[Tensor, "T"] | None
    step_size: Float[Tensor, "T"]
    score: Float[Tensor, "T"] | None
    arrays: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    n_steps: int = 0

    def moments(self) -> Iterator[tuple[str, list[Tensor]]]:
        """The state of each kind by name, in one order."""
        for name in ("gradient", "squared", "step_size", "score"):
            moment = getattr(self, name)
            yield name, [] if moment is None else self.parts(moment)

    def parts(self, moment: Float[Tensor, "T"]) -> list[Tensor]:
        """What an array holds of each parameter, in its shape."""
        parts = torch.split(moment, [parameter.numel() for parameter in self.parameters])
        return [part.view(parameter.shape) for part, parameter in zip(parts, self.parameters, strict=True)]

    @property
    def in_one_pass(self) -> bool:
        """Whether compiled code can make the step: on a CPU, where gradients are averaged and no scores are kept."""
        on_cpu = all(tensor.device.type == "cpu" for tensor in self.parameters)
        return on_cpu and self.squared is not None and self.score is None

    def flat(self) -> list[tuple[np.ndarray, ...]]:
        """Parameter, gradient, squared and step size of each tensor as flat arrays of the same memory."""
        moments = [of_one for name, of_one in self.moments() if name != "score"]
        return [tuple(_flat(tensor) for tensor in of_one) for of_one in zip(self.parameters, *moments, strict=True)]


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
        flat = torch.cat([tensor.detach().flatten() for tensor in parameters])
        shares = _repeated(frozen or [self._config.frozen], len(parameters))
        self._groups[key] = _Group(
            parameters=list(parameters),
            weight_decay=_repeated(weight_decay or [self._config.weight_decay], len(parameters)),
            n_frozen=[
                int(share * self._rows(tensor).shape[1]) for share, tensor in zip(shares, parameters, strict=True)
            ],
            gradient=torch.zeros_like(flat),
            squared=torch.zeros_like(flat) if self._config.betas[3] >= 0 else None,
            step_size=torch.full_like(flat, self._config.learning_rate),
            score=torch.zeros_like(flat) if self._config.score_history else None,
        )

    def n_steps(self, key: int) -> int:
        """Steps a group took part in."""
        return self._groups[key].n_steps

    @torch.no_grad()
    def rescale(self, key: int, index: int, factor: Tensor) -> None:
        """Take over that tensor `index` of a group was multiplied by `factor` where the loss stayed what it was."""
        group = self._groups[key]
        group.parts(group.gradient)[index].div_(factor)
        if group.squared is not None:
            group.parts(group.squared)[index].div_(factor.square())

    @torch.no_grad()
    def step(self, gradients: Mapping[int, Sequence[Tensor]]) -> None:
        """Change the parameters of the groups in `gradients` in place by one step each.

        Args:
            gradients: Gradient of the loss for each tensor of each group that takes part.
        """
        for key, raw in gradients.items():
            group = self._groups[key]
            if group.in_one_pass:
                self._step_in_one_pass(key, raw)
            else:
                settings = torch.tensor(self.settings(key), dtype=torch.float64).to(group.gradient)
                self.step_by_tensors(key, raw, settings, torch.ones_like(settings[0], dtype=torch.bool))
            self.count(key)

    def settings(self, key: int) -> tuple[float, ...]:
        """What the next step of a group depends on, besides its moments: `N_SETTINGS` numbers.

        beta_1, 1 - beta_1^n, 1 - beta_2^n, the smallest and the largest step size, and whether scores have a history.
        """
        group, n_steps = self._groups[key], self._groups[key].n_steps
        beta_a, beta_b, beta_c, beta_2 = self._config.betas
        beta_1 = beta_b + (beta_a - beta_b) * exp(-((n_steps / beta_c) ** 2))
        return (
            beta_1,
            1.0 - beta_1 ** (n_steps + 1),
            1.0 - beta_2 ** (n_steps + 1),
            *self._bounds(group),
            float(n_steps >= self._config.score_history),
        )

    def step_by_tensors(
        self, key: int, raw: Sequence[Tensor], settings: Float[Tensor, "6"], moves: Bool[Tensor, ""]
    ) -> None:
        """Change parameters and moments of a group in place by one step, which `count` is to count.

        Nothing is read from the device, so that a CUDA graph can hold the step.

        Args:
            key: Name of the group.
            raw: Gradient of the loss for each tensor.
            settings: What `settings` tells.
            moves: Whether anything changes at all; where not, gradients need not be finite.
        """
        group, beta_2 = self._groups[key], self._config.betas[3]
        beta_1, correction, squared_correction, smallest, largest, has_history = settings.unbind()
        slope = torch.cat([tensor.flatten() for tensor in raw])
        averaged = slope.lerp(group.gradient, beta_1)
        plasticity, score = self._plasticity(group, has_history > 0)
        step_size = group.step_size * self._factors(averaged * group.gradient * plasticity)
        step_size = step_size.clamp(smallest, largest)
        squared = None
        if group.squared is None:
            update = averaged.sign()
        else:
            squared = (group.squared * beta_2).addcmul_(slope, slope, value=1.0 - beta_2)
            update = (averaged / correction).div_((squared / squared_correction).sqrt_().add_(EPSILON))
        update.mul_(step_size).mul_(plasticity)
        if score is not None:
            score = score.addcmul(averaged, update, value=1.0 / self._config.score_history)
        moments = (group.gradient, group.squared, group.step_size, group.score)
        for moment, moved in zip(moments, (averaged, squared, step_size, score), strict=True):
            if moment is not None and moved is not None:
                torch.where(moves, moved, moment, out=moment)
        changes = group.parts(update.masked_fill_(~moves, 0))
        decays = torch._foreach_abs(changes)
        torch._foreach_mul_(decays, [-decay for decay in group.weight_decay])
        torch._foreach_mul_(decays, group.parameters)
        torch._foreach_add_(group.parameters, decays)
        torch._foreach_sub_(group.parameters, changes)

    def count(self, key: int) -> None:
        """Take note that a group took part in a step."""
        self._groups[key].n_steps += 1

    def _step_in_one_pass(self, key: int, raw: Sequence[Tensor]) -> None:
        group, beta_2 = self._groups[key], self._config.betas[3]
        beta_1, correction, squared_correction, smallest, largest, _ = self.settings(key)
        corrections = (1.0 / correction, 1.0 / squared_correction)
        shared = (beta_1, beta_2, *corrections, *self._config.etas, smallest, largest, EPSILON)
        arrays = group.arrays = group.arrays or group.flat()
        settings = {decay: np.array([*shared, decay], dtype=arrays[0][0].dtype) for decay in set(group.weight_decay)}
        for slope, decay, (parameter, gradient, squared, step_size) in zip(
            raw, group.weight_decay, arrays, strict=True
        ):
            core_kernel.step(parameter, _flat(slope.contiguous()), gradient, squared, step_size, settings[decay])

    def _plasticity(
        self, group: _Group, has_history: Bool[Tensor, ""]
    ) -> tuple[Float[Tensor, "T"] | float, Float[Tensor, "T"] | None]:
        """Factors P, 0 for the highest-scored weights and 1 elsewhere and without a history; and faded scores."""
        if group.score is None or not any(group.n_frozen):
            return 1.0, group.score
        factors, scores = [], []
        for score, n_frozen in zip(group.parts(group.score), group.n_frozen, strict=True):
            factor, faded = torch.ones_like(score), score
            if n_frozen:
                rows = self._rows(score)
                threshold = TOP_SCORE_TOLERANCE * rows.topk(n_frozen, dim=1).values[:, -1:]
                factor = (rows < threshold).to(score.dtype)
                faded = score * (1.0 - 1.0 / self._config.score_history)
            factors.append(factor.flatten())
            scores.append(faded.flatten())
        plasticity = torch.where(has_history, torch.cat(factors), 1)
        return plasticity, torch.where(has_history, torch.cat(scores), group.score)

    def _factors(self, agreement: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
        """What step sizes are multiplied by, by whether a gradient agrees with those before."""
        eta_minus, eta_plus = self._config.etas
        rises, falls = agreement > 0, agreement < 0
        return agreement.fill_(1.0).masked_fill_(rises, eta_plus).masked_fill_(falls, eta_minus)

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
