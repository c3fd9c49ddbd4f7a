"""A snapshot on the labelled structures of a file: errors and uncertainties, component by component.

What the learner has learned is no test. Ids tell it: they are hashes of the label, or of the geometry that a simulation
asked about, but those that a publisher made up.
"""

import re
from itertools import product
from math import nan
from pathlib import Path

import numpy as np
from jaxtyping import Float

from lmlp_stream.atoms.batch import Example, collate
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.atoms.symmetry import SymmetryFunctions
from lmlp_stream.cli.evaluate import determined, labelled_structures
from lmlp_stream.cli.report.figures import TestFigures
from lmlp_stream.cli.report.history import History
from lmlp_stream.cli.terminal import counted
from lmlp_stream.config import Config
from lmlp_stream.errors import UsageError
from lmlp_stream.farm.labels import Labels
from lmlp_stream.farm.naming import structure_id
from lmlp_stream.potential.device import prepare_cpu
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.potential.uncertainty import Intervals
from lmlp_stream.store.snapshot import load
from lmlp_stream.wire.announcement import SnapshotManifest
from lmlp_stream.wire.request import request_id

_HASH = re.compile("[0-9a-f]{64}")


def examine_snapshot(manifest: SnapshotManifest, config: Config, test: Path, history: History) -> TestFigures:
    """The snapshot on the structures of a test file, but those that came to be learned.

    Raises:
        UsageError: The file cannot be read, lacks labels, or has no structure whose elements the snapshot knows and
            that did not come to be learned.
        DamagedStoreError: The snapshot is damaged.
    """
    prepare_cpu(config.potential.threads)
    manifest, ensemble = load(manifest)
    functions = SymmetryFunctions(ensemble.spec, ensemble.dtype, ensemble.device)
    covered = [s for s in labelled_structures(test) if ensemble.covers(s.atomic_numbers)]
    if not covered:
        raise UsageError(f"{test} has no labelled structure whose elements snapshot {manifest.id[:12]} knows")
    learned = {arrival.id for arrival in history.arrivals if not arrival.held_out}
    unlearned = [(s, ids) for s in covered if learned.isdisjoint(ids := _ids(s, config))]
    if not unlearned:
        raise UsageError(
            f"{test}: {counted(len(covered), 'structure')} of known elements, all of which came to {config.name} to be "
            "learned; name a file with others"
        )
    structures = [structure for structure, _ in unlearned]
    held_out = {arrival.id for arrival in history.arrivals if arrival.held_out}
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
        n_learned=len(covered) - len(structures),
        n_held_out=sum(not held_out.isdisjoint(ids) for _, ids in unlearned),
        n_uncompared=_n_uncompared(history),
    )


def domain_means(energies: Float[np.ndarray, "S"], domains: tuple[str, ...]) -> Float[np.ndarray, "S"]:
    """Mean of the energies that are known in the domain that each structure belongs to; NaN where none is."""
    names, known = np.array(domains), ~np.isnan(energies)
    means = {name: energies[known & (names == name)].mean() for name in set(names[known])}
    return np.array([means.get(name, nan) for name in domains])


def _ids(structure: LabelledStructure, config: Config) -> set[str]:
    """Every id under which the label, or some of what it says, can have come."""
    level = config.wire.level_of_theory
    energies, forces = (structure.energy, nan), (structure.forces, np.full_like(structure.forces, nan))
    labels = [Labels(*given) for given in product(energies, forces, (structure.stress, None))]
    return {request_id(structure), *(structure_id(structure, some, level) for some in labels)}


def _n_uncompared(history: History) -> int:
    """Labels whose id is no hash, or of which the history does not know."""
    ids = [arrival.id for arrival in history.arrivals if not arrival.held_out]
    n_hashes = sum(_HASH.fullmatch(id_) is not None for id_ in ids)
    return max(len(ids) - n_hashes, history.labels_learned - n_hashes)


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
