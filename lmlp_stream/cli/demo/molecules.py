"""The chemistry of the demo: small molecules and ion–molecule SN2 complexes X⁻…CH₃Y, built from tabulated lengths."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator
from ase.md.langevin import Langevin
from tblite.ase import TBLite

from lmlp_stream.cli.demo.settings import LEVEL_OF_THEORY

MOLECULES = {"CH₃OH": "CH3OH", "CH₃NH₂": "H3CNH2", "HCOOH": "HCOOH", "H₂CO": "H2CO", "CH₃Cl": "CH3Cl"}
"""Domain, and name in the G2 set, whose geometries ASE carries."""

BOND = {"F": 1.39, "Cl": 1.79, "Br": 1.95}
"""C–Y distance in CH₃Y, Å."""
BARRIER = {"F": 1.92, "Cl": 2.32, "Br": 2.45}
"""C–X distance about the Walden inversion, Å."""
CONTACT = {"F": 2.55, "Cl": 3.10, "Br": 3.25}
"""C–X distance in the ion–dipole complex X⁻…CH₃Y, Å."""
FRAME_TIME = 6.0
"""Time between two structures of a segment, fs."""
FRAMES_PER_SEGMENT = 7


@dataclass(frozen=True, slots=True)
class Reaction:
    """X⁻ + CH₃Y → XCH₃ + Y⁻."""

    nucleophile: str
    leaving: str

    @property
    def domain(self) -> str:
        """Name that errors are reported by, e.g. `F⁻ + CH₃Cl`."""
        return f"{self.nucleophile}⁻ + CH₃{self.leaving}"

    def complex_at(self, progress: float) -> Atoms:
        """The complex at -1 (reactants), 0 (Walden inversion), 1 (products) or between, charge -1 e.

        The axis X–C–Y is z with carbon in the origin; the hydrogen umbrella turns over linearly.
        """
        x, y = self.nucleophile, self.leaving
        before, after = max(-progress, 0.0), max(progress, 0.0)
        distance_x = BARRIER[x] + before * (CONTACT[x] - BARRIER[x]) + after * (BOND[x] - BARRIER[x])
        distance_y = BARRIER[y] + before * (BOND[y] - BARRIER[y]) + after * (CONTACT[y] - BARRIER[y])
        angles = 2.0 * np.pi * np.arange(3) / 3.0
        height = 0.36 * progress
        radius = np.sqrt(1.09**2 - height**2)
        hydrogens = np.stack([radius * np.cos(angles), radius * np.sin(angles), np.full(3, height)], axis=1)
        positions = np.concatenate([[[0.0, 0.0, 0.0]], hydrogens, [[0.0, 0.0, -distance_x], [0.0, 0.0, distance_y]]])
        atoms = Atoms(["C", "H", "H", "H", x, y], positions=positions)
        atoms.info["charge"] = -1
        return atoms


REACTIONS = (Reaction("F", "Cl"), Reaction("F", "Br"), Reaction("Cl", "Cl"))
"""What the farm computes."""

SIMULATED = Reaction("Cl", "Br")
"""What the simulation explores: the farm never computes it, so the simulation has something to ask."""


def xtb(charge: float = 0.0) -> Calculator:
    """A quiet GFN2-xTB calculator for one total charge in e."""
    return TBLite(method=LEVEL_OF_THEORY, charge=charge, multiplicity=1, verbosity=0)


@dataclass(frozen=True, slots=True)
class Segment:
    """A short trajectory; its structures are near copies of each other.

    Attributes:
        domain: Molecule or reaction.
        name: Unique within its worker.
        frames: The structures with their xTB results attached.
    """

    domain: str
    name: str
    frames: Iterator[Atoms]


def segments(domain: str, generator: np.random.Generator) -> Iterator[Segment]:
    """Endless short xTB trajectories of one domain, each from a new start at a new temperature of 200 to 600 K."""
    number = 0
    while True:
        atoms = start_structure(domain, generator)
        temperature = generator.uniform(200.0, 600.0)
        yield Segment(domain, f"{domain}/{number}", frames(atoms, temperature, generator))
        number += 1


def start_structure(domain: str, generator: np.random.Generator) -> Atoms:
    """A distorted start: atoms displaced by 0.04 Å, SN2 complexes anywhere along their reaction coordinate."""
    reactions = {reaction.domain: reaction for reaction in REACTIONS}
    if domain in reactions:
        atoms = reactions[domain].complex_at(generator.uniform(-1.0, 1.0))
    else:
        atoms = molecule(MOLECULES[domain])
        atoms.info["charge"] = 0
    atoms.set_initial_magnetic_moments(None)
    atoms.positions += generator.normal(scale=0.04, size=atoms.positions.shape)
    return atoms


def frames(atoms: Atoms, temperature: float, generator: np.random.Generator) -> Iterator[Atoms]:
    """The structures of one xTB Langevin trajectory at `temperature` K, each with energy and forces attached."""
    atoms.calc = xtb(atoms.info["charge"])
    thermalize(atoms, temperature, generator)
    dynamics = Langevin(
        atoms, 1.0 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, fixcm=False, rng=generator
    )
    for _ in range(FRAMES_PER_SEGMENT):
        yield atoms
        dynamics.run(int(FRAME_TIME))


def thermalize(atoms: Atoms, temperature: float, generator: np.random.Generator) -> None:
    """Give atoms the momenta of a Maxwell–Boltzmann distribution at `temperature` K, at rest as a whole."""
    masses = atoms.get_masses()[:, None]
    velocities = generator.normal(size=(len(atoms), 3)) * np.sqrt(units.kB * temperature / masses)
    atoms.set_velocities(velocities - (masses * velocities).sum(axis=0) / masses.sum())


def farm_domains() -> tuple[str, ...]:
    """Every domain the farm computes."""
    return (*MOLECULES, *(reaction.domain for reaction in REACTIONS))
