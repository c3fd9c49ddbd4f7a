"""What wrong labels do to a learner, and what its quarantine does to them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmlp_stream.atoms.elements import SYMBOLS
from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.cli.bench.accuracy import errors
from lmlp_stream.cli.bench.corrupting import CORRUPTIONS, corrupted
from lmlp_stream.config import Config
from lmlp_stream.farm.door import tried
from lmlp_stream.learning.learner import Learner
from lmlp_stream.wire.limits import Limits
from lmlp_stream.wire.rejection import Rejection

Structures = Sequence[LabelledStructure]


class Outcome:
    """A learner at the end of a stream, and what became of the labels.

    Attributes:
        learner: The learner.
        refused: Ids of the labels that were refused: at the door, or condemned later.
        waiting: Ids of the labels that were still in quarantine.
    """

    def __init__(self, config: Config, stream: Structures, advance: Callable[[], None]) -> None:
        self.learner = Learner(config)
        self.refused: set[str] = set()
        self.waiting: set[str] = set()
        limits = Limits.of(config.wire)
        n_records = config.learning.records_per_tick
        for first in range(0, len(stream), n_records):
            tick = stream[first : first + n_records]
            let_in = [structure for structure in tick if not isinstance(tried(structure, limits), Rejection)]
            self.refused |= {s.id for s in tick} - {s.id for s in let_in}
            report = self.learner.process_tick(let_in)
            self.refused |= {condemned.structure.id for condemned in (*report.inconsistent, *report.diverging)}
            for _ in tick:
                advance()
        self.waiting = {structure.id for structure in self.learner.quarantined}


def measure(
    config: Config, train: Structures, test: Structures, *, share: float, seed: int, advance: Callable[[], None]
) -> dict[str, Any]:
    """The figures of five runs: clean and corrupted, each with and without quarantine, and new chemistry last.

    Of the structures to predict, those of elements that the stream never shows are left out.
    """
    shown = {z for structure in train for z in structure.atomic_numbers}
    test = [structure for structure in test if shown.issuperset(structure.atomic_numbers)]
    stream, kinds = corrupted(train, share, seed)
    open_door = config.model_copy(update={"quarantine": config.quarantine.model_copy(update={"enabled": False})})
    clean = Outcome(open_door, train, advance)
    clean_guarded = Outcome(config, train, advance)
    guarded = Outcome(config, stream, advance)
    unguarded = Outcome(open_door, stream, advance)
    rmses = {
        name: errors(outcome.learner.ensemble, test)["force_rmse_mev_per_angstrom"]
        for name, outcome in (
            ("clean", clean),
            ("clean_guarded", clean_guarded),
            ("guarded", guarded),
            ("unguarded", unguarded),
        )
    }
    good = {structure.id for structure in stream} - kinds.keys()
    return {
        "n_train": len(train),
        "n_test": len(test),
        "n_corrupted": len(kinds),
        "force_rmse_mev_per_angstrom": rmses,
        "ratio_clean_guarded": rmses["clean_guarded"] / rmses["clean"],
        "ratio_guarded": rmses["guarded"] / rmses["clean"],
        "ratio_unguarded": rmses["unguarded"] / rmses["clean"],
        "caught": {"all": _share(guarded, kinds), **_by_kind(guarded, kinds)},
        "clean_refused": len(clean_guarded.refused) / len(train),
        "clean_waiting": len(clean_guarded.waiting) / len(train),
        "good_refused": len(good & guarded.refused) / len(good),
        "good_waiting": len(good & guarded.waiting) / len(good),
        "new_chemistry": _new_chemistry(config, train, advance),
    }


def n_records(train: Structures) -> int:
    """Records that `measure` goes through."""
    return len(train) * (5 if _novel_element(train) else 4)


def _share(outcome: Outcome, ids: Mapping[str, str]) -> dict[str, float]:
    return {
        "refused": len(ids.keys() & outcome.refused) / max(1, len(ids)),
        "waiting": len(ids.keys() & outcome.waiting) / max(1, len(ids)),
    }


def _by_kind(outcome: Outcome, kinds: Mapping[str, str]) -> dict[str, dict[str, float]]:
    return {kind: _share(outcome, {i: own for i, own in kinds.items() if own == kind}) for kind in CORRUPTIONS}


def _new_chemistry(config: Config, train: Structures, advance: Callable[[], None]) -> dict[str, Any] | None:
    """Shares of good labels refused where the rarest element comes last; None where every element is everywhere."""
    z = _novel_element(train)
    if not z:
        return None
    known = [structure for structure in train if z not in structure.atomic_numbers]
    new = [structure for structure in train if z in structure.atomic_numbers]
    outcome = Outcome(config, [*known, *new], advance)
    ids = {structure.id for structure in new}
    return {
        "element": SYMBOLS[z],
        "n_known": len(known),
        "n_new": len(new),
        "new_refused": len(ids & outcome.refused) / len(ids),
        "new_waiting": len(ids & outcome.waiting) / len(ids),
        "known_refused": len(outcome.refused - ids) / len(known),
    }


def _novel_element(train: Structures) -> int:
    """The element of the fewest structures; 0 where every element is in all of them."""
    counts = Counter(int(z) for structure in train for z in set(structure.atomic_numbers))
    z = min(counts, key=lambda z: (counts[z], z))
    return z if counts[z] < len(train) else 0
