"""The linear part of a potential: random features of each atom, and coefficients that are fitted exactly.

    E_i = Σ_k c_k tanh(w_k · G_i + b_k)

with directions w_k and offsets b_k that are drawn for each element and not trained (Rahimi & Recht, "Weighted Sums of
Random Kitchen Sinks", NIPS 2008; with tanh: Huang et al. 2006, doi 10.1016/j.neucom.2005.12.126). What it is fitted to
can be kept as sums (`learning.ridge`), so it forgets nothing that it learned. Where symmetry functions leave the range
of the atoms that were learned, it gives way to the networks: its slopes are arbitrary there, and dynamics would find
every hole. Members have coefficients of their own for the first features, as far apart as the labels leave open. An
extension: the published potential has none. Axes: M members, A atoms, n atoms of one element, D symmetry functions, F
features, of which U deviate.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import inf, sqrt
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from lmlp_stream.atoms.batch import Batch
from lmlp_stream.potential import few_atoms_kernel
from lmlp_stream.potential.linear_algebra import product
from lmlp_stream.potential.network import are_few, tanh_of_half_, through_tanh

SPREAD = 0.3
"""Symmetry functions are divided by this: of the order of their standard deviations, and known before any atom is."""
DIRECTION_LENGTH = 0.25
"""Root mean square length of a direction in units of 1 / `SPREAD`, where nothing is known of the relevance of symmetry
functions."""
LEAST_RELEVANCE = 0.03
"""A symmetry function counts at least as much as one whose slopes are this share of the root mean square of all."""
MARGIN = 0.3
"""A symmetry function is unfamiliar where it leaves its range by more than this share of it."""
LEAST_MARGIN = 0.4
"""And by more than this. Narrower, structures at the edge of what was learned depend on networks that may have
forgotten them; wider, dynamics falls into holes between atoms that no label brought together."""
UNLIMITED = 1e6
"""No symmetry function is as large."""
N_DEVIATING = 200
"""Most features for which each member has coefficients of its own; predictions slow down with these times members."""


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Features of one element, with their coefficients.

    Attributes:
        directions: w, one column for each feature.
        offsets: b.
        coefficients: c in eV.
        lowest: Least symmetry functions of the atoms that were learned since the features were drawn by relevance.
        highest: Greatest ones.
        deviations: By how much each member's coefficients of the first features differ from these, in eV: 0 on average.
    """

    directions: Float[Tensor, "D F"]
    offsets: Float[Tensor, "F"]
    coefficients: Float[Tensor, "F"]
    lowest: Float[Tensor, "D"]
    highest: Float[Tensor, "D"]
    deviations: Float[Tensor, "U M"]

    @classmethod
    def drawn(
        cls,
        values: Float[Tensor, "n D"],
        n_features: int,
        generator: torch.Generator,
        relevance: Float[Tensor, "D"] | None = None,
        *,
        members: int = 1,
    ) -> Self:
        """Features about the mean of atoms, with coefficients and deviations of zero.

        Where nothing is known of relevance, everything is familiar: networks know even less by then.

        Args:
            values: Symmetry functions of atoms of the element.
            n_features: F.
            generator: Draws directions and offsets.
            relevance: Standard deviation of what directions have of each symmetry function; None: equal for all.
            members: M.
        """
        scale = _even(values.shape[1]) if relevance is None else relevance
        directions = torch.randn(values.shape[1], n_features, generator=generator, dtype=torch.float64)
        directions *= scale[:, None]
        offsets = torch.randn(n_features, generator=generator, dtype=torch.float64)
        offsets -= values.double().mean(dim=0).cpu() @ directions
        return cls(
            directions.to(values),
            offsets.to(values),
            values.new_zeros(n_features),
            lowest=values.amin(dim=0) if relevance is not None else torch.full_like(values[0], -UNLIMITED),
            highest=values.amax(dim=0) if relevance is not None else torch.full_like(values[0], UNLIMITED),
            deviations=values.new_zeros(min(n_features, N_DEVIATING), members),
        )

    @property
    def relevance(self) -> Float[Tensor, "D"]:
        """Root mean square of what directions have of each symmetry function, float64 on the CPU."""
        return self.directions.double().square().mean(dim=1).sqrt().cpu()

    def evaluate(self, values: Float[Tensor, "n D"]) -> Float[Tensor, "n F"]:
        """The features of atoms."""
        doubled = product(values[None], self.directions[None], factor=2)[0]
        return tanh_of_half_(doubled.add_(self.offsets, alpha=2))

    def energies(self, features: Float[Tensor, "n F"]) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
        """Atomic energies in eV of what `evaluate` gave, and their derivatives by the symmetry functions."""
        by_argument = through_tanh(self.coefficients, features)
        return features @ self.coefficients, product(by_argument[None], self.directions.T[None])[0]

    def deviate(
        self,
        features: Float[Tensor, "n F"],
        share: float,
        energies: Float[Tensor, "n M"],
        gradients: Float[Tensor, "n M D"],
    ) -> None:
        """Add, in place, a share of what each member's atomic energies differ by, and the derivatives of this.

        Args:
            features: What `evaluate` gave.
            share: Of the linear part.
            energies: Atomic energies in eV.
            gradients: Their derivatives by the symmetry functions.
        """
        some = slice(len(self.deviations))
        energies.addmm_(features[:, some], self.deviations, alpha=share)
        by_argument = through_tanh(self.deviations.T.contiguous(), features[:, None, some]).flatten(0, 1)
        by_function = gradients.view(1, len(by_argument), -1)
        product(by_argument[None], self.directions[None, :, some].mT, out=by_function, keep=1, factor=share)

    def of_few(
        self,
        values: Float[Tensor, "n D"],
        share: float,
        member_energies: Float[Tensor, "n M"],
        member_gradients: Float[Tensor, "n M D"],
        energies: Float[Tensor, "n"],
        gradients: Float[Tensor, "n D"],
        beyond: Float[Tensor, "n"],
        beyond_gradients: Float[Tensor, "n D"],
    ) -> None:
        """Do to members what `deviate` does, and write what `energies` and `excess` give, of few atoms on a CPU."""
        few_atoms_kernel.linear(
            *(values.numpy(), self.directions.numpy(), self.offsets.numpy(), self.coefficients.numpy()),
            *(self.deviations.numpy(), share, member_energies.numpy(), member_gradients.numpy()),
            *(energies.numpy(), gradients.numpy()),
        )
        few_atoms_kernel.excess(
            *(values.numpy(), self.lowest.numpy(), self.highest.numpy(), MARGIN, LEAST_MARGIN),
            *(beyond.numpy(), beyond_gradients.numpy()),
        )

    def with_coefficients(self, coefficients: Float[Tensor, "F"]) -> "Features":
        """The same features with other coefficients."""
        return replace(self, coefficients=coefficients.to(self.coefficients))

    def with_deviations(self, deviations: Float[Tensor, "U M"]) -> "Features":
        """The same features with other deviations."""
        return replace(self, deviations=deviations.to(self.deviations).contiguous())

    def covering(self, values: Float[Tensor, "n D"]) -> "Features":
        """The same features, whose range includes these atoms too."""
        lowest, highest = self.lowest.minimum(values.amin(dim=0)), self.highest.maximum(values.amax(dim=0))
        return replace(self, lowest=lowest, highest=highest)

    def first(self, n_features: int) -> "Features":
        """The first of these features."""
        return replace(
            self,
            directions=self.directions[:, :n_features].contiguous(),
            offsets=self.offsets[:n_features],
            coefficients=self.coefficients[:n_features],
            deviations=self.deviations[:n_features],
        )


