"""The demo's simulation: molecular dynamics of an SN2 complex that the farm never computes, with whatever is known.

`python -m lmlp_stream.cli.demo.simulation CONFIG LINES TRAJECTORY`

It takes each new snapshot between two steps, asks for labels where the potential is unsure, and begins anew where a
young potential tears the complex apart.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from ase.io import write
from ase.md.langevin import Langevin

from lmlp_stream.cli.demo.children import Stopped
from lmlp_stream.cli.demo.molecules import SIMULATED, thermalize
from lmlp_stream.config import load_config
from lmlp_stream.simulate.calculator import LmlpCalculator

TEMPERATURE = 300.0
"""Of the thermostat, K."""
TIMESTEP = 1.0
"""fs."""
STEPS_PER_BURST = 5
"""Steps between two looks at the complex, frames of the trajectory and possible changes of the snapshot."""
STEPS_PER_TRAJECTORY = 400
"""After so many steps the next trajectory begins, so that every snapshot meets reactants and barrier."""
PAUSE_S = 0.15
"""Rest after a burst: the learner needs the processor more."""
PATIENCE_S = 240.0
"""Longest wait for the first snapshot."""

HOTTEST = 1200.0
"""Instantaneous temperature above which a trajectory is given up, K."""
FARTHEST = 6.0
"""Distance of any atom from carbon above which it is, Å."""
CLOSEST = 0.75
"""Distance of two atoms below which it is, in sums of their covalent radii."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run trajectories until asked to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("lines", type=Path)
    parser.add_argument("trajectory", type=Path)
    chosen = parser.parse_args(arguments)
    config = load_config(chosen.config)
    diary = Diary(chosen.lines)
    calculator = LmlpCalculator.follow(
        config, device="cpu", on_uncertain="request", requester="simulation", timeout_s=PATIENCE_S
    )
    stopped = Stopped()
    generator = np.random.default_rng([config.seed, 1])
    while not stopped:
        run_trajectory(calculator, generator, diary, chosen.trajectory, stopped)
    calculator.close()
    return 0


@dataclass(slots=True)
class Diary:
    """Lines about what happens, for the demo's view and its summary.

    Attributes:
        path: The file.
        step: Steps over all trajectories.
        snapshot: The snapshot of the last line about one.
    """

    path: Path
    step: int = 0
    snapshot: str = ""

    def write(self, kind: str, **fields: Any) -> None:
        """Append one line with step and time."""
        line = {"kind": kind, "step": self.step, "time": time.time(), **fields}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def run_trajectory(
    calculator: LmlpCalculator, generator: np.random.Generator, diary: Diary, trajectory: Path, stopped: Stopped
) -> None:
    """One trajectory from a new start near the reactants or the barrier, until its end, its failure or a stop."""
    atoms = SIMULATED.complex_at(generator.uniform(-1.0, 0.2))
    atoms.calc = calculator
    thermalize(atoms, TEMPERATURE, generator)
    dynamics = Langevin(
        atoms,
        TIMESTEP * units.fs,
        temperature_K=TEMPERATURE,
        friction=0.02 / units.fs,
        fixcm=False,
        rng=generator,
    )
    for _ in range(STEPS_PER_TRAJECTORY // STEPS_PER_BURST):
        calculator.update()
        if calculator.snapshot_id != diary.snapshot:
            diary.snapshot = calculator.snapshot_id
            diary.write("snapshot", id=diary.snapshot, labels_learned=calculator.manifest.labels_learned)
        dynamics.run(STEPS_PER_BURST)
        diary.step += STEPS_PER_BURST
        if fault := broken(atoms):
            diary.write("restart", reason=fault)
            return
        calculator.annotate(atoms)
        write(trajectory, atoms, format="extxyz", append=True)
        diary.write(
            "status",
            temperature=float(atoms.get_temperature()),
            uncertainty=atoms.info["max_forces_uncertainty"],
            n_requests=calculator.n_requests,
        )
        time.sleep(PAUSE_S)
        if stopped:
            return


def broken(atoms: Atoms) -> str:
    """Why a trajectory cannot go on; empty where it can."""
    if not np.isfinite(atoms.positions).all():
        return "positions are not finite"
    distances = atoms.get_all_distances()
    temperature = atoms.get_temperature()
    if distances[0].max() > FARTHEST:
        return f"an atom is {distances[0].max():.1f} Å from carbon"
    radii = covalent_radii[atoms.numbers]
    if (distances < CLOSEST * (radii[:, None] + radii)).sum() > len(atoms):
        return "two atoms overlap"
    if temperature > HOTTEST:
        return f"temperature is {temperature:.0f} K"
    return ""


if __name__ == "__main__":
    raise SystemExit(main())
