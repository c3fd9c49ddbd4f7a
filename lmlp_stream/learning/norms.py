"""What is usual for structures of a kind, and how far a label strains it."""

from dataclasses import dataclass

import numpy as np

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.learning.evidence import EVIDENCE
from lmlp_stream.learning.reservoir import lot
from lmlp_stream.potential.uncertainty import SCALE

REMEMBERED = 1024
"""Judged labels that say what is usual."""
KIN = 64
"""Newest of them that say it for a kind."""
NEWEST = 16
"""Newest of a kind that may say so alone: where a stream turns to another region, they do not fit what was usual."""
MIN_KIN = 8
"""With fewer of its kind, a structure is compared with all kinds."""
REGION = 0.2
"""With a larger share of suspects among its newest labels, a kind turns to a new region."""
MIN_REGION = 4
"""Fewer suspects are no region."""
EXPLAINED = 0.05
"""Energy error per atom that a force error explains, eV/atom for each eV/Å: where forces are off, energies are."""
SIZE_SHARE = 0.3
"""Errors up to this share of the forces themselves are usual: large forces are hard to learn."""
PLAIN = 2.0
"""Multiple of the limit from which the opposite sign is plain."""
PLAIN_ENERGY = 100.0
"""An energy error so many times what is explained is another unit."""
GROSS = 3.0
"""An energy that is further off is no matter of chemistry, eV per atom."""
LAW_PATIENCE = 30.0
"""A net force or torque so many times what is usual breaks a law."""
LEAST_BROKEN = 0.01
"""Net forces and torques per atom below this (eV/Å, eV) are rounding of a calculation."""
SMALLEST = 1e-9
LEAST_USUAL = {"energy": 1e-3, "force": 0.01, "net_force": 0.0, "torque": 0.0}
"""What is usual at least; smaller errors are nobody's fault."""
TAIL = 3.5
"""Where a tenth of the labels exceed the median more than so many times, this tail says what is usual."""


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual for labels of a kind: errors in eV/atom and eV/Å, net force in eV/Å and torque in eV per atom.

    Attributes:
        n_kin: Labels of the kind that say it; 0: all kinds together.
    """

    energy: float
    force: float
    net_force: float
    torque: float
    n_kin: int


def kind_of(structure: LabelledStructure) -> int:
    """What a structure is compared within: its domain, or its composition where it has none."""
    return lot("kind", structure.domain or str(np.bincount(structure.atomic_numbers).tolist()))


def strain(row: np.void, usual: Usual, limit: float, scale: float) -> float:
    """How many times a label exceeds what is usual for its kind, what the members disagree by and what explains it.

    The largest of four: error of the energy; error of the forces; how much better the forces would fit with the
    opposite sign, where they do not fit; and `limit` where net force or torque break a law. Where a potential does not
    know a region, its forces are off as well as its energies, and most where forces are large: an energy that is off
    where forces fit is another reference, not another region. The members explain `scale` standard deviations.
    """
    force = row["force"] / (usual.force + scale * row["force_std"] + SIZE_SHARE * row["size"])
    strains = [_energy_strain(row, usual, scale), force, _sign_strain(row, usual), limit * _lawlessness(row, usual)]
    return float(np.nan_to_num(np.array(strains)).max())


def is_gross(row: np.void, energy: float) -> bool:
    """Whether the energy is off by more than chemistry explains, where so many eV/atom are usual."""
    return bool(row["energy"] > max(GROSS, PLAIN * energy))


def is_plain(row: np.void, usual: Usual, limit: float) -> bool:
    """Whether a label is wrong in a way that no new region is: sign, unit, or a law."""
    return bool(
        _sign_strain(row, usual) > PLAIN * limit
        or _energy_strain(row, usual, SCALE) > PLAIN_ENERGY
        or _lawlessness(row, usual) > PLAIN
    )


def _energy_strain(row: np.void, usual: Usual, scale: float) -> float:
    return float(row["energy"] / (usual.energy + scale * row["energy_std"] + EXPLAINED * row["force"]))


def _sign_strain(row: np.void, usual: Usual) -> float:
    """How many times better the forces fit with the opposite sign; 0 where they fit."""
    fits = row["force"] <= usual.force + row["force_std"]
    return 0.0 if fits else float(row["force"] / max(row["flipped"], SMALLEST))


def _lawlessness(row: np.void, usual: Usual) -> float:
    """Net force or torque over the largest that breaks no law; 0 where both are unknown."""
    laws = [row[law] / max(LAW_PATIENCE * getattr(usual, law), LEAST_BROKEN) for law in ("net_force", "torque")]
    return float(np.nan_to_num(np.array(laws)).max())


class Norms:
    """The evidence of the newest labels by kind; of bounded size."""

    def __init__(self) -> None:
        self._rows = np.zeros(0, dtype=EVIDENCE)
        self._kinds = np.zeros(0, dtype=np.uint64)
        self._suspect = np.zeros(0, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self._rows)

    def append(self, rows: np.ndarray, kinds: list[int]) -> None:
        """Add labels in their order; the oldest leave."""
        self._rows = np.concatenate([self._rows, rows])[-REMEMBERED:]
        self._kinds = np.concatenate([self._kinds, np.array(kinds, dtype=np.uint64)])[-REMEMBERED:]
        self._suspect = np.concatenate([self._suspect, np.zeros(len(rows), dtype=np.bool_)])[-REMEMBERED:]

    def mark(self, suspect: list[bool]) -> None:
        """Say of the newest labels which strain what is usual beyond the limit, and so do not say it."""
        if suspect:
            self._suspect[-len(suspect) :] = suspect[-len(self._suspect) :]

    def usual(self, kind: int) -> Usual:
        """What is usual for a kind."""
        kin = self._kinds == kind
        n_kin = int(kin.sum())
        if n_kin < MIN_KIN:
            kin = np.ones_like(kin)
        fine = self._rows[kin & ~self._suspect][-KIN:]
        newest = self._rows[kin][-NEWEST:]
        figures = {name: max(least, _usual(fine[name])) for name, least in LEAST_USUAL.items()}
        if n_kin >= MIN_KIN:
            figures = {name: max(figure, _quantile(newest[name], 0.5)) for name, figure in figures.items()}
        return Usual(**figures, n_kin=n_kin)

    @property
    def energy(self) -> float:
        """An energy error that is usual for most, whatever is wrong with the others, eV per atom."""
        return _quantile(self._rows["energy"], 0.25)

    def is_region(self, kind: int) -> bool:
        """Whether so many of the newest labels of a kind are suspects that they are a region, not errors."""
        suspect = self._suspect[self._kinds == kind][-KIN:]
        return int(suspect.sum()) >= MIN_REGION and float(suspect.mean()) > REGION

    def n_since(self, kind: int, n_newest: int) -> int:
        """Labels of a kind among the `n_newest` newest."""
        return int((self._kinds[-n_newest:] == kind).sum()) if n_newest else 0

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything that `load_state_dict` needs."""
        return {
            "rows": self._rows.view(np.float64).reshape(-1, len(EVIDENCE.names or ())),
            "kinds": self._kinds,
            "suspect": self._suspect,
        }

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Take over what `state_dict` wrote."""
        rows = np.ascontiguousarray(state["rows"], dtype=np.float64).copy()
        self._rows = rows.view(EVIDENCE).reshape(-1)
        self._kinds, self._suspect = state["kinds"].copy(), state["suspect"].copy()


def _usual(values: np.ndarray) -> float:
    """Median, or more where the tail of the values is heavy."""
    return max(_quantile(values, 0.5), _quantile(values, 0.9) / TAIL)


def _quantile(values: np.ndarray, share: float) -> float:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, share)) if len(known) else 0.0
