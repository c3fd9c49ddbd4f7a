"""Labels that do not fit wait here, unlearned, until enough of their kind was learned to tell error from novelty.

A label is judged when it arrives: what strains the usual beyond the limit waits. While it waits, it is judged with each
tick: what fits by then is released and learned; what does not is condemned, at once where no new region explains it,
else after enough of its kind was learned, unless so many of its kind strain the usual that they are a region, not
errors. And some time after it was learned, while the potential was young perhaps: what does not fit, where others of
its kind do, is taken back. A new kind is compared with itself from its first few labels on, and none of it is condemned
for its errors before they are there.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.config import QuarantineConfig
from lmlp_stream.learning.columns import from_columns, in_room, read_text_column, text_column, to_columns
from lmlp_stream.learning.norms import MIN_KIN, Norms, is_gross, is_plain, kind_of, strain
from lmlp_stream.potential.uncertainty import SCALE

EASY = 0.65
"""Share of the limit up to which a label that waits is released early."""
HOPELESS = 1.6
"""Multiple of the limit from which a label is condemned early."""
PROMPT = 5.0
"""Multiple of the limit from which a label is condemned promptly."""
MIN_NORMS = 32
"""With fewer judged labels nothing is usual yet."""
SOON = (8, 32)
"""Labels of its kind, or of any kind, after which what strains the limit most is condemned."""
EARLY = (24, 64)
"""Labels of its kind, or of any kind, after which a hopeless label is condemned, and one of a new kind released."""
LATE = (64, 320)
"""A label is judged for good after so many labels of its kind, or so many of any kind."""
AUDIT = (64, 256)
"""A learned label is audited after so many labels of its kind, or so many of any kind."""
MAX_AUDITED = 1024
"""Learned labels that wait for their audit; of more the oldest go without."""


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A structure in quarantine.

    Attributes:
        structure: The structure.
        since: Labels that had been judged when it came.
        learned: Whether it was learned before, and is forgotten now.
    """

    structure: LabelledStructure
    since: int
    learned: bool


@dataclass(frozen=True, slots=True)
class _Learned:
    """The kind of a learned structure, how many labels had been judged then, and whether it itself was not."""

    kind: int
    since: int
    unjudged: bool


