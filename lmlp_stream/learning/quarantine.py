"""Labels that do not fit wait here, unlearned, until enough of their kind was learned to tell error from novelty.

A label is judged when it arrives: what strains the usual beyond the limit waits. While it waits, it is judged with each
tick: what fits by then is released and learned; what does not is condemned, at once where no new region explains it,
else after enough of its kind was learned, unless so many of its kind strain the usual that they are a region, not
errors. What was learned is audited, the next time whenever its age has doubled, for what is wrong in it shows the more
the better its kind is known: what does not fit, where others of its kind do, is taken back, and judged against them
once it is forgotten. What is held out is judged when it comes, and audited only if it could not be judged then: nothing
is learned of it, so the hardest would be taken for wrong. A new kind is compared with itself from its first few labels
on, and none of it is condemned for its errors before they are there.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace

import numpy as np

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.config import QuarantineConfig
from lmlp_stream.learning.columns import from_columns, in_room, read_text_column, text_column, to_columns
from lmlp_stream.learning.norms import MIN_KIN, Norms, Usual, is_gross, is_plain, kind_of, strain
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
"""A learned label is audited first after so many labels of its kind, or so many of any kind."""
MAX_AUDITED = 16_384
"""Learned labels that are audited; of more the oldest no longer."""
FORGOTTEN = 2.0
"""Errors of labels that are forgotten are usually less than so many times as large as those of learned ones."""
NEVER = Usual(0.0, 0.0, 0.0, 0.0, n_kin=-1)
"""Stands in a saved state for what was never learned."""


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A structure in quarantine.

    Attributes:
        structure: The structure.
        since: Labels that had been judged when it came.
        recalled: What was usual for learned labels of its kind when it, one of them, was recalled to be forgotten;
            None where it was never learned.
    """

    structure: LabelledStructure
    since: int
    recalled: Usual | None = None

    @property
    def learned(self) -> bool:
        """Whether it was learned before, and is forgotten now."""
        return self.recalled is not None


