"""How soon the stream goes on after labels that no step can be made with.

    python -m tests.bench.divergence [--guilty 1 2 16] [--repeats 3]

A learner of the default size that has learned some ticks of the built-in structures is given one whose labels explode,
some of its sixteen or all of them, unjudged by the quarantine. The time is that of all halvings of the tick, without
the steps that it makes with the others. One JSON line for each number of guilty labels.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from unittest import mock

import torch

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.cli.bench.timing import timed
from lmlp_stream.cli.bench.workload import workload
from lmlp_stream.config import load_config
from lmlp_stream.learning import learner as room
from lmlp_stream.learning.learner import Learner

N_TICKS = 4
EXPLODING = 1e4
"""What the forces of a guilty label are multiplied with."""


def measure(n_guilty: int, repeats: int, *, members: int = 8) -> dict[str, object]:
    """Median and longest time in which that many guilty labels of one tick are found, s."""
    unjudged = ("quarantine.enabled=false", "learning.steps_per_record=1.0", "potential.device=cpu")
    config = load_config(None, [*unjudged, f"potential.members={members}"])
    size = config.learning.records_per_tick
    structures = workload(None, size * (N_TICKS + repeats))
    learner = Learner(config)
    for first in range(0, size * N_TICKS, size):
        learner.process_tick(structures[first : first + size])
    found = [_found(learner, structures[size * (N_TICKS + n) :][:size], n_guilty) for n in range(repeats)]
    return {"guilty": n_guilty, "of": size, "members": members, "found_s": median(found), "longest_s": max(found)}


def _found(learner: Learner, tick: Sequence[LabelledStructure], n_guilty: int) -> float:
    """Time of the bisections of a tick, s."""
    tick = [*(replace(one, forces=EXPLODING * one.forces) for one in tick[:n_guilty]), *tick[n_guilty:]]
    guilty, spent = room.guilty, list[float]()

    def clocked(*arguments):
        found = []
        spent.append(timed(lambda: found.extend(guilty(*arguments))).wall_s)
        return found

    with mock.patch.object(room, "guilty", clocked):
        report = learner.process_tick(tick)
    if {condemned.structure.id for condemned in report.diverging} != {one.id for one in tick[:n_guilty]}:
        raise AssertionError(f"{len(report.diverging)} labels were found guilty, not {n_guilty}")
    return sum(spent)


def main() -> None:
    """Print a line for each number of guilty labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--guilty", type=int, nargs="+", default=[1, 2, 16], help="labels of a tick that explode")
    parser.add_argument("--repeats", type=int, default=3, help="ticks of each number")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for n_guilty in arguments.guilty:
        print(json.dumps(measure(n_guilty, arguments.repeats)))


if __name__ == "__main__":
    main()
