"""Energies, forces and stress of all members of an ensemble at once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmlp_stream.atoms.batch import Batch, composition_of
from lmlp_stream.atoms.symmetry import SymmetrySpec
from lmlp_stream.potential.baseline import Baseline
from lmlp_stream.potential.forces import ByForces, forces_and_stress, through_forces
from lmlp_stream.potential.linear import LinearPart
from lmlp_stream.potential.network import Folded, fold, init_network, output_names, parameter_names
from lmlp_stream.potential.networks import energies_and_gradients, forth_and_back_of_all, gradients_of_all


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What each member says of each structure.

    Attributes:
        energy: Total energy with the baseline in eV, float64.
        forces: Forces in eV/Å.
        stress: Stress in eV/Å³, tension positive; NaN without a volume.
    """

    energy: Float[Tensor, "M S"]
    forces: Float[Tensor, "M A 3"]
    stress: Float[Tensor, "M S 3 3"]

    @property
    def mean_energy(self) -> Float[Tensor, "S"]:
        """Energy of the ensemble in eV."""
        return self.energy.mean(dim=0)

    @property
    def mean_forces(self) -> Float[Tensor, "A 3"]:
        """Forces of the ensemble in eV/Å."""
        return self.forces.mean(dim=0)

    @property
    def mean_stress(self) -> Float[Tensor, "S 3 3"]:
        """Stress of the ensemble in eV/Å³."""
        return self.stress.mean(dim=0)

    @property
    def energy_disagreement(self) -> Float[Tensor, "S"]:
        """Standard deviation of the members' energies in eV; 0 for one member."""
        return _disagreement(self.energy)

    @property
    def forces_disagreement(self) -> Float[Tensor, "A 3"]:
        """Standard deviation of the members' force components in eV/Å; 0 for one member."""
        return _disagreement(self.forces)


@dataclass(frozen=True, slots=True, eq=False)
class FoldedEnsemble:
    """An ensemble that does not learn, with the standardisation taken into the weights.

    Attributes:
        networks: By atomic number.
        baseline: Atomic reference energies.
        linear: The linear part; None: there is none.
    """

    networks: Mapping[int, Folded]
    baseline: Baseline
    linear: LinearPart | None

    def predict(self, batch: Batch) -> Prediction:
        """Energies, forces and stress of every member."""
        energies, gradients = energies_and_gradients(self.networks, batch)
        if self.linear is not None:
            self.linear.blend(energies, gradients, batch)
        forces, stress = forces_and_stress(gradients, batch)
        energy = _total(energies, batch, self.baseline.energy(batch.composition))
        return Prediction(energy=energy, forces=forces, stress=stress)


