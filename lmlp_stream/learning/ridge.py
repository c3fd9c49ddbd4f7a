"""Ridge regression of the linear part on everything that was learned, kept as sums: exact, and of constant size.

    c = argmin Σ_s w_s (6 w_E ((E_s(c) − E_s) / N_s)² + w_F |F_s(c) − F_s|² / n_s + a Σ_i (E_i(c) − E_z)² / N_s)
               + ridge |c|²

over all structures s that were ever added and not taken out again (Hoerl & Kennard 1970, doi
10.1080/00401706.1970.10488634). n_s is the number of its labelled force components; E_z is what atoms of an element are
expected to have. The weights w are those of `learning.loss` but for `ENERGY_FACTOR`; here forces are averaged in each
structure first. Energies and forces are linear in c, so that the normal equations need XᵀX and Xᵀy alone, to which
every structure adds once. 4 elements of 800 features need 51 MB, 8 need 184 MB, and about four times that while all are
fitted. Axes: F features, K coefficients of all elements.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations_with_replacement
from math import sqrt
from operator import itemgetter

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lmlp_stream.atoms.batch import Batch
from lmlp_stream.atoms.symmetry import Descriptors
from lmlp_stream.config import LearningConfig
from lmlp_stream.potential.linear import Features
from lmlp_stream.potential.linear_algebra import lower_cholesky, product

MOST_FEATURES = 6400
"""Most features of all elements together: the sums grow with their square, a solution with their cube."""
ENERGY_FACTOR = 6.0
"""Energies count so many times more than in the loss: 3BPA 1.09 meV/atom instead of 1.32, SN2 3.8 instead of 4.4, at
force errors that are 0 and 2 % larger (800 features, linear part alone)."""
PER_COEFFICIENT = 0.25
"""Coefficients are fitted anew after so many new equations for each: then fitting costs about as much as summing."""
OF_ALL = 0.1
"""They are fitted anew sooner where the new equations are more than this share of all."""
ATOM = 1e-3
"""Weight a in 1/eV². Labels leave open what belongs to which atom: without it, atoms of one element differed by 6 eV in
3BPA (0.2 eV with it; linear part alone 59 instead of 60 meV/Å, 23 instead of 21 meV), and the energies of the next
composition were off by up to 4 eV/atom."""
ROUNDING = 1e-13
"""The ridge is at least this share of the trace of XᵀX, below which double precision resolves nothing."""
RIPE = (256, 384)
"""After so many structures features are drawn by relevance, and drawn again: few structures already tell which symmetry
functions matter, and features that were drawn by relevance tell it better. The first draw, linear part alone, 800
features: SN2 84 meV/Å and 3.5 meV/atom instead of 100 and 5.1, 3BPA 62 and 0.92 instead of 74 and 1.11. The second one,
whole potential: an SN2 stream of which a tenth is remembered 73 and 2.8 instead of 75 and 3.2; where all are present
from the start 67 and 2.8 instead of 73 and 2.7 (medians of three seeds)."""
FEWEST = (32, 256)
"""So many at least. Three draws after 64, 128 and 256 structures, each by what was relevant by then alone: SN2 108
meV/Å instead of 84."""
ATOMS_TOGETHER = 64
"""Atoms whose derivatives are held at once."""
EQUATIONS_TOGETHER = 4096
"""So many equations are summed at once, or those of one structure where it has more."""


def fitting(n_features: int, n_elements: int) -> int:
    """How many features each of so many elements may have, `n_features` at most."""
    return min(n_features, MOST_FEATURES // n_elements)


class Ridge:
    """Sums over all structures that were learned, in double precision, and the coefficients that follow from them.

    Elements share the same number of features. When more elements come than `MOST_FEATURES` allows, every element keeps
    its first ones: of the sums, the parts that belong to these are those that would have been summed without the rest.

    Args:
        learning: Weights and ridge.
        expected: Energy above the baseline that atoms of each element are expected to have, eV.
        n_redrawn: How often features were drawn by relevance; 0: they are those that count all functions alike.
    """

    def __init__(
        self, learning: LearningConfig, expected: Mapping[int, float] | None = None, *, n_redrawn: int = 0
    ) -> None:
        self._learning = learning
        self._gram: dict[tuple[int, int], Tensor] = {}
        self._moment: dict[int, Tensor] = {}
        self._square = 0.0
        self.expected = dict(expected or {})
        self._n_structures = 0
        self._n_equations = 0
        self._n_fitted = 0
        self.n_redrawn = n_redrawn

    def ripe(self, n_remembered: int, *, is_full: bool) -> bool:
        """Whether it is time to draw features by relevance (again), while everything summed is remembered.

        Args:
            n_remembered: Structures that can be summed and are remembered.
            is_full: Whether some of them may be forgotten before it is asked again.
        """
        if self.n_redrawn == len(RIPE):
            return False
        enough = (FEWEST if is_full else RIPE)[self.n_redrawn]
        return enough <= self._n_structures == n_remembered

    def keep(self, n_features: int) -> None:
        """Forget all but the first features of each element."""
        self._gram = {pair: block[:n_features, :n_features].contiguous() for pair, block in self._gram.items()}
        self._moment = {z: moment[:n_features] for z, moment in self._moment.items()}

    @torch.no_grad()
    def add(self, batch: Batch, above: Float[Tensor, "S"], features: Mapping[int, Features], sign: int = 1) -> None:
        """Add the labels of a batch to the sums, or take them out.

        Args:
            batch: The structures; labels that are missing (NaN) add nothing.
            above: Energies above the baseline in eV; NaN where missing.
            features: Of every element of the batch.
            sign: 1: add; -1: take out what was added before.
        """
        self._n_structures += sign * batch.n_structures
        self._add_atoms(batch, features, sign)
        alike: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        first = 0
        for index, descriptors in enumerate(batch.descriptors):
            atoms = slice(first, first + len(descriptors.values))
            first = atoms.stop
            numbers = batch.atomic_numbers[atoms]
            elements = tuple(sorted(set(numbers.tolist())))
            energy, forces = _design(descriptors, numbers, [(z, features[z]) for z in elements])
            by_energy = (batch.weight[index].double() * ENERGY_FACTOR * self._learning.energy_weight).sqrt() / len(
                numbers
            )
            given = batch.forces[atoms].flatten().double()
            n_given = given.isfinite().sum().clamp_min(1)
            by_force = (batch.weight[index].double() * self._learning.force_weight / n_given).sqrt()
            rows = torch.cat([energy[None].double() * by_energy, forces.double() * by_force])
            labels = torch.cat([above[index, None] * by_energy, given * by_force])
            known = labels.isfinite() & rows.isfinite().all(dim=1)
            parts = alike.setdefault(elements, [])
            parts.append((rows[known], labels[known]))
            if sum(len(part) for part, _ in parts) > EQUATIONS_TOGETHER:
                self._sum(elements, alike.pop(elements), sign)
        for elements, parts in alike.items():
            self._sum(elements, parts, sign)

    def due(self) -> bool:
        """Whether enough has come since all coefficients were fitted, or something was taken out."""
        n_coefficients = sum(len(moment) for moment in self._moment.values())
        return self._n_equations - self._n_fitted > min(PER_COEFFICIENT * n_coefficients, OF_ALL * self._n_equations)

    @torch.no_grad()
    def solve(self, elements: Collection[int], coefficients: Mapping[int, Tensor]) -> dict[int, Float[Tensor, "F"]]:
        """The best coefficients of some elements in eV, float64; none where nothing was added yet.

        Args:
            elements: Atomic numbers of those that are fitted.
            coefficients: Of every element; those of the others stay what they are.
        """
        fitted = sorted(self._moment.keys() & set(elements))
        if not fitted:
            return {}
        moments = {z: self._moment[z].clone() for z in fitted}
        for (one, other), block in sorted(self._gram.items(), key=itemgetter(0)):
            if one in moments and other not in moments:
                moments[one] -= block @ coefficients[other].double()
            elif other in moments and one not in moments:
                moments[other] -= block.T @ coefficients[one].double()
        n_features = len(moments[fitted[0]])
        triangle = self._triangle(self._matrix(fitted, n_features))
        solution = torch.cholesky_solve(torch.cat(list(moments.values()))[:, None], triangle)[:, 0]
        if len(fitted) == len(self._moment):
            self._n_fitted = self._n_equations
        return dict(zip(fitted, torch.split(solution, n_features), strict=True))

    @torch.no_grad()
    def deviations(self, draws: Mapping[int, Float[Tensor, "U M"]]) -> dict[int, Float[Tensor, "U M"]]:
        """By how much the coefficients of the first features may differ, for all that was learned, in eV, float64.

        Samples of what Bayesian linear regression leaves open, σ A^(-1/2) z, where A is XᵀX with the ridge, σ² the mean
        squared residual of the first features alone, and z are standard normal numbers (Bishop 2006, Pattern
        Recognition and Machine Learning, section 3.3).

        Args:
            draws: z for each element, 0 on average over the members.
        """
        fitted = sorted(self._moment)
        if not fitted:
            return {}
        n_features = len(draws[fitted[0]])
        triangle = self._triangle(self._matrix(fitted, n_features))
        moment = torch.cat([self._moment[z][:n_features] for z in fitted])
        learned = float(moment @ torch.cholesky_solve(moment[:, None], triangle)[:, 0])
        residual = sqrt(max(0.0, self._square - learned) / max(1, self._n_equations))
        normal = torch.cat([draws[z] for z in fitted]).to(triangle)
        sampled = residual * torch.linalg.solve_triangular(triangle.T, normal, upper=True)
        return dict(zip(fitted, torch.split(sampled, n_features), strict=True))

    def _matrix(self, elements: Sequence[int], n_features: int) -> Float[Tensor, "K K"]:
        """XᵀX of the first features of some elements; its lower triangle and diagonal blocks alone."""
        places = {z: slice(place * n_features, (place + 1) * n_features) for place, z in enumerate(elements)}
        matrix = self._moment[elements[0]].new_zeros(n_features * len(elements), n_features * len(elements))
        for (one, other), block in self._gram.items():
            if one in places and other in places:
                matrix[places[other], places[one]] = block[:n_features, :n_features].T
        return matrix

    def _triangle(self, matrix: Float[Tensor, "K K"]) -> Float[Tensor, "K K"]:
        """`lower_cholesky` of a matrix with the ridge, which grows where rounding leaves it not positive."""
        diagonal = matrix.diagonal()
        ridge, added = self._learning.ridge + ROUNDING * float(diagonal.sum().abs()), 0.0
        while True:
            diagonal += ridge - added
            triangle = lower_cholesky(matrix)
            if triangle is not None:
                return triangle
            ridge, added = 10 * ridge, ridge

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything that `load_state_dict` needs, as flat arrays by name."""
        sums = {f"gram.{one}.{other}": block for (one, other), block in self._gram.items()}
        sums |= {f"moment.{z}": moment for z, moment in self._moment.items()}
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in sums.items()}
        arrays |= {f"expected.{z}": np.array(energy) for z, energy in self.expected.items()}
        counts = [self._n_structures, self._n_equations, self._n_fitted, self.n_redrawn]
        return {"counts": np.array(counts, dtype=np.int64), "square": np.array(self._square), **arrays}

    def load_state_dict(self, state: Mapping[str, np.ndarray], device: torch.device) -> None:
        """Take over what `state_dict` wrote."""
        self._n_structures, self._n_equations, self._n_fitted, self.n_redrawn = map(int, state["counts"])
        self._square = float(state["square"])
        for name, array in state.items():
            room, *elements = name.split(".")
            if room == "gram":
                self._gram[int(elements[0]), int(elements[1])] = torch.tensor(array, device=device)
            elif room == "moment":
                self._moment[int(elements[0])] = torch.tensor(array, device=device)
            elif room == "expected":
                self.expected[int(elements[0])] = float(array)

    def _sum(self, elements: Sequence[int], equations: Sequence[tuple[Tensor, Tensor]], sign: int) -> None:
        rows, labels = (torch.cat(parts) for parts in zip(*equations, strict=True))
        self._n_equations += sign * len(rows)
        self._square += sign * float(labels @ labels)
        if sign < 0:
            self._n_fitted = 0
        parts = dict(zip(elements, rows.chunk(len(elements), dim=1), strict=True))
        for one, other in combinations_with_replacement(elements, 2):
            sums = self._sums(one, other, parts[one])
            product(parts[one].T[None], parts[other][None], out=sums[None], keep=1, factor=sign)
        for z, part in parts.items():
            self._moment[z].addmv_(part.T, labels, alpha=sign)

    def _add_atoms(self, batch: Batch, features: Mapping[int, Features], sign: int) -> None:
        """Add, or take out, that each atom is expected to have the energy of its element."""
        by_atom = (batch.weight.double() * ATOM / batch.n_atoms).sqrt()[batch.structure_index]
        for z, atoms in batch.atoms_of.items():
            weights = by_atom[atoms]
            self._square += sign * float(weights @ weights) * self.expected[z] ** 2
            rows = features[z].evaluate(batch.values[atoms]).double() * weights[:, None]
            product(rows.T[None], rows[None], out=self._sums(z, z, rows)[None], keep=1, factor=sign)
            self._moment[z].addmv_(rows.T, weights, alpha=sign * self.expected[z])

    def _sums(self, one: int, other: int, rows: Tensor) -> Tensor:
        n_features = rows.shape[1]
        self._moment.setdefault(one, rows.new_zeros(n_features))
        return self._gram.setdefault((one, other), rows.new_zeros(n_features, n_features))


