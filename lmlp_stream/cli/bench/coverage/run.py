"""One stream through a learner: every label examined before it is learned, and the last snapshot on test structures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from lmlp_stream.atoms.batch import Example, collate
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.atoms.symmetry import SymmetryFunctions
from lmlp_stream.cli.bench.stream.domains import SALT, Domain
from lmlp_stream.config import Config
from lmlp_stream.learning.evaluation import error_rows, joined
from lmlp_stream.learning.learner import Learner, portions
from lmlp_stream.learning.reservoir import lot
from lmlp_stream.learning.residuals import Residuals


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """What one stream showed.

    Attributes:
        rows: `ERROR_ROW`s of the labels that could be predicted when they came, in their order.
        switches: Places in `rows` where another domain begins, ascending; none in a shuffled stream.
        tested: `ERROR_ROW`s of structures that were never seen, with the intervals of a snapshot at the end.
    """

    rows: np.ndarray
    switches: tuple[int, ...]
    tested: np.ndarray


def shuffled(domains: Sequence[Domain]) -> Domain:
    """All domains as one, groups in the order of their lots: near copies still come together."""
    learned = (structure for domain in domains for structure in domain.learned)
    return Domain(
        "all domains",
        tuple(sorted(learned, key=lambda item: lot(SALT, f"{item.domain}/{item.group_or_id}"))),
        tuple(structure for domain in domains for structure in domain.tested),
    )


def examine(domains: Sequence[Domain], config: Config, advance: Callable[[], None]) -> Examined:
    """The domains one after the other through a learner; `advance` is called after each tick."""
    learner = Learner(config)
    size = config.learning.records_per_tick
    rows, starts = [], []
    for domain in domains:
        of_domain = []
        for first in range(0, len(domain.learned), size):
            of_domain.append(learner.process_tick(domain.learned[first : first + size]).rows)
            advance()
        rows.append(joined(of_domain))
        starts.append(len(rows[-1]))
    tested = [structure for domain in domains for structure in domain.tested]
    return Examined(joined(rows), tuple(accumulate(starts))[:-1], _tested(learner, tested))


def _tested(learner: Learner, structures: Sequence[LabelledStructure]) -> np.ndarray:
    ensemble, intervals = learner.ensemble, learner.assess().intervals
    functions = SymmetryFunctions(ensemble.spec, ensemble.dtype, ensemble.device)
    known = [
        item for item in structures if ensemble.covers(item.atomic_numbers) and ensemble.determines(item.atomic_numbers)
    ]
    rows = []
    for some in portions(known):
        batch = collate([Example(item, functions.evaluate(item)) for item in some])
        found = Residuals.of(ensemble.predict(batch), batch)
        rows.append(error_rows(found, found.widths(intervals)))
    return joined(rows)
