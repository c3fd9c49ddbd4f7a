"""What a report shows: figures gathered from the history, the log and a test file, ready to draw."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from lmlp_stream.cli.report.history import History


@dataclass(frozen=True, slots=True)
class RequestMark:
    """One label request as it stands in the log.

    Attributes:
        time: When it was asked, unix s.
        uncertainty: Largest uncertainty of a force component in eV/Å; NaN where an element is unknown.
        requester: Who asked.
    """

    time: float
    uncertainty: float
    requester: str


@dataclass(frozen=True, slots=True, eq=False)
class TestFigures:
    """A snapshot on structures that never came to be learned, S structures and F force components.

    Attributes:
        file: Where the structures came from.
        snapshot_id: The snapshot.
        domains: Domain of each structure.
        energies: Reference energy per atom in eV, relative to the mean of its domain; NaN where no learned composition
            determines what is predicted.
        predicted_energies: Predicted likewise, relative to the same mean.
        forces: Reference force components in eV/Å.
        predicted_forces: Predicted ones.
        forces_disagreement: Standard deviation of the members in eV/Å.
        forces_uncertainty: Half width of the calibrated 90 % interval, as a simulation sees it, in eV/Å; NaN: none.
        component_structure: Index of the structure each component belongs to.
        n_learned: Structures of the file that came to be learned; they are left out.
        n_held_out: Structures among the S that the learner holds out.
        n_uncompared: Labels of the learner of which nobody can tell whether they are among the S.
    """

    __test__ = False

    file: str
    snapshot_id: str
    domains: tuple[str, ...]
    energies: Float[np.ndarray, "S"]
    predicted_energies: Float[np.ndarray, "S"]
    forces: Float[np.ndarray, "F"]
    predicted_forces: Float[np.ndarray, "F"]
    forces_disagreement: Float[np.ndarray, "F"]
    forces_uncertainty: Float[np.ndarray, "F"]
    component_structure: Float[np.ndarray, "F"]
    n_learned: int = 0
    n_held_out: int = 0
    n_uncompared: int = 0

    @property
    def is_determined(self) -> Bool[np.ndarray, "S"]:
        """Whether the energy of each structure is determined."""
        known: np.ndarray = ~np.isnan(self.energies)
        return known

    @property
    def energy_rmse(self) -> float | None:
        """Root mean squared error per atom in eV of the energies that are determined; None where none is."""
        return self._energy_rmse(self.is_determined)

    @property
    def force_rmse(self) -> float:
        """Root mean squared force component error in eV/Å."""
        return rms(self.predicted_forces - self.forces)

    def errors_by_domain(self) -> dict[str, tuple[float | None, float]]:
        """Energy RMSE per atom in eV, None where no energy is determined, and force RMSE in eV/Å of each domain."""
        domains = np.array(self.domains)
        component_domains = domains[self.component_structure.astype(np.int64)]
        return {
            str(domain): (
                self._energy_rmse(self.is_determined & (domains == domain)),
                rms((self.predicted_forces - self.forces)[component_domains == domain]),
            )
            for domain in np.unique(domains)
        }

    def _energy_rmse(self, chosen: Bool[np.ndarray, "S"]) -> float | None:
        return rms((self.predicted_energies - self.energies)[chosen]) if chosen.any() else None


@dataclass(frozen=True, slots=True)
class ReportFigures:
    """Everything on one page.

    Attributes:
        title: Name of the learner.
        level_of_theory: What it learns.
        further_levels: What it learns beside it and does not examine.
        history: What its conductor wrote.
        requests: Label requests in the order they were asked.
        rejections: Number of dead letters by reason.
        rejection_example: One detail per reason.
        test: A snapshot on a test file, if there is one.
        config: The configuration as text.
    """

    title: str
    level_of_theory: str
    history: History
    further_levels: tuple[str, ...] = ()
    requests: tuple[RequestMark, ...] = ()
    rejections: Mapping[str, int] = field(default_factory=dict)
    rejection_example: Mapping[str, str] = field(default_factory=dict)
    test: TestFigures | None = None
    config: str = ""


def rms(values: Float[np.ndarray, "..."]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))
