"""The potential in training: ensemble, loss and optimizer; one step at a time."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf, isinf

import numpy as np
import torch
from torch import Tensor

from lmlp_stream.atoms.batch import Batch
from lmlp_stream.atoms.elements import ATOMIC_NUMBERS, SYMBOLS
from lmlp_stream.atoms.symmetry import SymmetryFunctions, spec_of
from lmlp_stream.config import Config
from lmlp_stream.errors import ConfigError, DivergedError
from lmlp_stream.learning.columns import in_room
from lmlp_stream.learning.core_optimizer import CoRe
from lmlp_stream.learning.loss import loss
from lmlp_stream.learning.reservoir import lot
from lmlp_stream.learning.ridge import Ridge, fitting
from lmlp_stream.learning.share import FittedShare
from lmlp_stream.learning.standardisation import Atoms
from lmlp_stream.potential.baseline import Baseline
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.potential.linear import Features, LinearPart, relevance_of
from lmlp_stream.potential.network import standardised_to

AVERAGED_SHARE = 0.1
"""Averaged weights span at most this share of an element's steps, so that the first ones are soon forgotten."""
EXPLODED = 1e4
"""A structure whose loss is this many times the usual one explodes: its gradient would outweigh all others for long."""
LEAST_USUAL = 0.03
"""Usual losses count as at least this large; with the default weights, that of force errors of 0.17 eV/Å."""
USUAL_SHARE = 0.05
"""How far the usual loss moves towards the median of each micro-batch."""


@dataclass(frozen=True, slots=True, eq=False)
class StepReport:
    """One optimizer step: the weighted terms of the loss, averaged over members.

    Attributes:
        energy_loss: Of the micro-batch.
        force_loss: Of the micro-batch.
        losses: Loss of each structure of the micro-batch alone, both terms together [S].
    """

    energy_loss: float
    force_loss: float
    losses: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class _Attempt:
    """The loss of a micro-batch, its gradients by atomic number, and its report; nothing was changed yet."""

    total: Tensor
    gradients: dict[int, list[Tensor]]
    report: StepReport


