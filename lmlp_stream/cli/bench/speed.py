"""Speed of a training step, of a prediction and of the symmetry functions."""

from collections.abc import Callable, Sequence

import torch

from lmlp_stream.atoms.batch import Example, collate
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.cli.bench.elements import check_elements
from lmlp_stream.cli.bench.settings import BenchSettings
from lmlp_stream.cli.bench.timing import repeated, speed, timed
from lmlp_stream.cli.bench.workload import workload
from lmlp_stream.learning.trainer import Trainer
from lmlp_stream.potential.device import prepare_cpu
from lmlp_stream.simulate.evaluator import device_of


def fresh_trainer(settings: BenchSettings, structures: Sequence[LabelledStructure]) -> Trainer:
    """A trainer that knows the elements and the atomic energies of the structures and has learned nothing else.

    Raises:
        UsageError: There is no such device, or a structure holds an element that is not let in.
        ConfigError: Another setting is wrong.
    """
    prepare_cpu(settings.threads)
    config = settings.config(str(device_of(settings.device)))
    check_elements(structures, config.wire, place=settings.structures, setting="--elements extended")
    trainer = Trainer(config)
    first: dict[int, LabelledStructure] = {}
    for structure in structures:
        for z in structure.atomic_numbers:
            first.setdefault(int(z), structure)
    bringing = {structure.id: structure for structure in first.values()}.values()
    trainer.ensemble.baseline.fit(structures)
    trainer.add_elements(collate(_prepared(trainer, list(bringing))))
    return trainer


def train(settings: BenchSettings) -> dict[str, float]:
    """Figures of whole learning steps: collate, energies and forces of every member, their gradient, CoRe.

    Descriptors are kept, as those of remembered structures are.
    """
    structures = workload(settings.structures, settings.n_structures)
    trainer = fresh_trainer(settings, structures)
    examples = _prepared(trainer, structures)

    def learn() -> None:
        for first in range(0, len(examples), settings.batch):
            trainer.step(collate(examples[first : first + settings.batch]))

    return _figures(learn, structures, settings, trainer)


def infer(settings: BenchSettings) -> dict[str, float]:
    """Figures of energies and forces of every member: neighbors, descriptors, networks, fitted linear part."""
    structures = workload(settings.structures, settings.n_structures)
    trainer = fresh_trainer(settings, structures)
    trainer.linear_fit.absorb(collate(_prepared(trainer, structures)))
    trainer.linear_fit.fit((), at_once=True)
    potential = trainer.ensemble.folded()

    def predict() -> None:
        for first in range(0, len(structures), settings.batch):
            potential.predict(collate(_prepared(trainer, structures[first : first + settings.batch])))

    return _figures(predict, structures, settings, trainer)


def descriptor(settings: BenchSettings) -> dict[str, float]:
    """Figures of the symmetry functions and their derivatives, one structure after the other."""
    structures = workload(settings.structures, settings.n_structures)
    trainer = fresh_trainer(settings, structures)

    def describe() -> None:
        for structure in structures:
            trainer.functions.evaluate(structure)

    return _figures(describe, structures, settings, trainer)


def _prepared(trainer: Trainer, structures: Sequence[LabelledStructure]) -> list[Example]:
    return [Example(structure, trainer.functions.evaluate(structure)) for structure in structures]


def _figures(
    work: Callable[[], None], structures: Sequence[LabelledStructure], settings: BenchSettings, trainer: Trainer
) -> dict[str, float]:
    times = repeated(
        lambda: timed(finished(work, trainer.ensemble.device)), repeats=settings.repeats, seconds=settings.seconds
    )
    n_atoms = sum(structure.n_atoms for structure in structures)
    return speed(times, n_structures=len(structures), n_atoms=n_atoms)


def finished(work: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """`work`, ended only when the device has done it."""

    def wait() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return wait
