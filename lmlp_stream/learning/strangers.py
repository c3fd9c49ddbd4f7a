"""Labels nothing can be predicted for wait here until others of their elements say that their energies can be right.

What comes first sets the reference energies of its elements for good, and where its networks begin: a label in another
unit there would spoil everything that follows.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from lmlp_stream.atoms.batch import composition_of
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.config import QuarantineConfig
from lmlp_stream.learning.columns import from_columns, in_room, to_columns
from lmlp_stream.potential.baseline import Baseline

FAR = 3.0
"""Energies per atom of structures of the same elements never differ by more, eV; other units do."""
PATIENCE = 64
"""A stranger that nothing supports waits for so many labels."""
PORTION = 64
"""Strangers that are compared with one another."""
MAJORITY = 3
"""Strangers of one composition of which a single wrong one is outvoted."""
REWEIGHTED = 50
"""Most passes of the robust fit."""
ALIKE = 1e-3
"""Deviations below this weigh alike in it, eV per atom."""
SPANNED = 1e-6
"""A composition whose share at right angles to others is smaller is spanned by them."""


class Strangers:
    """Structures that cannot be predicted, in the order they came; of bounded size.

    Args:
        config: Whether anything waits, and how much.
    """

    def __init__(self, config: QuarantineConfig) -> None:
        self._config = config
        self._waiting: dict[str, tuple[LabelledStructure, int]] = {}
        self._n_seen = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def structures(self) -> tuple[LabelledStructure, ...]:
        """Structures that wait, in the order they came."""
        return tuple(structure for structure, _ in self._waiting.values())

    def passing(
        self, new: Sequence[LabelledStructure], covers: Callable[[LabelledStructure], bool], baseline: Baseline
    ) -> list[LabelledStructure]:
        """Earlier strangers and arrivals that go on now, in the order they came; the others wait.

        Args:
            new: Arrivals.
            covers: Whether a structure can be predicted.
            baseline: Reference energies that are known.
        """
        if not self._config.enabled:
            return list(new)
        self._n_seen += len(new)
        earlier = self._waiting
        asked = [structure for structure in new if not (structure.vouched or np.isnan(structure.energy))]
        all_asked = {**earlier, **{structure.id: (structure, self._n_seen) for structure in asked}}
        strange = [structure for structure, _ in all_asked.values() if not covers(structure)]
        unsupported = [s.id for s, is_fine in zip(strange, supported(strange, baseline), strict=True) if not is_fine]
        patient = [id_ for id_ in unsupported if self._n_seen - all_asked[id_][1] < PATIENCE]
        stay = patient[max(0, len(patient) - self._config.capacity) :]
        self._waiting = {id_: all_asked[id_] for id_ in stay}
        came = [structure for structure, _ in earlier.values()] + list(new)
        return [structure for structure in came if structure.id not in self._waiting]

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything that `load_state_dict` needs."""
        return {
            "n_seen": np.array([self._n_seen], dtype=np.int64),
            "since": np.array([since for _, since in self._waiting.values()], dtype=np.int64),
            **{f"waiting.{name}": array for name, array in to_columns(list(self.structures)).items()},
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `state_dict` wrote; these strangers must be new."""
        self._n_seen = int(state["n_seen"][0])
        for structure, since in zip(from_columns(in_room(state, "waiting.")), state["since"], strict=True):
            self._waiting[structure.id] = (structure, int(since))


def supported(structures: Sequence[LabelledStructure], baseline: Baseline) -> list[bool]:
    """Of which structures the energy follows, to within `FAR` per atom, from the energies of all the others.

    Energies per atom above the baseline are fitted by atomic energies of what the baseline does not know, in the sense
    of least absolute deviations, so that a single wrong label among the others spoils nothing.
    """
    found: list[bool] = []
    for first in range(0, len(structures), PORTION):
        found += _supported(structures[first : first + PORTION], baseline)
    return found


def _supported(structures: Sequence[LabelledStructure], baseline: Baseline) -> list[bool]:
    if len(structures) < 2:
        return [False] * len(structures)
    n_atoms = np.array([structure.n_atoms for structure in structures], dtype=np.float64)
    compositions = np.array([composition_of(structure.atomic_numbers) for structure in structures])
    energies = np.array([structure.energy for structure in structures])
    above = baseline.above(energies, compositions) / n_atoms
    unknown = np.array([baseline.unknown_part(composition) for composition in compositions]) / n_atoms[:, None]
    unknown = unknown[:, unknown.any(axis=0)]
    residuals = above - unknown @ _least_absolute(unknown, above)
    distances = np.abs(residuals - np.median(residuals))
    n_alike = np.unique(compositions, axis=0, return_inverse=True, return_counts=True)
    is_majority = n_alike[2][n_alike[1].ravel()] >= MAJORITY
    return [
        bool(distances[place] <= FAR) if is_majority[place] else _follows(place, above, unknown)
        for place in range(len(structures))
    ]


def _follows(place: int, above: Float[np.ndarray, "S"], unknown: Float[np.ndarray, "S Z"]) -> bool:
    """Whether one energy follows from the others."""
    others = np.arange(len(above)) != place
    residuals = above - unknown @ _least_absolute(unknown[others], above[others])
    is_near = abs(residuals[place] - np.median(residuals[others])) <= FAR
    return bool(is_near) and _spans(unknown[others], unknown[place])


def _spans(rows: Float[np.ndarray, "S Z"], row: Float[np.ndarray, "Z"]) -> bool:
    inside = rows.T @ np.linalg.lstsq(rows.T, row, rcond=SPANNED)[0]
    return bool(np.linalg.norm(row - inside) <= SPANNED)


def _least_absolute(rows: Float[np.ndarray, "S Z"], values: Float[np.ndarray, "S"]) -> Float[np.ndarray, "Z"]:
    """Coefficients of least absolute deviations, by iteratively reweighted least squares.

    Source: Schlossmacher 1973, doi 10.1080/01621459.1973.10481336.
    """
    weights = np.ones(len(rows))
    fitted = np.zeros(rows.shape[1])
    for _ in range(REWEIGHTED):
        root = np.sqrt(weights)
        earlier, fitted = fitted, np.linalg.lstsq(rows * root[:, None], values * root, rcond=SPANNED)[0]
        if np.allclose(fitted, earlier, rtol=0.0, atol=ALIKE):
            break
        weights = 1.0 / np.maximum(np.abs(values - rows @ fitted), ALIKE)
    return fitted