def _design(
    descriptors: Descriptors, numbers: Tensor, features: Sequence[tuple[int, Features]]
) -> tuple[Float[Tensor, "K"], Float[Tensor, "A*3 K"]]:
    """Energy and forces of a structure by each coefficient: those of the first element of `features` come first.

    F_j = Σ_i (dE_j/dr_ji − dE_i/dr_ij), as `potential.forces` says.
    """
    n_atoms, n_radial = len(numbers), descriptors.radial.shape[2]
    energies, forces = [], []
    for z, of_element in features:
        atoms = torch.nonzero(numbers == z)[:, 0]
        values = of_element.evaluate(descriptors.values[atoms])
        slopes = 1 - values.square()
        by_position = values.new_zeros(n_atoms, 3, values.shape[1])
        for some, slope in zip(torch.split(atoms, ATOMS_TOGETHER), torch.split(slopes, ATOMS_TOGETHER), strict=True):
            directions = of_element.directions.expand(len(some), -1, -1)
            units, by_distance = descriptors.units[some], product(descriptors.radial[some], directions[:, :n_radial])
            by_vector = product(descriptors.angular[some].transpose(1, 2), directions[:, n_radial:])
            by_vector = by_vector.view(*units.shape, by_vector.shape[2])
            by_vector.addcmul_(units[..., None], by_distance[:, None]).mul_(slope[:, None, None])
            by_position[some] += by_vector.sum(dim=2)
            ends = descriptors.neighbor_index[some].flatten()
            by_position.index_add_(0, ends, by_vector.transpose(1, 2).flatten(0, 1), alpha=-1)
        energies.append(values.sum(dim=0))
        forces.append(by_position.flatten(0, 1))
    return torch.cat(energies), torch.cat(forces, dim=1)
