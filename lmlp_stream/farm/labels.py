"""Labels of a structure: found under the keys that people use, refused where two of them disagree."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import voigt_6_to_full_3x3_stress
from jaxtyping import Float

from lmlp_stream.errors import UsageError

PREFIXES = ("REF_", "ref_", "", "dft_", "DFT_")
ENERGY_KEYS = (*(f"{prefix}energy" for prefix in PREFIXES), "TotEnergy")
FORCES_KEYS = tuple(f"{prefix}{name}" for prefix in PREFIXES for name in ("forces", "force"))
OMITTED = "none"
"""The key that says: there is no such label here, and that is meant."""

AGREEMENT = 1e-6
"""Two labels closer than this (eV, eV/Å) are one label printed twice."""


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Reference energy (eV), forces (eV/Å) and stress (eV/Å³, tension positive); NaN or None where missing."""

    energy: float
    forces: Float[np.ndarray, "A 3"]
    stress: Float[np.ndarray, "3 3"] | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """Which labels a structure lacks, and where they were looked for: one clause."""

    clause: str


class LabelFinder:
    """Finds the labels of the structures of one file; the keys of its first labelled structure hold for all.

    Args:
        energy_key: Where the energy stands; empty: wherever one of `ENERGY_KEYS` is; `none`: nowhere.
        forces_key: Where the forces stand; empty: wherever one of `FORCES_KEYS` is; `none`: nowhere.

    Attributes:
        energy_key: The key that was taken; empty before the first energy.
        forces_key: The key that was taken; empty before the first forces.
        stress_key: The key of the energy's family that held a stress; empty without any.
    """

    def __init__(self, energy_key: str = "", forces_key: str = "") -> None:
        self._energy = _Finder("energy", energy_key, ENERGY_KEYS)
        self._forces = _Finder("forces", forces_key, FORCES_KEYS)
        self.stress_key = ""

    @property
    def energy_key(self) -> str:
        """The key that was taken."""
        return self._energy.key

    @property
    def forces_key(self) -> str:
        """The key that was taken."""
        return self._forces.key

    def find(self, atoms: Atoms, place: str, *, partly: bool = False) -> Labels | Missing:
        """The labels of a structure, or which it lacks (a single atom needs no forces).

        Args:
            atoms: A structure with labels in its calculator's results, `info` or `arrays`.
            place: File and number of the structure, for messages.
            partly: Whether an energy or forces alone are enough.

        Raises:
            UsageError: It is not clear which values are the labels, or they are not numbers of the right shape.
        """
        energy = self._energy.find(atoms, place, ())
        forces = self._forces.find(atoms, place, (len(atoms), 3))
        self._check_family(place)
        lacks_energy = energy is None and self._energy.wanted
        lacks_forces = forces is None and self._forces.wanted and (len(atoms) > 1 or energy is None)
        if (not partly and (lacks_energy or lacks_forces)) or (energy is None and forces is None):
            lacking = (self._energy, energy is None), (self._forces, lacks_forces)
            return Missing(" and ".join(finder.missing() for finder, lacks in lacking if lacks))
        return Labels(
            energy=float("nan") if energy is None else float(energy),
            forces=np.full((len(atoms), 3), np.nan) if forces is None else forces,
            stress=self._stress(atoms, place),
        )

    def _check_family(self, place: str) -> None:
        if not (self._energy.sniffed and self._forces.sniffed):
            return
        energy_family, forces_family = _family(self.energy_key), _family(self.forces_key)
        if self.energy_key != "TotEnergy" and energy_family != forces_family:
            raise UsageError(
                f"{place}: the energy stands under {self.energy_key!r} but the forces under {self.forces_key!r}, which "
                f"may be labels of two methods; say --energy-key {self.energy_key} --forces-key {self.forces_key} "
                f"if they belong together"
            )

    def _stress(self, atoms: Atoms, place: str) -> Float[np.ndarray, "3 3"] | None:
        key = self.energy_key.replace("energy", "stress")
        held = _places(atoms, key) if key.endswith("stress") and atoms.pbc.all() else []
        if not held:
            return None
        self.stress_key = key
        return full_stress(held[0], f"{place}: {key}")


