"""A snapshot on the labelled structures of a file: errors and uncertainties, component by component."""

from math import nan
from pathlib import Path

import numpy as np
from jaxtyping import Float

from lmlp_stream.atoms.batch import Example, collate
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.atoms.symmetry import SymmetryFunctions
from lmlp_stream.cli.evaluate import determined, labelled_structures
from lmlp_stream.cli.learn import set_threads
from lmlp_stream.cli.report.figures import TestFigures
from lmlp_stream.config import Config
from lmlp_stream.errors import UsageError
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.potential.uncertainty import Intervals
from lmlp_stream.store.snapshot import load
from lmlp_stream.wire.announcement import SnapshotManifest


def examine_snapshot(manifest: SnapshotManifest, config: Config, test: Path) -> TestFigures:
    """The snapshot on the structures of a test file.

    Raises:
        UsageError: The file cannot be read, lacks labels, or has no structure whose elements the snapshot knows.
        DamagedStoreError: The snapshot is damaged.
    """
    set_threads(config)
    manifest, ensemble = load(manifest)
    functions = SymmetryFunctions(ensemble.spec, ensemble.dtype, ensemble.device)
    structures = [s for s in labelled_structures(test) if ensemble.covers(s.atomic_numbers)]
    if not structures:
        raise UsageError(f"{test} has no labelled structure whose elements snapshot {manifest.id[:12]} knows")
    intervals = Intervals.read(manifest.calibration)
    predictions = [_predict(ensemble, functions, structure) for structure in structures]
    disagreement = np.concatenate([spread for _, _, spread in predictions])
    energy_std = np.full(len(structures), nan)
    atomic_numbers = np.concatenate([structure.atomic_numbers for structure in structures])
    widths = intervals.widths(energy_std, disagreement.reshape(-1, 3), atomic_numbers)
    domains = tuple(structure.domain for structure in structures)
    energies = np.array([structure.energy / structure.n_atoms for structure in determined(ensemble, structures)])
    predicted = np.array([energy / s.n_atoms for (energy, _, _), s in zip(predictions, structures, strict=True)])
    origin = domain_means(energies, domains)
    return TestFigures(
        file=test.name,
        snapshot_id=manifest.id,
        domains=domains,
        energies=energies - origin,
        predicted_energies=predicted - origin,
        forces=np.concatenate([structure.forces.ravel() for structure in structures]),
        predicted_forces=np.concatenate([forces for _, forces, _ in predictions]),
        forces_disagreement=disagreement,
        forces_uncertainty=widths.forces.ravel(),
        component_structure=np.repeat(np.arange(len(structures)), [3 * s.n_atoms for s in structures]),
    )


def domain_means(energies: Float[np.ndarray, "S"], domains: tuple[str, ...]) -> Float[np.ndarray, "S"]:
    """Mean of the energies that are known in the domain that each structure belongs to; NaN where none is."""
    names, known = np.array(domains), ~np.isnan(energies)
    means = {name: energies[known & (names == name)].mean() for name in set(names[known])}
    return np.array([means.get(name, nan) for name in domains])


def _predict(
    ensemble: Ensemble, functions: SymmetryFunctions, structure: LabelledStructure
) -> tuple[float, Float[np.ndarray, "F"], Float[np.ndarray, "F"]]:
    """Energy in eV, force components in eV/Å, and the members' disagreement about them."""
    prediction = ensemble.predict(collate([Example(structure, functions.evaluate(structure))]))
    return (
        float(prediction.mean_energy[0]),
        prediction.mean_forces.double().cpu().numpy().ravel(),
        prediction.forces_disagreement.double().cpu().numpy().ravel(),
    )