def excess(
    values: Float[Tensor, "n D"], lowest: Float[Tensor, "D"], highest: Float[Tensor, "D"]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n D"]]:
    """How far atoms are beyond a range, and the derivatives of this by the symmetry functions.

    The sum of fourth powers of excesses over symmetry functions, each in units of its margin: 0 within the range. Of
    squares, the second derivative would jump where a function leaves its range, and move the energy of dynamics.
    """
    margin = (highest - lowest) * MARGIN + LEAST_MARGIN
    beyond = (values - values.clamp(lowest, highest)).div_(margin)
    cubes = beyond.square().mul_(beyond)
    return (cubes * beyond).sum(dim=1), cubes.mul_(4).div_(margin)


TENSORS = tuple(of_features.name for of_features in fields(Features))
"""Names of the tensors of an element."""


def relevance_of(squared_slopes: Float[Tensor, "D"], spread: Float[Tensor, "D"]) -> Float[Tensor, "D"]:
    """How much of each symmetry function directions should have, by how steeply the energy depends on it.

    In proportion to the root mean square of dE/dG: the diagonal of the average gradient outer product by which
    recursive feature machines learn what matters (Radhakrishnan et al. 2024, doi 10.1126/science.adi5639). Arguments of
    the tanh spread as widely as those of directions that are equal for all symmetry functions.

    Args:
        squared_slopes: Sum or mean of (dE/dG)² over atoms of the element.
        spread: Standard deviation of each symmetry function over them.
    """
    even = _even(len(spread))
    slopes = squared_slopes.clamp_min(LEAST_RELEVANCE**2 * float(squared_slopes.mean())).sqrt()
    length = float((slopes * spread).norm())
    return slopes * (float((even * spread).norm()) / length) if 0 < length < inf else even


def _even(n_functions: int) -> Float[Tensor, "D"]:
    return torch.full((n_functions,), DIRECTION_LENGTH / SPREAD / sqrt(n_functions), dtype=torch.float64)


@dataclass(slots=True, eq=False)
class LinearPart:
    """The linear parts of all elements, and how much they count.

    Attributes:
        share: Share of the linear part in the energy of the ensemble; the mean of the networks has the rest. 0 until
            coefficients are fitted.
        features: By atomic number.
    """

    share: float = 0.0
    features: dict[int, Features] = field(default_factory=dict)

    @property
    def is_fitted(self) -> bool:
        """Whether any coefficient is not zero."""
        return any(bool(of_element.coefficients.any()) for of_element in self.features.values())

    @property
    def n_features(self) -> int:
        """Features of each element; 0 where there is no element."""
        return next((len(of_element.offsets) for of_element in self.features.values()), 0)

    def blend(self, energies: Float[Tensor, "M A"], gradients: Float[Tensor, "A M D"], batch: Batch) -> None:
        """Move what the networks say, in place, so that their mean is that of networks and linear part by their shares.

        E = N + s f (L − N) for each structure, with the share s and the familiarity f = 1 / (1 + ν); ν is the sum of
        `excess` over its atoms. Energies of structures are compared, not those of atoms, because labels leave open what
        belongs to which atom. So f of a structure depends on all its atoms: where some are unfamiliar, energies of
        distant parts do not simply add up.

        Members differ by what their networks differ and by the share of what their linear parts do: how much they
        disagree says what neither has learned.

        Args:
            energies: Atomic energies in eV, grouped by element as `batch.atoms_of`.
            gradients: Their derivatives by the symmetry functions, grouped alike.
            batch: The structures.
        """
        sizes = [len(some) for some in batch.atoms_of.values()]
        values, structures = (array.index_select(0, batch.order) for array in (batch.values, batch.structure_index))
        mean, mean_gradient = energies.mean(dim=0), gradients.mean(dim=1)
        of_atoms, beyond = torch.empty_like(mean), torch.empty_like(mean)
        by_function, change = torch.empty_like(mean_gradient), torch.empty_like(mean_gradient)
        arrays = (values, energies.T, gradients, of_atoms, by_function, beyond, change)
        parts = (torch.split(array, sizes) for array in arrays)
        for z, of_values, of_energies, of_gradients, *found in zip(batch.atoms_of, *parts, strict=True):
            features = self.features[z]
            if are_few(of_values):
                features.of_few(of_values, self.share, of_energies, of_gradients, *found)
                continue
            evaluated = features.evaluate(of_values)
            of_element = (*features.energies(evaluated), *excess(of_values, features.lowest, features.highest))
            for array, part in zip(found, of_element, strict=True):
                array.copy_(part)
            features.deviate(evaluated, self.share, of_energies, of_gradients)
        told = torch.stack([of_atoms - mean, beyond])
        apart, familiar = told.new_zeros(2, batch.n_structures).index_add_(1, structures, told)
        familiar.add_(1).reciprocal_()
        falls, shares = torch.stack([-familiar.square() * apart, familiar])[:, structures]
        change.mul_(falls[:, None]).addcmul_(shares[:, None], by_function - mean_gradient)
        energies.addcmul_(shares, told[0], value=self.share)
        gradients.add_(change[:, None], alpha=self.share)

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the share and of everything that was drawn and fitted, by dotted name; empty without features."""
        if not self.features:
            return {}
        state = {"share": torch.tensor(self.share, dtype=torch.float64)}
        for z, of_element in self.features.items():
            for name in TENSORS:
                state[f"{z}.{name}"] = getattr(of_element, name).clone()
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> Self:
        """The linear part `state_dict` described."""
        elements = sorted({int(name.split(".")[0]) for name in state if "." in name})
        features = {
            z: Features(*(state[f"{z}.{name}"].to(dtype=dtype, device=device, copy=True) for name in TENSORS))
            for z in elements
        }
        return cls(float(state["share"]), features)
