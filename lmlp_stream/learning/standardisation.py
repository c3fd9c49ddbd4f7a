"""Mean and spread of an element's symmetry functions over all its atoms so far, in constant memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Atoms:
    """Moments of the symmetry functions of some atoms of one element, float64 on the CPU.

    Two sets of atoms join exactly (Chan, Golub & LeVeque 1983, doi 10.1080/00031305.1983.10483115).

    Attributes:
        n: Number of atoms.
        n_standardised: How many there were when the element was last standardised.
        mean: Of each symmetry function.
        squares: Sum of squared deviations from the mean of each.
    """

    n: int
    n_standardised: int
    mean: Float[Tensor, "D"]
    squares: Float[Tensor, "D"]

    @classmethod
    def of(cls, values: Float[Tensor, "n D"]) -> Self:
        """The moments of atoms that an element is standardised to."""
        values = values.detach().cpu().double()
        mean = values.mean(dim=0)
        return cls(len(values), len(values), mean, (values - mean).square().sum(dim=0))

    @property
    def spread(self) -> Float[Tensor, "D"]:
        """Standard deviation of each symmetry function."""
        return (self.squares / self.n).sqrt()

    def joined(self, newer: "Atoms") -> "Atoms":
        """The moments of these and of newer atoms, which the element is not standardised to."""
        n, apart = self.n + newer.n, newer.mean - self.mean
        mean = self.mean + apart * (newer.n / n)
        squares = self.squares + newer.squares + apart.square() * (self.n * newer.n / n)
        return Atoms(n, self.n_standardised, mean, squares)

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> Self:
        """The moments that `asdict` gave as tensors."""
        return cls(int(state["n"]), int(state["n_standardised"]), state["mean"], state["squares"])