class Trainer:
    """An ensemble in training, its optimizer, and the average of its newest weights.

    Attributes:
        functions: Symmetry functions of the configuration.
        ensemble: The potential for everybody else: weights averaged over the newest steps of each element (Polyak &
            Juditsky 1992, doi 10.1137/0330046; exponential as in Kingma & Ba 2015, section 7.2, arXiv:1412.6980),
            blended with the linear part.
    """

    def __init__(self, config: Config) -> None:
        dtype = getattr(torch, config.potential.dtype)
        device = _device(config.potential.device)
        spec = spec_of(config.symmetry)
        self._config = config
        self.functions = SymmetryFunctions(spec, dtype, device)
        baseline = Baseline(_atomic_energies(config))
        self._training, self.ensemble = (
            Ensemble(
                spec,
                hidden=config.potential.hidden,
                members=config.potential.members,
                dtype=dtype,
                device=device,
                baseline=baseline,
            )
            for _ in range(2)
        )
        self._ridge = Ridge(config.learning)
        self._share = FittedShare(config.potential.linear_share)
        if _has_linear_part(config):
            self.ensemble.linear = LinearPart()
        self._optimizer = CoRe(config.core, independent_axes=1)
        self._usual = inf
        self._atoms: dict[int, Atoms] = {}

    def add_elements(self, batch: Batch) -> tuple[int, ...]:
        """The elements of a batch that were unknown; each has networks and features now.

        They are drawn from (seed, atomic number), features by the relevance that is known by then. Networks begin at
        the median energy per atom above the baseline, so that given energies of free atoms leave them no binding energy
        to learn first; the linear part expects the same of every atom.
        """
        energy = _above_baseline(self.ensemble.baseline, batch)
        added = tuple(z for z in batch.atoms_of if not self.ensemble.covers([z]))
        for z in added:
            self._training.add_element(z, batch.values[batch.atoms_of[z]], self._random("element", z), energy)
            copies = {name: parameter.detach().clone() for name, parameter in self._training.parameters[z].items()}
            self.ensemble.parameters = dict(sorted({**self.ensemble.parameters, z: copies}.items()))
            self._optimize(z)
            self._atoms[z] = Atoms.of(batch.values[batch.atoms_of[z]])
            self._draw_features(z, batch.values[batch.atoms_of[z]], energy)
        return added

    def absorb(self, batch: Batch) -> None:
        """Let the linear part learn a batch; `fit` makes it count."""
        self._add_to_ridge(batch, sign=1)
        if self.ensemble.linear is not None:
            features = self.ensemble.linear.features
            for z, some in batch.atoms_of.items():
                features[z] = features[z].covering(batch.values[some])

    def release(self, batch: Batch) -> None:
        """Take back what the linear part absorbed of a batch; `fit` makes it count."""
        self._add_to_ridge(batch, sign=-1)

    def fit(self, elements: Iterable[int], *, at_once: bool = False) -> None:
        """Fit the linear part to all that it absorbed.

        Fitting everything is costly where there are many elements: it waits until enough has come. In between the
        coefficients of some elements are fitted, the others staying what they are.

        Args:
            elements: Atomic numbers of what came.
            at_once: Whether everything is fitted whatever has come.
        """
        linear = self.ensemble.linear
        if linear is None:
            return
        coefficients = {z: features.coefficients for z, features in linear.features.items()}
        everything = at_once or self._ridge.due()
        chosen = set(linear.features) if everything else set(elements)
        if not everything and 2 * len(chosen) > len(linear.features):
            return
        for z, found in self._ridge.solve(chosen, coefficients).items():
            linear.features[z] = linear.features[z].with_coefficients(found)
        if everything:
            draws = {z: self._draws(z, features) for z, features in linear.features.items()}
            for z, sampled in self._ridge.deviations(draws).items():
                linear.features[z] = linear.features[z].with_deviations(sampled)
        if linear.is_fitted:
            linear.share = self._share.value

    @torch.no_grad()
    def weigh(self, some: Iterable[tuple[Sequence[str], Batch]], held_out: Collection[str]) -> None:
        """Let the linear part count as much as is best for what is held out, as `FittedShare` says.

        Args:
            some: Ids and structures that are looked at now.
            held_out: Ids of all that are held out.
        """
        linear = self.ensemble.linear
        if linear is None or not linear.is_fitted:
            return
        networks = self.ensemble.folded(networks_alone=True)
        alone = replace(networks, linear=LinearPart(1.0, linear.features))
        for ids, batch in some:
            errors = [(part.predict(batch).mean_forces - batch.forces).cpu().numpy() for part in (networks, alone)]
            ends = batch.n_atoms.cumsum(dim=0)[:-1].cpu().numpy()
            for id_, *of_parts in zip(ids, *(np.split(of_part, ends) for of_part in errors), strict=True):
                self._share.add(id_, *of_parts)
        self._share.keep(held_out)
        linear.share = self._share.value

    def is_ripe(self, n_remembered: int, capacity: int, n_coming: int) -> bool:
        """Whether it is time to `redraw`, as `Ridge.ripe` says."""
        return self.ensemble.linear is not None and self._ridge.ripe(n_remembered, capacity, n_coming)

    @torch.no_grad()
    def redraw(self, remembered: Callable[[], Iterable[Batch]]) -> None:
        """Draw the features again by the relevance of each symmetry function, and let them learn what is remembered.

        Args:
            remembered: Gives everything that was absorbed and not released.
        """
        linear = self.ensemble.linear
        if linear is None:
            return
        squares = {z: torch.zeros_like(self._atoms[z].mean) for z in linear.features}
        for batch in remembered():
            for z, some in batch.atoms_of.items():
                features = linear.features[z]
                slopes = features.energies(*features.evaluate(batch.values[some]))[1]
                squares[z] += slopes.double().square().sum(dim=0).cpu()
        found = {z: relevance_of(sums, self._atoms[z].spread) for z, sums in squares.items() if sums.any()}
        usual = _usual(found.values()) if found else None
        for z, atoms in self._atoms.items():
            mean = atoms.mean.to(linear.features[z].offsets)[None]
            linear.features[z] = self._features(z, mean, linear.n_features, found.get(z, usual))
        self._ridge = Ridge(self._config.learning, self._ridge.expected, is_redrawn=True)
        self._share = FittedShare(self._config.potential.linear_share)
        for batch in remembered():
            self.absorb(batch)
        self.fit((), at_once=True)

    @torch.no_grad()
    def follow(self, batch: Batch) -> None:
        """Take the atoms of a batch into account where symmetry functions are standardised; no prediction changes.

        An element is standardised again whenever its atoms have doubled in number, so that it does not matter in how
        few of them it came first.
        """
        for z, some in batch.atoms_of.items():
            if z not in self._atoms:
                continue
            self._atoms[z] = atoms = self._atoms[z].joined(Atoms.of(batch.values[some]))
            if atoms.n < 2 * atoms.n_standardised:
                continue
            self._atoms[z] = replace(atoms, n_standardised=atoms.n)
            for parameters in (self.ensemble.parameters[z], self._training.parameters[z]):
                changed, factor = standardised_to(parameters, atoms.mean, atoms.spread)
                for name, tensor in changed.items():
                    parameters[name].copy_(tensor)
            self._optimizer.rescale(z, list(parameters).index("weight_0"), factor)

    def step(self, batch: Batch) -> StepReport:
        """Lower the loss of a micro-batch by one optimizer step.

        Everything is checked before a weight changes, so there is nothing to undo. A step that passes leaves finite
        weights: squares of the gradient are finite, and CoRe bounds the change of a weight by its step size.

        Raises:
            DivergedError: The loss explodes, or loss or gradient is not finite; nothing has changed.
        """
        attempt = self._attempt(batch)
        report = attempt.report
        if not self._sound(attempt):
            raise DivergedError(
                f"the loss (energy {report.energy_loss:g}, force {report.force_loss:g}) or its gradient is not finite "
                "or explodes; resume from the last checkpoint with a smaller core.step_sizes maximum"
            )
        median = float(np.median(report.losses))
        self._usual = median if isinf(self._usual) else self._usual + USUAL_SHARE * (median - self._usual)
        self._optimizer.step(attempt.gradients)
        for z in attempt.gradients:
            self._average(z, list(self._training.parameters[z].values()))
        return report

    def sound(self, batch: Batch) -> bool:
        """Whether `step` would accept the micro-batch; nothing changes."""
        return self._sound(self._attempt(batch))

    def _draw_features(self, z: int, values: Tensor, energy: float) -> None:
        linear = self.ensemble.linear
        if linear is None:
            return
        n_features = fitting(self._config.potential.linear_features, len(linear.features) + 1)
        if linear.features and n_features < linear.n_features:
            self._ridge.keep(n_features)
            linear.features = {known: features.first(n_features) for known, features in linear.features.items()}
        relevance = None
        if self._ridge.is_redrawn:
            relevance = _usual([features.relevance for features in linear.features.values()])
        drawn = self._features(z, values, n_features, relevance)
        linear.features = dict(sorted({**linear.features, z: drawn}.items()))
        self._ridge.expected[z] = energy

    def _features(self, z: int, values: Tensor, n_features: int, relevance: Tensor | None) -> Features:
        members = self._config.potential.members
        return Features.drawn(values, n_features, self._random("features", z), relevance, members=members)

    def _draws(self, z: int, features: Features) -> Tensor:
        """Standard normal numbers for each coefficient that members have of their own, less their mean over members."""
        draws = torch.randn(features.deviations.shape, generator=self._random("deviations", z), dtype=torch.float64)
        return draws - draws.mean(dim=1, keepdim=True)

    def _random(self, what: str, z: int) -> torch.Generator:
        return torch.Generator().manual_seed(lot(f"{self._config.seed}/{what}", str(z)) % 2**63)

    def _add_to_ridge(self, batch: Batch, sign: int) -> None:
        if self.ensemble.linear is not None:
            above = batch.energy - self.ensemble.baseline.energy(batch.composition)
            self._ridge.add(batch, above, self.ensemble.linear.features, sign)

    def _attempt(self, batch: Batch) -> _Attempt:
        learning = self._config.learning
        groups = {z: list(self._training.parameters[z].values()) for z in batch.atoms_of}
        value = loss(
            self._training.evaluate(batch),
            batch,
            energy_weight=learning.energy_weight,
            force_weight=learning.force_weight,
        )
        gradients = iter(torch.autograd.grad(value.total, [tensor for group in groups.values() for tensor in group]))
        report = StepReport(
            energy_loss=float(value.energy), force_loss=float(value.force), losses=value.by_structure.cpu().numpy()
        )
        return _Attempt(
            value.total.detach(), {z: [next(gradients) for _ in group] for z, group in groups.items()}, report
        )

    def _sound(self, attempt: _Attempt) -> bool:
        norms = torch._foreach_norm([gradient for group in attempt.gradients.values() for gradient in group])
        squares = torch.stack(norms).square().sum()
        limit = EXPLODED * max(self._usual, LEAST_USUAL)
        return bool(torch.isfinite(attempt.total + squares)) and bool((attempt.report.losses <= limit).all())

    @torch.no_grad()
    def _average(self, z: int, group: list[Tensor]) -> None:
        """Move the averaged weights towards the newest: the mean spans a tenth of the steps, then a fixed number."""
        n_steps, span = self._optimizer.n_steps(z), self._config.learning.averaged_steps
        share = 1.0 / max(1.0, min(AVERAGED_SHARE * n_steps, span))
        torch._foreach_lerp_(list(self.ensemble.parameters[z].values()), group, share)

    def finite(self) -> bool:
        """Whether every weight and coefficient is a finite number."""
        weights = [tensor for group in self._training.parameters.values() for tensor in group.values()]
        weights += [tensor for group in self.ensemble.parameters.values() for tensor in group.values()]
        if self.ensemble.linear is not None:
            for features in self.ensemble.linear.features.values():
                weights += [features.coefficients, features.deviations]
        return not weights or bool(torch.isfinite(torch.stack(torch._foreach_norm(weights))).all())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of weights, averaged weights, linear part with its sums, baseline and optimizer state."""
        tensors = {f"ensemble.{name}": tensor for name, tensor in self.ensemble.state_dict().items()}
        tensors |= {f"training.{name}": tensor for name, tensor in self._training.state_dict().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self._optimizer.state_dict().items()}
        for z, atoms in self._atoms.items():
            tensors |= {f"atoms.{z}.{name}": torch.as_tensor(value) for name, value in asdict(atoms).items()}
        arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}
        sums = {f"ridge.{name}": array for name, array in self._ridge.state_dict().items()}
        share = {f"share.{name}": array for name, array in self._share.state_dict().items()}
        return {"usual_loss": np.array([self._usual]), **arrays, **sums, **share}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `state_dict` wrote; this trainer must be new."""
        self._training = self._restored(_tensors(state, "training."))
        self.ensemble = self._restored(_tensors(state, "ensemble."))
        self.ensemble.baseline = self._training.baseline
        if _has_linear_part(self._config) and self.ensemble.linear is None:
            self.ensemble.linear = LinearPart()
        for z in self._training.elements:
            self._optimize(z)
            self._atoms[z] = Atoms.from_state(_tensors(state, f"atoms.{z}."))
        self._optimizer.load_state_dict(_tensors(state, "optimizer."))
        self._ridge.load_state_dict(in_room(state, "ridge."), self.ensemble.device)
        self._share.load_state_dict(in_room(state, "share."))
        self._usual = float(state["usual_loss"][0])

    def _restored(self, state: Mapping[str, Tensor]) -> Ensemble:
        like = self.ensemble
        return Ensemble.from_state(
            like.spec, state, hidden=like.hidden, members=like.members, dtype=like.dtype, device=like.device
        )

    def _optimize(self, z: int) -> None:
        named = self._training.parameters[z]
        weights = [name.startswith("weight_") for name in named]
        self._optimizer.add_group(
            z,
            [parameter.requires_grad_() for parameter in named.values()],
            weight_decay=[self._config.core.weight_decay * is_weight for is_weight in weights],
            frozen=[self._config.core.frozen * is_weight for is_weight in weights],
        )


