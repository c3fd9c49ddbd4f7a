"""How much the linear part counts beside the networks: what would have been best on structures that neither learned.

Of forces F with networks N and linear part L, |(1 − s) N + s L − F|² is least at s = Σ (L − N)·(F − N) / Σ |L − N|².
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

PRIOR = 10.0
"""The configured share counts as much as so many structures."""
SPAN = 200.0
"""Newest structures that count: what networks know changes with every step."""


class FittedShare:
    """The best share, from sums over the newest structures that were held out.

    Args:
        start: The share where nothing is held out.
    """

    def __init__(self, start: float) -> None:
        self._start = start
        self._n = 0.0
        self._along = 0.0
        self._square = 0.0

    @property
    def value(self) -> float:
        """Between 0 (networks alone) and 1 (linear part alone)."""
        if not self._square:
            return self._start
        best = (self._n * self._along / self._square + PRIOR * self._start) / (self._n + PRIOR)
        return min(1.0, max(0.0, best))

    def add(
        self, of_networks: Float[np.ndarray, "A 3"], of_linear_part: Float[np.ndarray, "A 3"], n_structures: int
    ) -> None:
        """Take some structures into account.

        Args:
            of_networks: Errors of the networks' mean forces in eV/Å; NaN where the label is missing.
            of_linear_part: Those of the linear part.
            n_structures: How many structures these are.
        """
        apart = of_linear_part.astype(np.float64) - of_networks
        kept = np.exp(-n_structures / SPAN)
        self._n = kept * self._n + n_structures
        self._along = kept * self._along - float(np.nansum(apart * of_networks))
        self._square = kept * self._square + float(np.nansum(apart**2))

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything that `load_state_dict` needs."""
        return {"sums": np.array([self._n, self._along, self._square])}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `state_dict` wrote."""
        self._n, self._along, self._square = (float(total) for total in state["sums"])
