"""The potential in training: ensemble, loss and optimizer; one step at a time."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from math import inf, isinf

import numpy as np
import torch
from torch import Tensor

from lmlp_stream.atoms.batch import Batch
from lmlp_stream.atoms.elements import ATOMIC_NUMBERS, SYMBOLS
from lmlp_stream.atoms.padding import Capacity
from lmlp_stream.atoms.symmetry import SymmetryFunctions, spec_of
from lmlp_stream.config import Config
from lmlp_stream.errors import ConfigError, DivergedError
from lmlp_stream.learning.core_optimizer import CoRe
from lmlp_stream.learning.linear_fit import LinearFit, element_generator
from lmlp_stream.learning.loss import Loss
from lmlp_stream.learning.standardisation import Atoms
from lmlp_stream.learning.static_step import StaticStep
from lmlp_stream.potential.baseline import Baseline, of_free_atoms
from lmlp_stream.potential.device import find_device
from lmlp_stream.potential.ensemble import Ensemble, FoldedEnsemble
from lmlp_stream.potential.linear import LinearPart
from lmlp_stream.potential.network import output_names, standardised_to

AVERAGED_SHARE = 0.1
"""Averaged weights span at most this share of an element's steps, so that the first ones are soon forgotten."""
EXPLODED = 1e4
"""A structure whose loss is this many times the usual one explodes: its gradient would outweigh all others for long."""
LEAST_USUAL = 0.03
"""Usual losses count as at least this large; with the default weights, that of force errors of 0.17 eV/Å."""
RENEWED = 1000
"""After so many steps of fixed shapes these shrink where half of the neighbors would have been enough for all."""
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
    """The gradients of a micro-batch's loss by atomic number, its report, and whether a step may follow."""

    gradients: dict[int, list[Tensor]]
    report: StepReport
    is_sound: bool