class Ensemble:
    """Members that share symmetry functions and baseline, and differ in their networks and in their linear parts.

    Attributes:
        spec: The symmetry functions.
        hidden: Neurons of the hidden layers.
        members: Number of members M.
        dtype: Precision of the networks.
        device: Where they are.
        n_heads: Outputs H of each network, one for each level of theory that is learned; what predicts has one.
        parameters: Network parameters by atomic number, ascending.
        baseline: Atomic reference energies.
        linear: What their mean is blended with where it predicts; None: nothing. It takes no part in `loss_gradient`.
    """

    def __init__(
        self,
        spec: SymmetrySpec,
        *,
        hidden: Sequence[int],
        members: int,
        dtype: torch.dtype,
        device: torch.device,
        baseline: Baseline,
        linear: LinearPart | None = None,
        n_heads: int = 1,
    ) -> None:
        self.spec = spec
        self.hidden = tuple(hidden)
        self.members = members
        self.dtype = dtype
        self.device = device
        self.baseline = baseline
        self.linear = linear
        self.n_heads = n_heads
        self.parameters: dict[int, dict[str, Tensor]] = {}

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers with a network, ascending."""
        return tuple(self.parameters)

    def covers(self, atomic_numbers: Iterable[int]) -> bool:
        """Whether every element has a network."""
        return all(int(z) in self.parameters for z in atomic_numbers)

    def determines(self, atomic_numbers: Int[np.ndarray, "A"]) -> bool:
        """Whether the energy of such a composition follows from those that were learned."""
        return self.baseline.covers(composition_of(atomic_numbers))

    def add_element(
        self, z: int, values: Float[Tensor, "n D"], generator: torch.Generator, energy: float = 0.0
    ) -> None:
        """Give an element fresh networks, standardised to its first atoms, with energies around `energy` (eV)."""
        self.parameters[z] = init_network(
            self.spec.n_functions, self.hidden, self.members, generator, values, energy, self.n_heads
        )
        self.parameters = dict(sorted(self.parameters.items()))

    def of_head(self, head: int, baseline: Baseline, linear: LinearPart | None = None) -> "Ensemble":
        """The potential of one level of theory: its parameters are parts of these, in the same memory."""
        ensemble = Ensemble(
            self.spec,
            hidden=self.hidden,
            members=self.members,
            dtype=self.dtype,
            device=self.device,
            baseline=baseline,
            linear=linear,
        )
        outputs = output_names(len(self.hidden))
        ensemble.parameters = {
            z: {
                name: array[..., head : head + 1] if name in outputs and self.n_heads > 1 else array
                for name, array in parameters.items()
            }
            for z, parameters in self.parameters.items()
        }
        return ensemble

    def predict(self, batch: Batch) -> Prediction:
        """Energies, forces and stress of every member."""
        return self.folded().predict(batch)

    def folded(self, *, networks_alone: bool = False) -> "FoldedEnsemble":
        """The potential as it is now, prepared for many predictions; without its linear part where that is asked.

        Raises:
            ValueError: It has several heads; `of_head` gives the potential of one.
        """
        if self.n_heads > 1:
            raise ValueError(f"{self.n_heads} heads say different things; predict by one of them, from of_head")
        networks_ = {z: fold(parameters) for z, parameters in self.parameters.items()}
        linear = None if networks_alone else self.linear
        return FoldedEnsemble(networks=networks_, baseline=self.baseline, linear=linear)

    def loss_gradient(
        self,
        batch: Batch,
        by_energy: Callable[[Float[Tensor, "M S"]], Float[Tensor, "M S"]],
        by_forces: ByForces,
        of_free_atoms: Float[Tensor, "S"],
    ) -> dict[int, list[Tensor]]:
        """Gradient of a loss of what the networks alone say, by the parameters of each element of a batch.

        Reverse differentiation, written out (`network.gradient_of`, `forces.through_forces`).

        Args:
            batch: The structures.
            by_energy: Derivative of the loss by the energies of all members in eV, which it is told.
            by_forces: The same of the forces.
            of_free_atoms: Sums of atomic reference energies in eV, float64.
        """
        folded = {z: fold(self.parameters[z]) for z in batch.atoms_of}
        energies, gradients, passes = forth_and_back_of_all(folded, batch)
        of_structures = by_energy(_total(energies, batch, of_free_atoms)).to(energies.dtype)
        through_forces(gradients, batch, by_forces)
        by_energies = of_structures[:, batch.structure_index[batch.order]]
        return gradients_of_all(self.parameters, folded, passes, by_energies, gradients)

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of all parameters, of the baseline and of the linear part, by dotted name."""
        state = {
            f"element.{z}.{name}": parameter.clone()
            for z, parameters in self.parameters.items()
            for name, parameter in parameters.items()
        }
        state.update({f"baseline.{name}": array for name, array in self.baseline.state_dict().items()})
        if self.linear is not None:
            state.update({f"linear.{name}": array for name, array in self.linear.state_dict().items()})
        return state

    @classmethod
    def from_state(
        cls,
        spec: SymmetrySpec,
        state: Mapping[str, Tensor],
        *,
        hidden: Sequence[int],
        members: int,
        dtype: torch.dtype,
        device: torch.device,
        n_heads: int = 1,
    ) -> Self:
        """The ensemble `state_dict` described."""
        baseline = {name.removeprefix("baseline."): array for name, array in state.items() if "baseline." in name}
        linear = {name.removeprefix("linear."): array for name, array in state.items() if name.startswith("linear.")}
        ensemble = cls(
            spec,
            hidden=hidden,
            members=members,
            dtype=dtype,
            device=device,
            baseline=Baseline.from_state(baseline),
            linear=LinearPart.from_state(linear, dtype, device) if linear else None,
            n_heads=n_heads,
        )
        elements = sorted({int(name.split(".")[1]) for name in state if name.startswith("element.")})
        ensemble.parameters = {
            z: {
                name: state[f"element.{z}.{name}"].to(dtype=dtype, device=device, copy=True)
                for name in parameter_names(len(ensemble.hidden))
            }
            for z in elements
        }
        return ensemble


def _total(energies: Float[Tensor, "M A"], batch: Batch, of_free_atoms: Float[Tensor, "S"]) -> Float[Tensor, "M S"]:
    """Total energies in eV, float64, of atomic ones in `batch.order` and sums of atomic reference energies."""
    atomic = energies.double().transpose(0, 1)[batch.rows]
    total = atomic.new_zeros(batch.n_structures, len(energies)).index_add(0, batch.structure_index, atomic)
    return total.transpose(0, 1) + of_free_atoms


def _disagreement(members: Tensor) -> Tensor:
    return members.std(dim=0, correction=1) if len(members) > 1 else torch.zeros_like(members[0])
