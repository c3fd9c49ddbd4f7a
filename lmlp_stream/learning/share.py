"""How much the linear part counts beside the networks: what is best on structures that neither of them learned.

Of forces F with networks N and linear part L, |(1 − s) N + s L − F|² is least at s = Σ (L − N)·(F − N) / Σ |L − N|².
The terms of each structure are divided by its |N − F|² + |L − F|², so that every structure counts alike, and a wrong
label next to nothing.
"""

from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Float

from lmlp_stream.learning.columns import read_text_column, text_column

PRIOR = 10.0
"""The configured share counts as much as so many structures."""


class FittedShare:
    """The best share, by the newest errors of each structure that is held out; of bounded size.

    Args:
        start: The share where nothing is held out.
    """

    def __init__(self, start: float) -> None:
        self._start = start
        self._terms: dict[str, tuple[float, float]] = {}

    @property
    def value(self) -> float:
        """Between 0 (networks alone) and 1 (linear part alone)."""
        along, square = map(sum, zip(*self._terms.values(), strict=True)) if self._terms else (0.0, 0.0)
        if not square:
            return self._start
        n = len(self._terms)
        return min(1.0, max(0.0, (n * along / square + PRIOR * self._start) / (n + PRIOR)))

    def add(self, id_: str, of_networks: Float[np.ndarray, "A 3"], of_linear_part: Float[np.ndarray, "A 3"]) -> None:
        """Take the errors of a structure into account, in the place of earlier ones.

        Args:
            id_: Of the structure.
            of_networks: Errors of the networks' mean forces in eV/Å; NaN where the label is missing.
            of_linear_part: Those of the linear part.
        """
        networks, linear = (errors[np.isfinite(errors)].astype(np.float64) for errors in (of_networks, of_linear_part))
        size = float(networks @ networks + linear @ linear) if len(networks) == len(linear) else 0.0
        if size and np.isfinite(size):
            apart = linear - networks
            self._terms[id_] = float(-(apart @ networks) / size), float(apart @ apart / size)

    def keep(self, ids: Collection[str]) -> None:
        """Leave out structures that are held out no longer."""
        self._terms = {id_: terms for id_, terms in self._terms.items() if id_ in ids}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything that `load_state_dict` needs."""
        return {"ids": text_column(list(self._terms)), "terms": np.array(list(self._terms.values())).reshape(-1, 2)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `state_dict` wrote."""
        terms = ((float(along), float(square)) for along, square in state["terms"])
        self._terms = dict(zip(read_text_column(state["ids"]), terms, strict=True))
