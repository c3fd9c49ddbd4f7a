"""Results of the calculator, in a form that ASE can copy anywhere.

Units: energy and energy uncertainty in eV, forces and their uncertainties in eV/Å, stress in eV/Å³ (tension positive,
Voigt order xx yy zz yz xz xy).
"""

from typing import Any

from ase.stress import full_3x3_to_voigt_6_stress

from lmlp_stream.simulate.evaluator import Evaluation

EXTRAS = ("energy_uncertainty", "forces_uncertainty", "snapshot_id")
"""What the results hold besides ASE's own properties."""


class Results(dict[str, Any]):
    """ASE's own properties as items; `EXTRAS` answer when asked for by name.

    ASE copies items into places that refuse names it does not know (`SinglePointCalculator`), so extras are found by
    `in`, `[]` and `get`, and passed over by iteration, `len` and `**`.
    """

    def __init__(self, properties: dict[str, Any], extras: dict[str, Any]) -> None:
        super().__init__(properties)
        self.extras = extras

    def __missing__(self, key: str) -> Any:
        return self.extras[key]

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self.extras

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a property or an extra, else `default`."""
        return super().get(key, self.extras.get(key, default))


def results_of(evaluation: Evaluation, snapshot_id: str) -> Results:
    """Everything a calculator knows after an evaluation."""
    properties: dict[str, Any] = {
        "energy": evaluation.energy,
        "free_energy": evaluation.energy,
        "forces": evaluation.forces,
    }
    if evaluation.stress is not None:
        properties["stress"] = full_3x3_to_voigt_6_stress(evaluation.stress)
    return Results(
        properties,
        {
            "energy_uncertainty": evaluation.energy_uncertainty,
            "forces_uncertainty": evaluation.forces_uncertainty,
            "snapshot_id": snapshot_id,
        },
    )