@dataclass(frozen=True, slots=True, eq=False)
class Condemned:
    """A structure that is not learned, and one sentence why."""

    structure: LabelledStructure
    detail: str


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What became of structures that waited."""

    released: tuple[Waiting, ...]
    condemned: tuple[Condemned, ...]


class Quarantine:
    """Judges labels by evidence that others compute; waits for their kin; of bounded size.

    Args:
        config: Whether and how strictly.
    """

    def __init__(self, config: QuarantineConfig) -> None:
        self._config = config
        self._arrivals = Norms()
        self._audits = Norms()
        self._waiting: dict[str, Waiting] = {}
        self._unaudited: dict[str, _Learned] = {}
        self._n_judged = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def structures(self) -> tuple[LabelledStructure, ...]:
        """Structures that wait, in the order they came."""
        return tuple(waiting.structure for waiting in self._waiting.values())

    def arrived(self, structures: Sequence[LabelledStructure], rows: np.ndarray) -> set[str]:
        """Judge arrivals before they are learned; the ids of those that wait from now on."""
        if not self._config.enabled:
            return set()
        unfit = self._unfit(self._arrivals, structures, rows)
        self._n_judged += len(structures)
        suspects = [place for place, structure in enumerate(structures) if unfit[place] and not structure.vouched]
        for place in suspects:
            structure = structures[place]
            self._waiting[structure.id] = Waiting(structure, self._n_judged, False)
        return {structures[place].id for place in suspects}

    def learned(self, structures: Iterable[LabelledStructure], unpredicted: Container[str]) -> None:
        """Audit these later; `unpredicted` are those that could not be judged when they arrived."""
        if not self._config.enabled:
            return
        young = len(self._arrivals) < MIN_NORMS
        for structure in structures:
            if not structure.vouched:
                unjudged = young or structure.id in unpredicted
                self._unaudited[structure.id] = _Learned(kind_of(structure), self._n_judged, unjudged)
        while len(self._unaudited) > MAX_AUDITED:
            del self._unaudited[next(iter(self._unaudited))]

    def unaudited(self) -> list[str]:
        """Ids of learned structures whose audit is due."""
        return [id_ for id_, one in self._unaudited.items() if self._is_due(one.kind, one.since, AUDIT)]

    def audited(self, structures: Sequence[LabelledStructure], rows: np.ndarray) -> list[LabelledStructure]:
        """Judge learned structures against one another; those to be forgotten, which wait from now on.

        What was learned before anything could be judged fits by now, right or wrong: it is forgotten in any case.
        """
        unfit = self._unfit(self._audits, structures, rows)
        taken = [s for s, is_unfit in zip(structures, unfit, strict=True) if is_unfit or self._never_judged(s)]
        for structure in taken:
            self._waiting[structure.id] = Waiting(structure, self._n_judged, True)
        return taken

    def is_audited(self, ids: Iterable[str]) -> None:
        """Audit these no more."""
        for id_ in ids:
            del self._unaudited[id_]

    def judge(self, structures: Sequence[LabelledStructure], rows: np.ndarray) -> Judgement:
        """Release or condemn structures that wait, or let them wait on; where too many wait, not the oldest.

        Args:
            structures: The structures that wait, in the order they came.
            rows: Their evidence now.
        """
        released, condemned = [], []
        n_over = len(self._waiting) - self._config.capacity
        for place, (structure, row) in enumerate(zip(structures, rows, strict=True)):
            verdict = self._verdict(self._waiting[structure.id], row, is_last=place < n_over)
            if verdict is None:
                continue
            waiting = self._waiting.pop(structure.id)
            if verdict:
                condemned.append(Condemned(structure, verdict))
            else:
                released.append(waiting)
        return Judgement(tuple(released), tuple(condemned))

    def _verdict(self, waiting: Waiting, row: np.void, *, is_last: bool) -> str | None:
        """Why a label is condemned, nothing where it is released, or None where it waits on."""
        kind = kind_of(waiting.structure)
        usual = self._arrivals.usual(kind)
        times = strain(row, usual, self._config.limit, SCALE) / self._config.limit
        has_kin = usual.n_kin >= MIN_KIN
        is_late = is_last or self._is_due(kind, waiting.since, LATE)
        is_early = is_late or self._is_due(kind, waiting.since, EARLY)
        fits = times <= (1.0 if is_late else EASY)
        plain = is_plain(row, usual, self._config.limit) if has_kin else is_gross(row, usual.energy)
        is_novel = (self._arrivals.is_region(kind) and not waiting.learned) or (is_early and not has_kin)
        if (fits and (is_early or not waiting.learned)) or (is_novel and not plain):
            return ""
        is_soon = self._is_due(kind, waiting.since, SOON)
        is_wrong = has_kin and (plain or (is_soon and times > PROMPT) or (is_early and times > HOPELESS))
        return _sentence(row, usual.energy, usual.force, times) if is_wrong or is_late else None

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything that `load_state_dict` needs."""
        waiting, unaudited = list(self._waiting.values()), list(self._unaudited.values())
        return {
            "n_judged": np.array([self._n_judged], dtype=np.int64),
            "since": np.array([w.since for w in waiting], dtype=np.int64),
            "learned": np.array([w.learned for w in waiting], dtype=np.bool_),
            "unaudited.ids": text_column(list(self._unaudited)),
            "unaudited.kinds": np.array([one.kind for one in unaudited], dtype=np.uint64),
            "unaudited.since": np.array([one.since for one in unaudited], dtype=np.int64),
            "unaudited.unjudged": np.array([one.unjudged for one in unaudited], dtype=np.bool_),
            **{f"waiting.{name}": array for name, array in to_columns([w.structure for w in waiting]).items()},
            **{f"arrivals.{name}": array for name, array in self._arrivals.state_dict().items()},
            **{f"audits.{name}": array for name, array in self._audits.state_dict().items()},
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `state_dict` wrote; this quarantine must be new."""
        self._n_judged = int(state["n_judged"][0])
        waiting = zip(from_columns(in_room(state, "waiting.")), state["since"], state["learned"], strict=True)
        for structure, since, learned in waiting:
            self._waiting[structure.id] = Waiting(structure, int(since), bool(learned))
        places = zip(*(state[f"unaudited.{name}"] for name in ("kinds", "since", "unjudged")), strict=True)
        for id_, (kind, since, unjudged) in zip(read_text_column(state["unaudited.ids"]), places, strict=True):
            self._unaudited[id_] = _Learned(int(kind), int(since), bool(unjudged))
        self._arrivals.load_state_dict(in_room(state, "arrivals."))
        self._audits.load_state_dict(in_room(state, "audits."))

    def _unfit(self, norms: Norms, structures: Sequence[LabelledStructure], rows: np.ndarray) -> list[bool]:
        """Which of the structures do not fit, after their evidence became part of the norms."""
        kinds = [kind_of(structure) for structure in structures]
        norms.append(rows, kinds)
        if len(norms) < MIN_NORMS:
            suspect = [is_gross(row, norms.energy) for row in rows]
        else:
            usual, limit = {kind: norms.usual(kind) for kind in dict.fromkeys(kinds)}, self._config.limit
            suspect = [strain(row, usual[kind], limit, 1.0) > limit for row, kind in zip(rows, kinds, strict=True)]
        norms.mark(suspect)
        return suspect

    def _never_judged(self, structure: LabelledStructure) -> bool:
        one = self._unaudited[structure.id]
        return one.unjudged and self._arrivals.usual(one.kind).n_kin >= MIN_KIN

    def _is_due(self, kind: int, since: int, after: tuple[int, int]) -> bool:
        n_newer = self._n_judged - since
        return n_newer >= after[1] or self._arrivals.n_since(kind, n_newer) >= after[0]


def _sentence(row: np.void, energy: float, force: float, times: float) -> str:
    return (
        f"the energy is {row['energy']:.3g} eV per atom and the forces are {row['force']:.3g} eV/Å off, where "
        f"{energy:.2g} and {force:.2g} are usual for its domain; net force {row['net_force']:.2g} eV/Å and torque "
        f"{row['torque']:.2g} eV per atom; {times:.3g} times the limit (quarantine.limit): check unit, signs, order of "
        "atoms and convergence, or redrive it"
    )
