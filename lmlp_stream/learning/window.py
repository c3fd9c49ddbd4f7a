"""The newest examined structures, and their errors by domain, source and element."""

from collections.abc import Iterable, Mapping, Sequence
from math import sqrt

import numpy as np
from jaxtyping import Bool

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.learning.columns import read_text_column, text_column
from lmlp_stream.learning.evaluation import ERROR_ROW, Errors, Parts, joined, summary
from lmlp_stream.learning.residuals import Residuals

ELEMENT_ROW = np.dtype(
    [("place", "f8"), ("z", "f8"), ("force_squared", "f8"), ("force_absolute", "f8"), ("n_forces", "f8")]
)
"""Errors of the ensemble mean on the atoms of one element in one structure: the structure's place, the atomic number,
and sums over the labelled force components as in an `ERROR_ROW`."""


def element_rows(found: Iterable[Residuals], chosen: Bool[np.ndarray, "structures"]) -> np.ndarray:
    """Errors by element of the chosen structures, one `ELEMENT_ROW` for each structure and element in it.

    Args:
        found: Of batches, one after the other.
        chosen: Which of their structures count; places are counted among these.
    """
    rows, first = [np.zeros(0, dtype=ELEMENT_ROW)], 0
    for some in found:
        rows.append(_element_rows(some))
        rows[-1]["place"] += first
        first += len(some.energy)
    every = np.concatenate(rows)
    places = every["place"].astype(np.int64)
    every["place"] = (np.cumsum(chosen) - 1)[places]
    return np.compress(chosen[places], every)


class Window:
    """The newest structures that could be examined.

    Args:
        size: Most structures in the window.

    Attributes:
        rows: Their `ERROR_ROW`s.
        domains: Their domains.
        sources: Their sources.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self.rows = np.zeros(0, dtype=ERROR_ROW)
        self.domains: list[str] = []
        self.sources: list[str] = []
        self._elements = np.zeros(0, dtype=ELEMENT_ROW)

    def append(self, rows: np.ndarray, elements: np.ndarray, structures: Sequence[LabelledStructure]) -> None:
        """Add examined structures in their order; the oldest leave.

        Args:
            rows: Their `ERROR_ROW`s.
            elements: Their `ELEMENT_ROW`s, places counted from the first of them.
            structures: The structures.
        """
        added = elements.copy()
        added["place"] += len(self.rows)
        n_leaving = max(0, len(self.rows) + len(rows) - self._size)
        self.rows = joined([self.rows, rows])[n_leaving:]
        self.domains = [*self.domains, *(structure.domain for structure in structures)][n_leaving:]
        self.sources = [*self.sources, *(structure.source for structure in structures)][n_leaving:]
        self._elements = np.concatenate([self._elements, added])
        self._elements["place"] -= n_leaving
        self._elements = self._elements[self._elements["place"] >= 0]

    def parts(self) -> Parts:
        """Errors by domain, source and element."""
        return Parts(self._by(self.domains), self._by(self.sources), self._by_element())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything `load_state_dict` needs."""
        return {
            "rows": self.rows.view(np.float64).reshape(-1, len(ERROR_ROW.names or ())),
            "elements": self._elements.view(np.float64).reshape(-1, len(ELEMENT_ROW.names or ())),
            "domains": text_column(self.domains),
            "sources": text_column(self.sources),
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on where `state_dict` was written."""
        self.rows = _read(state["rows"], ERROR_ROW)
        self._elements = _read(state["elements"], ELEMENT_ROW)
        self.domains, self.sources = (read_text_column(state[name]) for name in ("domains", "sources"))

    def _by(self, names: Sequence[str]) -> dict[str, Errors]:
        column = np.array(names)
        return {name: summary(self.rows[column == name]) for name in dict.fromkeys(names)}

    def _by_element(self) -> dict[int, Errors]:
        return {int(z): _forces(self._elements[self._elements["z"] == z]) for z in np.unique(self._elements["z"])}


def _forces(rows: np.ndarray) -> Errors:
    n_forces = float(rows["n_forces"].sum())
    if not n_forces:
        return Errors(len(rows))
    return Errors(
        n_structures=len(rows),
        force_rmse=sqrt(float(rows["force_squared"].sum()) / n_forces),
        force_mae=float(rows["force_absolute"].sum()) / n_forces,
    )


def _element_rows(found: Residuals) -> np.ndarray:
    """`ELEMENT_ROW`s of one batch."""
    known = ~np.isnan(found.forces)
    keys = np.stack([found.structure_index, found.atomic_numbers], axis=1)
    pairs, place = np.unique(keys, axis=0, return_inverse=True)
    rows = np.zeros(len(pairs), dtype=ELEMENT_ROW)
    rows["place"], rows["z"] = pairs.T
    sums = {
        "force_squared": found.forces**2,
        "force_absolute": np.abs(found.forces),
        "n_forces": np.ones_like(found.forces),
    }
    for name, values in sums.items():
        rows[name] = np.bincount(place.ravel(), np.where(known, values, 0.0).sum(axis=1), minlength=len(pairs))
    return rows


def _read(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=np.float64).copy().view(dtype).reshape(-1)
