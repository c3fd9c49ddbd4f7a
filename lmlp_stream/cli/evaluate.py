"""Errors of a snapshot on the labelled structures of a file."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np

from lmlp_stream.atoms.batch import Example, collate
from lmlp_stream.atoms.elements import SYMBOLS
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.atoms.symmetry import SymmetryFunctions
from lmlp_stream.cli.terminal import counted, explain
from lmlp_stream.errors import UsageError
from lmlp_stream.farm.door import labelled
from lmlp_stream.farm.files import read_structures
from lmlp_stream.farm.labels import LabelFinder, Missing
from lmlp_stream.farm.naming import Naming
from lmlp_stream.learning.evaluation import calibration, error_rows, summary
from lmlp_stream.learning.residuals import Residuals
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.potential.uncertainty import Intervals

PREDICTED_TOGETHER = 16


def evaluate(ensemble: Ensemble, intervals: Intervals, path: Path, advance: Callable[[], None]) -> dict[str, Any]:
    """Errors of the ensemble mean on every labelled structure of a file; `advance` is called after each.

    `coverage_90_*` are the shares of labels inside the snapshot's calibrated intervals, `raw_coverage_90_*` those
    inside the normal 90 % interval of the members; what no label tells is left out. `n_without_forces` counts the
    structures of several atoms without forces on some or all of them, `n_energy_undetermined` those whose energy does
    not follow from the compositions that were learned; it is left out, too.

    Raises:
        UsageError: The file cannot be read, holds no labels, or an element that was never learned.
    """
    functions = SymmetryFunctions(ensemble.spec, dtype=ensemble.dtype, device=ensemble.device)
    potential = ensemble.folded()
    structures = labelled_structures(path, partly=True)
    rows, n_without_energy, n_without_forces = [], 0, 0
    while some := list(islice(structures, PREDICTED_TOGETHER)):
        for structure in some:
            _check_elements(ensemble, structure, path)
        n_without_energy += sum(isnan(structure.energy) for structure in some)
        some = determined(ensemble, some)
        batch = collate([Example(structure, functions.evaluate(structure)) for structure in some])
        found = Residuals.of(potential.predict(batch), batch)
        rows.append(error_rows(found, found.widths(intervals)))
        n_without_forces += sum(s.n_atoms > 1 and bool(np.isnan(s.forces).any()) for s in some)
        for _ in some:
            advance()
    if not rows:
        raise UsageError(f"{path} holds no structures; there is nothing to evaluate")
    every = np.concatenate(rows)
    errors, spread = summary(every), calibration(every)
    figures = {
        "energy_rmse_mev_per_atom": 1000 * errors.energy_rmse,
        "energy_mae_mev_per_atom": 1000 * errors.energy_mae,
        "force_rmse_mev_per_angstrom": 1000 * errors.force_rmse,
        "force_mae_mev_per_angstrom": 1000 * errors.force_mae,
        **spread.named(),
    }
    return {
        "n_structures": errors.n_structures,
        "n_without_energy": n_without_energy,
        "n_energy_undetermined": int(np.isnan(every["energy_error"]).sum()) - n_without_energy,
        "n_without_forces": n_without_forces,
        **{name: value for name, value in figures.items() if not np.isnan(value)},
    }


def explain_missing(errors: dict[str, Any]) -> None:
    """Say how many structures lack which label, and how many have an energy that is undetermined, if any does."""
    n_structures = counted(errors["n_structures"], "structure")
    lacking = {"the energy": errors["n_without_energy"], "forces on some or all atoms": errors["n_without_forces"]}
    said = [f"{count} without {label}" for label, count in lacking.items() if count]
    if said:
        explain(f"of {n_structures}, {' and '.join(said)}: the errors are those of the labels that are there")
    if errors["n_energy_undetermined"]:
        explain(
            f"of {n_structures}, {errors['n_energy_undetermined']} of a composition whose energy does not follow from "
            "those that were learned: energy errors are those of the others; publish labels of such compositions"
        )


def labelled_structures(path: Path, *, partly: bool = False) -> Iterator[LabelledStructure]:
    """The labelled structures of a file, one after the other.

    Args:
        path: The file.
        partly: Whether structures with an energy or forces alone are labelled.

    Raises:
        UsageError: The file cannot be read, or a structure is not labelled.
    """
    finder, naming = LabelFinder(), Naming()
    for number, atoms in enumerate(read_structures(path), start=1):
        place = f"{path}, structure {number}"
        labels = finder.find(atoms, place, partly=partly)
        if isinstance(labels, Missing):
            raise UsageError(f"{place} lacks {labels.clause}; name a file of structures with energies and forces")
        yield labelled(atoms, labels, naming, place=place, level_of_theory="", source="")


def determined(ensemble: Ensemble, structures: Iterable[LabelledStructure]) -> list[LabelledStructure]:
    """The structures, without energies (NaN) that do not follow from the compositions that were learned."""
    return [s if ensemble.determines(s.atomic_numbers) else replace(s, energy=nan) for s in structures]


def _check_elements(ensemble: Ensemble, structure: LabelledStructure, path: Path) -> None:
    unknown = sorted({int(z) for z in structure.atomic_numbers} - set(ensemble.elements))
    if unknown:
        raise UsageError(
            f"{path} contains {', '.join(SYMBOLS[z] for z in unknown)}, which this snapshot never learned; "
            "evaluate it on structures of its elements"
        )