@dataclass(frozen=True, slots=True)
class _Learned:
    """The kind of a learned structure, how many labels had been judged then, and whether it itself was not.

    `due`: labels that have been judged when it is audited again; 0 before its first audit.
    """

    kind: int
    since: int
    unjudged: bool
    due: int = 0


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
        self._learned: dict[str, _Learned] = {}
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
            self._waiting[structure.id] = Waiting(structure, self._n_judged)
        return {structures[place].id for place in suspects}

    def learned(
        self, structures: Iterable[LabelledStructure], *, unpredicted: Container[str], held_out: Container[str]
    ) -> None:
        """Audit these later.

        Args:
            structures: What came and does not wait.
            unpredicted: Ids of those that could not be judged when they arrived.
            held_out: Ids of those that are held out; they are audited once if they were not judged when they arrived.
        """
        if not self._config.enabled:
            return
        young = len(self._arrivals) < MIN_NORMS
        for structure in structures:
            unjudged = young or structure.id in unpredicted
            if not structure.vouched and (unjudged or structure.id not in held_out):
                self._learned[structure.id] = _Learned(kind_of(structure), self._n_judged, unjudged)
        while len(self._learned) > MAX_AUDITED:
            del self._learned[next(iter(self._learned))]

    def unaudited(self) -> list[str]:
        """Ids of structures whose audit is due."""
        return [id_ for id_, one in self._learned.items() if id_ not in self._waiting and self._is_audit_due(one)]

    def audited(self, structures: Sequence[LabelledStructure], rows: np.ndarray) -> list[LabelledStructure]:
        """Judge learned structures against one another; those to be forgotten, which wait from now on.

        What was learned before anything could be judged fits by now, right or wrong: it is forgotten in any case.
        """
        unfit = self._unfit(self._audits, structures, rows)
        taken = [s for s, is_unfit in zip(structures, unfit, strict=True) if is_unfit or self._never_judged(s)]
        for structure in taken:
            usual = self._audits.usual(kind_of(structure))
            self._waiting[structure.id] = Waiting(structure, self._n_judged, usual)
        return taken

    def is_audited(self, ids: Iterable[str], kept: Container[str]) -> None:
        """Audit these again when their ages have doubled; those that are not kept no more."""
        for id_ in ids:
            one = self._learned.pop(id_)
            if id_ in kept:
                unjudged = one.unjudged and id_ not in self._waiting
                self._learned[id_] = replace(one, unjudged=unjudged, due=2 * self._n_judged - one.since)

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
        kind, limit = kind_of(waiting.structure), self._config.limit
        usual = waiting.recalled or self._arrivals.usual(kind)
        times = strain(row, usual, limit, 0.0) / FORGOTTEN if waiting.learned else strain(row, usual, limit, SCALE)
        times /= limit
        has_kin = usual.n_kin >= MIN_KIN
        is_late = is_last or self._is_due(kind, waiting.since, LATE)
        is_early = is_late or self._is_due(kind, waiting.since, EARLY)
        fits = times <= (1.0 if is_late else EASY)
        plain = is_plain(row, usual, limit) if has_kin else is_gross(row, usual.energy)
        is_novel = (self._arrivals.is_region(kind) and not waiting.learned) or (is_early and not has_kin)
        if (fits and (is_early or not waiting.learned)) or (is_novel and not plain):
            return ""
        is_soon = self._is_due(kind, waiting.since, SOON)
        is_wrong = has_kin and (plain or (is_soon and times > PROMPT) or (is_early and times > HOPELESS))
        return _sentence(row, usual.energy, usual.force, times) if is_wrong or is_late else None

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything that `load_state_dict` needs."""
        waiting, learned = list(self._waiting.values()), list(self._learned.values())
        return {
            "n_judged": np.array([self._n_judged], dtype=np.int64),
            "since": np.array([w.since for w in waiting], dtype=np.int64),
            "recalled": np.array([astuple(w.recalled or NEVER) for w in waiting]).reshape(-1, len(fields(Usual))),
            "learned.ids": text_column(list(self._learned)),
            "learned.kinds": np.array([one.kind for one in learned], dtype=np.uint64),
            "learned.since": np.array([one.since for one in learned], dtype=np.int64),
            "learned.unjudged": np.array([one.unjudged for one in learned], dtype=np.bool_),
            "learned.due": np.array([one.due for one in learned], dtype=np.int64),
            **{f"waiting.{name}": array for name, array in to_columns([w.structure for w in waiting]).items()},
            **{f"arrivals.{name}": array for name, array in self._arrivals.state_dict().items()},
            **{f"audits.{name}": array for name, array in self._audits.state_dict().items()},
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take over what `state_dict` wrote; this quarantine must be new."""
        self._n_judged = int(state["n_judged"][0])
        waiting = zip(from_columns(in_room(state, "waiting.")), state["since"], state["recalled"], strict=True)
        for structure, since, figures in waiting:
            self._waiting[structure.id] = Waiting(structure, int(since), _recalled(figures))
        places = zip(*(state[f"learned.{name}"] for name in ("kinds", "since", "unjudged", "due")), strict=True)
        for id_, (kind, since, unjudged, due) in zip(read_text_column(state["learned.ids"]), places, strict=True):
            self._learned[id_] = _Learned(int(kind), int(since), bool(unjudged), int(due))
        self._arrivals.load_state_dict(in_room(state, "arrivals."))
        self._audits.load_state_dict(in_room(state, "audits."))

    def _unfit(self, norms: Norms, structures: Sequence[LabelledStructure], rows: np.ndarray) -> list[bool]:
        """Which of the structures do not fit, after their evidence became part of the norms.

        What members disagree by excuses arrivals; of learned labels they agree on what is right, or none is excused.
        """
        scale = 1.0 if norms is self._arrivals else 0.0
        kinds = [kind_of(structure) for structure in structures]
        norms.append(rows, kinds)
        if len(norms) < MIN_NORMS:
            suspect = [is_gross(row, norms.energy) for row in rows]
        else:
            usual, limit = {kind: norms.usual(kind) for kind in dict.fromkeys(kinds)}, self._config.limit
            suspect = [strain(row, usual[kind], limit, scale) > limit for row, kind in zip(rows, kinds, strict=True)]
        norms.mark(suspect)
        return suspect

    def _never_judged(self, structure: LabelledStructure) -> bool:
        one = self._learned[structure.id]
        return one.unjudged and self._arrivals.usual(one.kind).n_kin >= MIN_KIN

    def _is_audit_due(self, one: _Learned) -> bool:
        return self._n_judged >= one.due if one.due else self._is_due(one.kind, one.since, AUDIT)

    def _is_due(self, kind: int, since: int, after: tuple[int, int]) -> bool:
        n_newer = self._n_judged - since
        return n_newer >= after[1] or self._arrivals.n_since(kind, n_newer) >= after[0]


def _recalled(figures: np.ndarray) -> Usual | None:
    energy, force, net_force, torque, n_kin = figures.tolist()
    return None if n_kin < 0 else Usual(energy, force, net_force, torque, int(n_kin))


def _sentence(row: np.void, energy: float, force: float, times: float) -> str:
    return (
        f"the energy is {row['energy']:.3g} eV per atom and the forces are {row['force']:.3g} eV/Å off, where "
        f"{energy:.2g} and {force:.2g} are usual for its domain; net force {row['net_force']:.2g} eV/Å and torque "
        f"{row['torque']:.2g} eV per atom; {times:.3g} times the limit (quarantine.limit): check unit, signs, order of "
        "atoms and convergence, or redrive it"
    )