class _Finder:
    """Finds one kind of label under the one key that holds for the file."""

    def __init__(self, kind: str, key: str, known: tuple[str, ...]) -> None:
        self.kind = kind
        self.wanted = key != OMITTED
        self.key = key if self.wanted else ""
        self._given = bool(key)
        self._known = known

    @property
    def sniffed(self) -> bool:
        return bool(self.key) and not self._given

    def missing(self) -> str:
        looked_for = (self.key or OMITTED,) if self._given else self._known
        return f"{self.kind} (looked for {', '.join(looked_for)})"

    def find(self, atoms: Atoms, place: str, shape: tuple[int, ...]) -> Float[np.ndarray, "..."] | None:
        if not self.wanted:
            return None
        keys = (self.key,) if self._given else self._known
        held = {
            key: [_numbers(value, shape, f"{place}: {key}") for value in values]
            for key in keys
            if (values := _places(atoms, key))
        }
        if not held:
            return None
        self._check_agreement(held, place)
        if not self.key:
            self.key = next(iter(held))
        if self.key not in held:
            raise UsageError(
                f"{place}: the {self.kind} stands under {next(iter(held))!r} but under {self.key!r} in the structures "
                f"before it; feed them as separate files or name one with --{self.kind}-key"
            )
        value = held[self.key][0]
        return None if np.isnan(value).all() else value

    def _check_agreement(self, held: dict[str, list[Float[np.ndarray, "..."]]], place: str) -> None:
        first_key, first = next((key, values[0]) for key, values in held.items())
        for key, values in held.items():
            for value in values:
                if not np.allclose(value, first, rtol=0.0, atol=AGREEMENT, equal_nan=True):
                    raise UsageError(
                        f"{place}: {first_key!r} and {key!r} hold different {self.kind} "
                        f"({_shown(first)} and {_shown(value)}); say which one with --{self.kind}-key"
                    )


def calculated_labels(atoms: Atoms) -> Labels:
    """The labels that the calculator of a structure says, computed where it has no results for these positions.

    Forces are those on every atom, whatever constraints hold it; the stress is taken where it was computed already.

    Raises:
        UsageError: The calculator has no energy or forces for this structure, or they are not numbers.
    """
    try:
        energy = float(atoms.get_potential_energy())
        forces = np.array(atoms.get_forces(apply_constraint=False), dtype=np.float64)
    except PropertyNotImplementedError as error:
        raise UsageError(
            f"the calculator of {atoms.get_chemical_formula()} has no energy or forces at these positions ({error}); "
            f"compute both before publishing"
        ) from error
    if np.isnan(energy) or np.isnan(forces).any():
        raise UsageError(
            f"the calculator of {atoms.get_chemical_formula()} says NaN for energy or forces; check the calculation"
        )
    stress = atoms.calc.results.get("stress") if atoms.pbc.all() else None
    return Labels(energy, forces, None if stress is None else full_stress(stress, "the calculator's stress"))


def full_stress(value: Any, place: str) -> Float[np.ndarray, "3 3"]:
    """A stress as a symmetric matrix in eV/Å³, from six numbers in Voigt order (xx, yy, zz, yz, xz, xy) or nine.

    Raises:
        UsageError: There are neither six nor nine.
    """
    flat = np.asarray(value, dtype=np.float64).reshape(-1)
    if len(flat) not in (6, 9):
        raise UsageError(f"{place} has {len(flat)} numbers; give six in Voigt order or nine")
    full = flat.reshape(3, 3) if len(flat) == 9 else voigt_6_to_full_3x3_stress(flat)
    return np.array(full, dtype=np.float64)


def _places(atoms: Atoms, key: str) -> list[Any]:
    results = atoms.calc.results if atoms.calc is not None else {}
    return [held[key] for held in (results, atoms.info, atoms.arrays) if held.get(key) is not None]


def _numbers(value: Any, shape: tuple[int, ...], place: str) -> Float[np.ndarray, "..."]:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{place} is {str(value)[:40]!r}, not numbers; name the key that holds them") from None
    if array.size != int(np.prod(shape)):
        raise UsageError(f"{place} has shape {list(array.shape)} instead of {list(shape)}; name another key")
    return array.reshape(shape)


def _family(key: str) -> str:
    return key.lower().removesuffix("s").removesuffix("energy").removesuffix("force")


def _shown(value: Float[np.ndarray, "..."]) -> str:
    return f"{float(value.flat[0]):.6f}" + (", …" if value.size > 1 else "")