class Trainer:
    """An ensemble in training, its optimizer, and the average of its newest weights.

    Attributes:
        functions: Symmetry functions of the configuration.
        ensemble: The potential for everybody else: weights averaged over the newest steps of each element (Polyak &
            Juditsky 1992, doi 10.1137/0330046; exponential as in Kingma & Ba 2015, section 7.2, arXiv:1412.6980),
            blended with the linear part. It is that of the main level of theory.
        baselines: Atomic reference energies of each head: of the main level of theory, then of the further ones.
        linear_fit: The linear part in training.

    Args:
        config: The configuration.
        static: Whether steps have fixed shapes on a CPU too, as they have, in one CUDA graph, on a GPU.
    """

    def __init__(self, config: Config, *, static: bool = False) -> None:
        dtype = getattr(torch, config.potential.dtype)
        device = find_device(config.potential.device, setting="potential.device", error=ConfigError)
        spec = spec_of(config.symmetry)
        self._config = config
        self._is_static = static or device.type != "cpu"
        self._static: StaticStep | None = None
        self._needed, self._n_attempts = Capacity(), 0
        self.functions = SymmetryFunctions(spec, dtype, device)
        further = (Baseline({}) for _ in config.wire.further_levels)
        self.baselines = (Baseline(_atomic_energies(config)), *further)
        self._training, self._averaged = (
            Ensemble(
                spec,
                hidden=config.potential.hidden,
                members=config.potential.members,
                dtype=dtype,
                device=device,
                baseline=self.baselines[0],
                n_heads=len(self.baselines),
            )
            for _ in range(2)
        )
        self.ensemble = self._averaged.of_head(0, self.baselines[0])
        self._met: tuple[set[int], ...] = tuple(set() for _ in self.baselines)
        self._optimizer = CoRe(config.core, independent_axes=1)
        self._usual = inf
        self._atoms: dict[int, Atoms] = {}
        self.linear_fit = LinearFit(config, self.ensemble, self._atoms)

    def covers(self, head: int, atomic_numbers: Iterable[int]) -> bool:
        """Whether labels of a head have brought every element."""
        return self._met[head].issuperset(int(z) for z in atomic_numbers)

    def add_elements(self, batch: Batch) -> tuple[int, ...]:
        """The elements of a batch of the main level of theory that it had not met; each has features now.

        Networks are there, or are drawn from (seed, atomic number), features by the relevance that is known by then.
        Networks begin at the median energy per atom above the baseline, so that given energies of free atoms leave them
        no binding energy to learn first; the linear part expects the same of every atom.
        """
        energy = _above_baseline(self.baselines[0], batch)
        added = tuple(z for z in batch.atoms_of if not self.covers(0, [z]))
        _, bias = output_names(len(self._config.potential.hidden))
        for z in added:
            self._add_networks(z, batch, energy)
            for parameters in (self._training.parameters[z], self._averaged.parameters[z]):
                parameters[bias][..., 0] = energy
            self._met[0].add(z)
            self.linear_fit.add_element(z, batch.values[batch.atoms_of[z]], energy)
        if added:
            self.ensemble.parameters = self._of_main().parameters
        return added

    def begin(self, head: int, batch: Batch) -> None:
        """Let a further level of theory predict a batch of its labels before it learns them.

        Where the main level knows an element, the head begins as its head: levels differ less than either differs from
        nothing, so that the layers they share are hardly moved. Where a composition is new, its atomic reference
        energies take what the head says to the labels.
        """
        for z in batch.atoms_of:
            if self.covers(head, [z]):
                continue
            self._add_networks(z, batch, 0.0)
            if self.covers(0, [z]):
                for parameters in (self._training.parameters[z], self._averaged.parameters[z]):
                    for name in output_names(len(self._config.potential.hidden)):
                        parameters[name][..., head] = parameters[name][..., 0]
            self._met[head].add(z)
        said = self.folded(head).predict(batch).mean_energy - self.baselines[head].energy(batch.composition)
        self.baselines[head].fit_energies(batch.composition.cpu().numpy(), (batch.energy - said).cpu().numpy())

    def _add_networks(self, z: int, batch: Batch, energy: float) -> None:
        """Networks of an element that has none, with energies around `energy` (eV); drawn by (seed, atomic number)."""
        if z in self._training.parameters:
            return
        values, generator = batch.values[batch.atoms_of[z]], element_generator(self._config.seed, "element", z)
        self._training.add_element(z, values, generator, energy)
        copies = {name: parameter.clone() for name, parameter in self._training.parameters[z].items()}
        self._averaged.parameters = dict(sorted({**self._averaged.parameters, z: copies}.items()))
        self._optimize(z)
        self._atoms[z] = Atoms.of(values)

    def _of_main(self, linear: LinearPart | None = None) -> Ensemble:
        """The potential of the main level of theory, which knows what its labels have brought."""
        ensemble = self._averaged.of_head(0, self.baselines[0], linear)
        ensemble.parameters = {z: group for z, group in ensemble.parameters.items() if self.covers(0, [z])}
        return ensemble

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
            for parameters in (self._averaged.parameters[z], self._training.parameters[z]):
                changed, factor = standardised_to(parameters, atoms.mean, atoms.spread)
                for name, tensor in changed.items():
                    parameters[name].copy_(tensor)
            self._optimizer.rescale(z, list(parameters).index("weight_0"), factor)

    def folded(self, head: int, *, networks_alone: bool = False) -> FoldedEnsemble:
        """What the level of theory of a head predicts now; the linear part knows the main level alone."""
        ensemble = self._averaged.of_head(head, self.baselines[head]) if head else self.ensemble
        return ensemble.folded(networks_alone=networks_alone)

    def step(self, batch: Batch) -> StepReport:
        """Lower the loss of a micro-batch by one optimizer step.

        Everything is checked before a weight changes, so there is nothing to undo. A step that passes leaves finite
        weights: squares of the gradient are finite, and CoRe bounds the change of a weight by its step size.

        Raises:
            DivergedError: The loss explodes, or loss or gradient is not finite; nothing has changed.
        """
        attempt = self._static_attempt(batch, moves=True) if self._is_static else self._attempt(batch)
        report = attempt.report
        if not attempt.is_sound:
            raise DivergedError(
                f"the loss (energy {report.energy_loss:g}, force {report.force_loss:g}) or its gradient is not finite "
                "or explodes; resume from the last checkpoint with a smaller core.step_sizes maximum"
            )
        median = float(np.median(report.losses))
        self._usual = median if isinf(self._usual) else self._usual + USUAL_SHARE * (median - self._usual)
        if self._is_static:
            for z in batch.atoms_of:
                self._optimizer.count(z)
            return report
        self._optimizer.step(attempt.gradients)
        for z in attempt.gradients:
            averages, newest = (list(ensemble.parameters[z].values()) for ensemble in (self._averaged, self._training))
            torch._foreach_lerp_(averages, newest, self._averaged_share(self._optimizer.n_steps(z)))
        return report

    def sound(self, batch: Batch) -> bool:
        """Whether `step` would accept the micro-batch; nothing changes."""
        attempt = self._static_attempt(batch, moves=False) if self._is_static else self._attempt(batch)
        return attempt.is_sound

    def _attempt(self, batch: Batch) -> _Attempt:
        learning = self._config.learning
        loss = Loss(batch, energy_weight=learning.energy_weight, force_weight=learning.force_weight)
        gradients = self._training.loss_gradient(
            batch, loss.by_energy, loss.by_forces, of_free_atoms(self.baselines, batch)
        )
        report = StepReport(float(loss.energy), float(loss.force), losses=loss.by_structure.cpu().numpy())
        return _Attempt(gradients, report, self._sound(gradients, report))

    def _sound(self, gradients: dict[int, list[Tensor]], report: StepReport) -> bool:
        norms = torch._foreach_norm([gradient for group in gradients.values() for gradient in group])
        squares = torch.stack(norms).square().sum()
        losses = report.losses
        return bool(torch.isfinite(squares)) and bool((np.isfinite(losses) & (losses <= self._largest)).all())

    def _static_attempt(self, batch: Batch, *, moves: bool) -> _Attempt:
        """The same on a device; where it is sound and `moves`, the step was made."""
        capacity = (self._static.capacity if self._static else Capacity()).grown(batch, self._training.elements)
        self._needed = self._needed.grown(batch, self._training.elements)
        self._n_attempts += 1
        if self._n_attempts % RENEWED == 0:
            capacity = self._needed if 2 * self._needed.n_pairs <= capacity.n_pairs else capacity
            self._needed = Capacity()
        if self._static is None or self._static.capacity != capacity:
            self._static = None  # on a GPU its memory is free before the next one takes its own
            self._static = StaticStep(self._training, self._averaged, self._optimizer, self._config.learning, capacity)
        moving = batch.atoms_of if moves else ()
        shares = {z: self._averaged_share(self._optimizer.n_steps(z) + 1) for z in moving}
        free = of_free_atoms(self.baselines, batch)
        is_sound, energy_loss, force_loss, *losses = self._static.make(batch, free, self._largest, shares)
        return _Attempt({}, StepReport(energy_loss, force_loss, np.array(losses)), bool(is_sound))

    @property
    def _largest(self) -> float:
        """Largest loss of a structure that does not explode."""
        return EXPLODED * max(self._usual, LEAST_USUAL)

    def _averaged_share(self, n_steps: int) -> float:
        """How far averages move towards the newest weights: they span a tenth of the steps, then a fixed number."""
        return 1.0 / max(1.0, min(AVERAGED_SHARE * n_steps, self._config.learning.averaged_steps))

    def finite(self) -> bool:
        """Whether every weight and coefficient is a finite number."""
        weights = [tensor for group in self._training.parameters.values() for tensor in group.values()]
        weights += [tensor for group in self._averaged.parameters.values() for tensor in group.values()]
        if self.ensemble.linear is not None:
            for features in self.ensemble.linear.features.values():
                weights += [features.coefficients, features.deviations]
        return not weights or bool(torch.isfinite(torch.stack(torch._foreach_norm(weights))).all())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of weights, averaged weights, linear part with its sums, baseline and optimizer state."""
        linear = self.ensemble.linear.state_dict() if self.ensemble.linear else {}
        tensors = {f"ensemble.{name}": tensor for name, tensor in self._averaged.state_dict().items()}
        tensors |= {f"ensemble.linear.{name}": tensor for name, tensor in linear.items()}
        tensors |= {f"training.{name}": tensor for name, tensor in self._training.state_dict().items()}
        tensors |= {f"optimizer.{name}": tensor for name, tensor in self._optimizer.state_dict().items()}
        for head, baseline in enumerate(self.baselines[1:], start=1):
            tensors |= {f"baseline.{head}.{name}": tensor for name, tensor in baseline.state_dict().items()}
            tensors |= {f"met.{of_head}": torch.tensor(sorted(self._met[of_head])) for of_head in (0, head)}
        for z, atoms in self._atoms.items():
            tensors |= {f"atoms.{z}.{name}": torch.as_tensor(value) for name, value in asdict(atoms).items()}
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}
        return {"usual_loss": np.array([self._usual]), **arrays, **self.linear_fit.state_dict()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `state_dict` wrote; this trainer must be new."""
        self._static = None
        self._training = self._restored(_tensors(state, "training."))
        self._averaged = self._restored(_tensors(state, "ensemble."))
        further = (
            Baseline.from_state(_tensors(state, f"baseline.{head}.")) for head in range(1, self._averaged.n_heads)
        )
        self.baselines = (self._training.baseline, *further)
        met = _tensors(state, "met.") or {"0": torch.tensor(self._training.elements)}
        self._met = tuple({int(z) for z in met[str(head)]} for head in range(len(self.baselines)))
        self.ensemble = self._of_main(self._averaged.linear)
        self._averaged.baseline, self._averaged.linear = self.baselines[0], None
        for z in self._training.elements:
            self._optimize(z)
            self._atoms[z] = Atoms.from_state(_tensors(state, f"atoms.{z}."))
        self._optimizer.load_state_dict(_tensors(state, "optimizer."))
        self.linear_fit = LinearFit(self._config, self.ensemble, self._atoms)
        self.linear_fit.load_state_dict(state)
        self._usual = float(state["usual_loss"][0])

    def _restored(self, state: Mapping[str, Tensor]) -> Ensemble:
        like = self._training
        return Ensemble.from_state(
            *(like.spec, state),
            hidden=like.hidden,
            members=like.members,
            dtype=like.dtype,
            device=like.device,
            n_heads=like.n_heads,
        )

    def _optimize(self, z: int) -> None:
        named = self._training.parameters[z]
        weights = [name.startswith("weight_") for name in named]
        self._optimizer.add_group(
            z,
            list(named.values()),
            weight_decay=[self._config.core.weight_decay * is_weight for is_weight in weights],
            frozen=[self._config.core.frozen * is_weight for is_weight in weights],
        )


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


def _atomic_energies(config: Config) -> dict[int, float]:
    unknown = [symbol for symbol in config.potential.atomic_energies if symbol not in ATOMIC_NUMBERS]
    if unknown:
        raise ConfigError(f"potential.atomic_energies: {unknown[0]!r} is no element; use a symbol like {SYMBOLS[17]!r}")
    return {ATOMIC_NUMBERS[symbol]: energy for symbol, energy in config.potential.atomic_energies.items()}
