"""Accuracy on a data set: the learner itself, with all labels present from the start."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

import numpy as np

from lmlp_stream.atoms.batch import Example, collate
from lmlp_stream.atoms.elements import SYMBOLS
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.atoms.symmetry import SymmetryFunctions
from lmlp_stream.cli.bench.data_sets import DataSet, atomic_energies
from lmlp_stream.cli.bench.elements import check_elements
from lmlp_stream.cli.evaluate import determined, labelled_structures
from lmlp_stream.config import Config, load_config
from lmlp_stream.errors import UsageError
from lmlp_stream.learning.evaluation import error_rows, summary
from lmlp_stream.learning.learner import Learner, portions
from lmlp_stream.learning.reservoir import hold_out_salt, is_held_out
from lmlp_stream.learning.residuals import Residuals
from lmlp_stream.potential.ensemble import Ensemble, Prediction

Structures = Sequence[LabelledStructure]

LEAST_STEPS = 20_000
"""A thousand labels of one molecule are learned to the end in about so many steps; in a stream they buy fewer."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One data set with its settings, read and ready.

    Attributes:
        data: Where it came from.
        settings: What varies, as `section.key=value`.
        config: Of the learner; it takes all labels in one tick.
        train: Structures that are learned, but those that it holds out.
        test: Structures that are predicted afterwards.
    """

    data: DataSet
    settings: tuple[str, ...]
    config: Config
    train: Structures
    test: Structures

    @property
    def n_steps(self) -> int:
        """Optimizer steps."""
        return self.config.learning.max_steps_per_tick


def prepare(
    data: DataSet, path: Path | None, common: Sequence[str], varied: Sequence[str], steps: int | None = None
) -> Run:
    """A run of a data set.

    Args:
        data: The data set; its own settings lie over those of the file.
        path: Configuration file; None: the defaults.
        common: Settings over those.
        varied: Settings over all others.
        steps: Optimizer steps; None: those of the data set, or what its labels buy and at least `LEAST_STEPS`.

    Raises:
        ConfigError: A key or value is wrong.
        UsageError: A file cannot be read, a structure has no labels or holds an element that is not let in or not
            learned, or nothing is left to learn or to predict.
    """
    config = load_config(path, (*data.settings, *common, *varied))
    if data.atomic_energies:
        given = {**atomic_energies(data.atomic_energies), **config.potential.atomic_energies}
        config = _with(config, "potential", atomic_energies=given)
    train, test = _split(data, f"{config.seed}/bench")
    check_elements((*train, *test), config.wire, place=data.name, setting="wire.elements=extended")
    _check_learned(data, train, test, config)
    n_labels = len({structure.id for structure in train})
    n_steps = steps or data.steps or max(LEAST_STEPS, floor(config.learning.steps_per_record * n_labels))
    config = _with(config, "learning", steps_per_record=n_steps, max_steps_per_tick=n_steps)
    config = _with(config, "quarantine", enabled=False)
    config = _with(config, "rehearsal", capacity=max(n_labels, config.rehearsal.capacity))
    return Run(data, tuple(varied), config, train, test)


def measure(run: Run, advance: Callable[[], None]) -> dict[str, Any]:
    """The figures of a run, by name; `advance` is called after each optimizer step."""
    learner = Learner(run.config)
    start = time.process_time()
    learner.process_tick(run.train, observe=lambda _: advance())
    cpu_s = time.process_time() - start
    return {
        "set": run.data.name,
        "settings": list(run.settings),
        "n_train": learner.labels_learned,
        "n_test": len(run.test),
        "members": run.config.potential.members,
        "n_functions": learner.ensemble.spec.n_functions,
        "steps": learner.n_steps,
        "cpu_minutes": cpu_s / 60,
        "test": errors(learner.ensemble, run.test),
        "train": errors(learner.ensemble, learner.remembered),
    }


def errors(ensemble: Ensemble, structures: Structures) -> dict[str, float]:
    """Errors of the ensemble, and as `member_*` those of one member alone, averaged over the members.

    Energies in meV per atom and (`*_mev`) per structure, forces in meV/Å. What does not follow from the compositions
    that were learned is left out of the energies.
    """
    structures = determined(ensemble, structures)
    functions = SymmetryFunctions(ensemble.spec, dtype=ensemble.dtype, device=ensemble.device)
    together, alone = [], []
    for some in portions(structures):
        batch = collate([Example(structure, functions.evaluate(structure)) for structure in some])
        prediction = ensemble.predict(batch)
        together.append(error_rows(Residuals.of(prediction, batch)))
        alone.append([error_rows(Residuals.of(member, batch)) for member in _members(prediction)])
    n_atoms = np.array([structure.n_atoms for structure in structures])
    members = [_named(np.concatenate(rows), n_atoms) for rows in zip(*alone, strict=True)]
    figures = _named(np.concatenate(together), n_atoms)
    return {**figures, **{f"member_{name}": float(np.mean([own[name] for own in members])) for name in figures}}


def _split(data: DataSet, salt: str) -> tuple[Structures, Structures]:
    """The structures of the files; without a test file, groups are drawn by lot and held out of the training file."""
    train = list(labelled_structures(data.train))
    if data.test:
        test = list(labelled_structures(data.test))
    else:
        held = {structure.id for structure in train if is_held_out(structure, data.hold_out, salt)}
        test = [structure for structure in train if structure.id in held]
        train = [structure for structure in train if structure.id not in held]
    if not train or not test:
        raise UsageError(
            f"{data.name}: {len(train)} structures to learn and {len(test)} to predict; "
            "give a test file, or hold out another share"
        )
    return train, test


def _check_learned(data: DataSet, train: Structures, test: Structures, config: Config) -> None:
    salt, share = hold_out_salt(config.seed), config.rehearsal.holdout_share
    learned = [structure for structure in train if not is_held_out(structure, share, salt)]
    unknown = sorted(_elements(test) - _elements(learned))
    if unknown:
        symbols = ", ".join(SYMBOLS[z] for z in unknown)
        raise UsageError(
            f"{data.name}: {symbols} must be predicted but no structure that is learned contains it; "
            f"add some to {data.train}, leave it out of the test, or, as what is held out while learning does not "
            "count, set rehearsal.holdout_share=0"
        )


def _elements(structures: Structures) -> set[int]:
    return {int(z) for structure in structures for z in structure.atomic_numbers}


def _with(config: Config, section: str, **values: object) -> Config:
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def _members(prediction: Prediction) -> Iterator[Prediction]:
    for arrays in zip(prediction.energy, prediction.forces, prediction.stress, strict=True):
        yield Prediction(*(array[None] for array in arrays))


def _named(rows: np.ndarray, n_atoms: np.ndarray) -> dict[str, float]:
    found = summary(rows)
    of_structure = 1000 * rows["energy_error"] * n_atoms
    return {
        "energy_rmse_mev_per_atom": 1000 * found.energy_rmse,
        "energy_mae_mev_per_atom": 1000 * found.energy_mae,
        "energy_rmse_mev": float(np.sqrt(np.nanmean(of_structure**2))),
        "energy_mae_mev": float(np.nanmean(np.abs(of_structure))),
        "force_rmse_mev_per_angstrom": 1000 * found.force_rmse,
        "force_mae_mev_per_angstrom": 1000 * found.force_mae,
    }
