"""A training step of fixed shapes, for devices that take longer to be told what to do than to do it."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from lmlp_stream.atoms.batch import Batch
from lmlp_stream.atoms.padding import Capacity, PaddedBatch
from lmlp_stream.config import LearningConfig
from lmlp_stream.learning.core_optimizer import N_SETTINGS, CoRe
from lmlp_stream.learning.graphed import graphed
from lmlp_stream.learning.loss import Loss
from lmlp_stream.potential.ensemble import Ensemble


class StaticStep:
    """The whole step, from the weights to the averaged weights, for micro-batches up to a capacity.

    All that changes from step to step is put into arrays of the device before it begins, and all that it finds is read
    from one when it has ended; in between, nothing depends on a number that the host would have to wait for.

    Attributes:
        capacity: Of the micro-batch; its elements are those of the ensembles.
    """

    def __init__(
        self, training: Ensemble, averaged: Ensemble, optimizer: CoRe, learning: LearningConfig, capacity: Capacity
    ) -> None:
        dtype, device = training.dtype, training.device
        n_structures = capacity.n_structures + 1
        self.capacity = capacity
        self._training, self._averaged, self._optimizer, self._learning = training, averaged, optimizer, learning
        self._padded = PaddedBatch(capacity, training.spec, dtype, device)
        self._of_free_atoms = torch.zeros(n_structures, dtype=torch.float64, device=device)
        self._settings = torch.zeros(len(capacity.atoms), N_SETTINGS + 2, dtype=torch.float64, device=device)
        self._limit = torch.zeros((), dtype=torch.float64, device=device)
        self._found = torch.zeros(n_structures + 3, dtype=torch.float64, device=device)
        self._run = graphed(self.run, device)

    def make(
        self, batch: Batch, of_free_atoms: Float[Tensor, "S"], limit: float, shares: Mapping[int, float]
    ) -> list[float]:
        """What the step finds: whether it is sound (1 or 0), both terms of the loss, and the loss of each structure.

        Where it is not sound, nothing has changed; where it is, it was made.

        Args:
            batch: The micro-batch; it must fit.
            of_free_atoms: Sums of atomic reference energies in eV, float64.
            limit: Largest loss of a structure.
            shares: How far averaged weights move towards the newest, of each element that is to take the step.
        """
        self._put(batch, of_free_atoms, limit, shares)
        self._run()
        found: list[float] = self._found.tolist()
        return found[: 3 + batch.n_structures]

    def _put(self, batch: Batch, of_free_atoms: Tensor, limit: float, shares: Mapping[int, float]) -> None:
        settings = [(*self._optimizer.settings(z), shares.get(z, 0.0), float(z in shares)) for z in self.capacity.atoms]
        self._settings.copy_(torch.tensor(settings, dtype=torch.float64))
        self._limit.fill_(limit)
        self._of_free_atoms[: batch.n_structures].copy_(of_free_atoms)
        self._padded.put(batch)

    def run(self) -> None:
        """The step itself; where no element is to take it, as before the first micro-batch, it changes nothing."""
        batch, learning = self._padded.batch, self._learning
        loss = Loss(batch, energy_weight=learning.energy_weight, force_weight=learning.force_weight)
        gradients = self._training.loss_gradient(batch, loss.by_energy, loss.by_forces, self._of_free_atoms)
        norms = torch._foreach_norm([gradient for group in gradients.values() for gradient in group])
        losses = loss.by_structure.double()
        sound = torch.stack(norms).square().sum().isfinite() & (losses.isfinite() & (losses <= self._limit)).all()
        terms = torch.stack([sound.double(), loss.energy.double(), loss.force.double()])
        torch.cat([terms, losses], out=self._found)
        for (z, group), row in zip(gradients.items(), self._settings, strict=True):
            settings, moves = row.to(self._training.dtype), sound & (row[-1] > 0)
            self._optimizer.step_by_tensors(z, group, settings[:N_SETTINGS], moves)
            self._average(z, settings[-2] * moves)

    def _average(self, z: int, share: Float[Tensor, ""]) -> None:
        averages = list(self._averaged.parameters[z].values())
        ahead = torch._foreach_sub(list(self._training.parameters[z].values()), averages)
        torch._foreach_mul_(ahead, share)
        torch._foreach_add_(averages, ahead)
