"""Does molecular dynamics with a potential keep its energy? NVE by velocity Verlet, everything in double precision."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.md.velocitydistribution import Stationary, ZeroRotation
from jaxtyping import Float

from lmlp_stream.atoms.batch import Example, collate
from lmlp_stream.atoms.structure import LabelledStructure, unlabelled
from lmlp_stream.atoms.symmetry import SymmetryFunctions
from lmlp_stream.cli.bench.drift import Drift
from lmlp_stream.cli.bench.elements import check_elements
from lmlp_stream.cli.bench.workload import workload
from lmlp_stream.cli.evaluate import labelled_structures
from lmlp_stream.config import parse_config
from lmlp_stream.errors import UsageError
from lmlp_stream.learning.learner import Learner
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.store.snapshot import load

N_BUILT_IN = 64
"""Structures that are learned where no file is given."""
HOTTEST = 5.0
"""A run whose kinetic temperature exceeds that of its start, and that asked for, this many times has exploded."""
LEAST_STEPS = 5
"""A drift is fitted to three energies at least, and the modified Hamiltonian is not known at both ends of a run."""
STRAIGHT = 1e-8
"""Atoms this close to a line are on it, Å: they turn in two ways."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamics:
    """The settings of runs.

    Attributes:
        temperature: Of the initial velocities, K.
        timestep: fs.
        picoseconds: Length of each run, ps.
        n_runs: Runs, each from another structure and other velocities.

    Raises:
        UsageError: A number is not above 0 and finite, or a run has fewer than `LEAST_STEPS` steps.
    """

    temperature: float
    timestep: float
    picoseconds: float
    n_runs: int

    def __post_init__(self) -> None:
        for name in ("temperature", "timestep", "picoseconds"):
            value = getattr(self, name)
            if not 0.0 < value < inf:
                raise UsageError(f"--{name} {value} of bench dynamics is not above 0 and finite; give a number that is")
        if self.n_steps < LEAST_STEPS:
            raise UsageError(
                f"--picoseconds {self.picoseconds} at --timestep {self.timestep} fs is {self.n_steps} steps, too few "
                f"for a drift; give at least {LEAST_STEPS} steps"
            )

    @property
    def n_steps(self) -> int:
        """Steps of each run."""
        return round(1000.0 * self.picoseconds / self.timestep)


def snapshot_potential(folder: str) -> Ensemble:
    """The potential of a snapshot in double precision.

    Raises:
        DamagedStoreError: The snapshot is damaged.
    """
    return _in_double(load(folder)[1])


def trained_potential(
    structures: Path | None, members: int, n_steps: int, advance: Callable[[], None], *, elements: str = "published"
) -> Ensemble:
    """A potential in double precision that the learner made of all structures; `advance` is called after each step.

    Args:
        structures: File of labelled structures; None: built-in ones.
        members: Potentials in the ensemble.
        n_steps: Optimizer steps.
        advance: Called after each optimizer step.
        elements: Which elements are learned.

    Raises:
        UsageError: The file of structures cannot be read, or holds an element that is not let in.
    """
    train = tuple(labelled_structures(structures)) if structures else workload(None, N_BUILT_IN)
    tree = {
        "wire": {"elements": elements},
        "potential": {"members": members, "device": "cpu"},
        "learning": {"steps_per_record": (n_steps + 0.5) / len(train), "max_steps_per_tick": n_steps},
        "rehearsal": {"holdout_share": 0.0, "capacity": len(train)},
        "quarantine": {"enabled": False},
    }
    config = parse_config(tree, place="bench dynamics")
    check_elements(train, config.wire, place=structures, setting="--elements extended")
    learner = Learner(config)
    learner.process_tick(train, observe=lambda _: advance())
    return _in_double(learner.ensemble)


def _in_double(ensemble: Ensemble) -> Ensemble:
    return Ensemble.from_state(
        ensemble.spec,
        ensemble.state_dict(),
        hidden=ensemble.hidden,
        members=ensemble.members,
        dtype=torch.float64,
        device=torch.device("cpu"),
    )


def dynamics(
    ensemble: Ensemble, structures: Path | None, settings: Dynamics, advance: Callable[[], None]
) -> dict[str, float]:
    """Drifts of runs and how many exploded; `advance` is called after each time step.

    `drift_*` is that of the modified Hamiltonian which velocity Verlet follows, as the mean of the runs and as the
    largest of them in size, each with its standard error; `total_drift_*` is the mean for the plain total energy, whose
    oscillation of the order of the timestep squared hides a small drift in a short run.

    Raises:
        UsageError: The potential does not know an element of a structure, or a structure is a single atom.
    """
    starts = workload(structures, settings.n_runs)
    for number, start in enumerate(starts):
        if not ensemble.covers(start.atomic_numbers):
            raise UsageError("the potential does not know every element of the structures; train it on these")
        if start.n_atoms == 1:
            raise UsageError(
                f"{structures}, structure {number + 1}, is a single atom, which nothing moves; leave it out"
            )
    potential = _Potential(ensemble)
    runs = [_run(potential, start, settings, seed=number, advance=advance) for number, start in enumerate(starts)]
    whole = [run for run in runs if run.whole]
    drifts = [Drift.of(run.shadow, run.timestep, run.n_atoms) for run in whole]
    largest = max(drifts, key=lambda drift: abs(drift.slope), default=Drift.mean(()))
    return {
        "n_runs": len(runs),
        "n_exploded": len(runs) - len(whole),
        "n_steps": settings.n_steps,
        **_named("drift", Drift.mean(drifts)),
        **_named("largest_drift", largest),
        **_named("total_drift", Drift.mean([Drift.of(run.total, run.timestep, run.n_atoms) for run in whole])),
        "shadow_energy_std_mev_per_atom": _widest([run.shadow / run.n_atoms for run in whole]),
        "total_energy_std_mev_per_atom": _widest([run.total / run.n_atoms for run in whole]),
        "mean_temperature_k": float(np.mean([run.temperature for run in runs])),
    }