def _usual(relevances: Iterable[Tensor]) -> Tensor:
    """What is expected of an element that tells no relevance of its own: the geometric mean of the others.

    A root mean square has the peaks of every other element, too many and too long directions for one of which little
    was seen. SN2 reaction by reaction, the linear part alone, three seeds: 88, 90, 92 meV/Å instead of 91, 90, 97.
    """
    return torch.stack(list(relevances)).log().mean(dim=0).exp()


def _has_linear_part(config: Config) -> bool:
    return config.potential.linear_features > 0 and config.potential.linear_share > 0


def _tensors(state: Mapping[str, np.ndarray], room: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(room): torch.from_numpy(np.ascontiguousarray(array).copy())
        for name, array in state.items()
        if name.startswith(room)
    }


def _above_baseline(baseline: Baseline, batch: Batch) -> float:
    """Median energy per atom of the labelled structures less their baseline, eV; 0 where none has an energy."""
    above = (batch.energy - baseline.energy(batch.composition)) / batch.n_atoms
    known = above[~torch.isnan(above)]
    return float(known.median()) if len(known) else 0.0


def _device(name: str) -> torch.device:
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if n_gpus else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= n_gpus:
        raise ConfigError(f"potential.device = {name!r}, but torch finds {n_gpus} GPUs here; use auto or cpu")
    return device


def _atomic_energies(config: Config) -> dict[int, float]:
    unknown = [symbol for symbol in config.potential.atomic_energies if symbol not in ATOMIC_NUMBERS]
    if unknown:
        raise ConfigError(f"potential.atomic_energies: {unknown[0]!r} is no element; use a symbol like {SYMBOLS[17]!r}")
    return {ATOMIC_NUMBERS[symbol]: energy for symbol, energy in config.potential.atomic_energies.items()}