class _Potential:
    """Energy and forces of the ensemble mean."""

    def __init__(self, ensemble: Ensemble) -> None:
        self._functions = SymmetryFunctions(ensemble.spec, ensemble.dtype, ensemble.device)
        self._folded = ensemble.folded()

    def evaluate(self, structure: LabelledStructure) -> tuple[float, Float[np.ndarray, "A 3"]]:
        """Energy in eV and forces in eV/Å."""
        prediction = self._folded.predict(collate([Example(structure, self._functions.evaluate(structure))]))
        return float(prediction.mean_energy), prediction.mean_forces.numpy()


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Total energies in eV, plain and of the modified Hamiltonian, every `timestep` fs, and mean temperature in K."""

    total: Float[np.ndarray, "T"]
    shadow: Float[np.ndarray, "T"]
    timestep: float
    n_atoms: int
    temperature: float
    whole: bool


def _run(
    potential: _Potential, start: LabelledStructure, settings: Dynamics, *, seed: int, advance: Callable[[], None]
) -> _Run:
    structure = unlabelled(start)
    atoms = _moving(start, settings.temperature, seed)
    masses, velocities = atoms.get_masses()[:, None], atoms.get_velocities()
    n_freedoms = _degrees_of_freedom(start)
    dt = settings.timestep * units.fs
    energy, forces = potential.evaluate(structure)
    potential_energies, moving, pushing = [], [], []
    temperatures: list[float] = []
    for _ in range(settings.n_steps):
        kinetic = 0.5 * float((masses * velocities**2).sum())
        temperatures.append(2 * kinetic / (n_freedoms * units.kB))
        if not temperatures[-1] <= HOTTEST * max(settings.temperature, temperatures[0]):
            break
        potential_energies.append(energy)
        moving.append(velocities)
        pushing.append(forces)
        half = velocities + 0.5 * dt * forces / masses
        structure = replace(structure, positions=structure.positions + dt * half)
        energy, forces = potential.evaluate(structure)
        velocities = half + 0.5 * dt * forces / masses
        advance()
    temperature = float(np.mean(temperatures))
    if len(potential_energies) < settings.n_steps:
        return _Run(np.zeros(0), np.zeros(0), settings.timestep, len(atoms), temperature, whole=False)
    total, shadow = _energies(np.array(potential_energies), np.array(moving), np.array(pushing), masses, dt)
    return _Run(total, shadow, settings.timestep, len(atoms), temperature, whole=True)


def _moving(start: LabelledStructure, temperature: float, seed: int) -> Atoms:
    """A structure with velocities drawn at a temperature (K), less what moves all of it and, in vacuum, turns it.

    ASE would put the energy of what it takes away into what is left, counting 3 degrees of freedom for each atom: what
    is left has the temperature as it was drawn.
    """
    atoms = Atoms(start.atomic_numbers, start.positions, cell=start.cell, pbc=start.pbc)
    spread = np.sqrt(units.kB * temperature * atoms.get_masses())[:, None]
    atoms.set_momenta(spread * np.random.default_rng(seed).standard_normal((len(atoms), 3)))
    Stationary(atoms, preserve_temperature=False)
    if not start.pbc.any():
        with np.errstate(divide="ignore", invalid="ignore"):  # a line has no moment of inertia around itself
            ZeroRotation(atoms, preserve_temperature=False)
    return atoms


def _degrees_of_freedom(start: LabelledStructure) -> int:
    """What `_moving` leaves of 3 for each atom: all of it moves in 3 ways and, in vacuum, turns in 3, a line in 2."""
    centered = start.positions - start.positions.mean(axis=0)
    is_line = np.linalg.matrix_rank(centered, tol=STRAIGHT) < 2
    n_turns = 0 if start.pbc.any() else 2 if is_line else 3
    return 3 * start.n_atoms - 3 - n_turns


def _energies(
    potential_energies: Float[np.ndarray, "T"],
    velocities: Float[np.ndarray, "T A 3"],
    forces: Float[np.ndarray, "T A 3"],
    masses: Float[np.ndarray, "A 1"],
    dt: float,
) -> tuple[Float[np.ndarray, "T"], Float[np.ndarray, "T"]]:
    """Total energies in eV, and those of the modified Hamiltonian of velocity Verlet to second order of the timestep.

    H + dt²/12 v·V''·v - dt²/24 F·F/m, with V''·v = -dF/dt by central differences. Source: Hairer, Lubich & Wanner, Acta
    Numerica 12, 399 (2003), doi 10.1017/S0962492902000144; use for drifts: Engle, Skeel & Drees 2005,
    doi 10.1016/j.jcp.2004.12.009.
    """
    kinetic = 0.5 * (masses * velocities**2).sum(axis=(1, 2))
    total = potential_energies + kinetic
    change = np.gradient(forces, dt, axis=0)
    curvature = -(velocities * change).sum(axis=(1, 2)) / 12
    push = (forces**2 / masses).sum(axis=(1, 2)) / 24
    return total, (total + dt**2 * (curvature - push))[1:-1]


def _named(name: str, drift: Drift) -> dict[str, float]:
    return {
        f"{name}_ev_per_atom_per_ns": drift.slope,
        f"{name}_standard_error_ev_per_atom_per_ns": drift.standard_error,
    }


def _widest(energies: Sequence[Float[np.ndarray, "T"]]) -> float:
    """Largest standard deviation of energies (eV) in meV; NaN where there are none."""
    return max((1000.0 * float(run.std()) for run in energies), default=float("nan"))
