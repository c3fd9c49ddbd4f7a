"""What labels of another level of theory do to errors at the main one: learned by a head of their own, and without.

    python tests/bench/levels_of_theory.py --train FILE --test FILE [--labels 800] [--further 800] [--method GFN1-xTB]
        [--seeds 0,1,2] [--set section.key=value ...]

Both files are of the main level. A part of the first is learned as it is, another part is labelled anew by xTB (needs
the extra `demo`) and comes beside it. Arms: `alone`, without these labels; `head`, with them, as `wire.further_levels`
learns them; `mixed`, with their forces as if they were of the main level. Prints a line for each run, errors on the
test structures, and at last one line of JSON with the medians.
"""

import argparse
import json
import statistics
from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.cli.bench.configured import SEED, bench_config, holding_nothing_out
from lmlp_stream.cli.bench.requests.run import functions_of
from lmlp_stream.cli.bench.stream.errors import Examination
from lmlp_stream.cli.evaluate import labelled_structures
from lmlp_stream.config import Config, LabelConfig, overlaid
from lmlp_stream.farm.calculators import CalculationFailedError, LabelCalculator
from lmlp_stream.farm.door import with_labels
from lmlp_stream.learning.learner import Learner
from lmlp_stream.potential.device import prepare_cpu


def labelled_anew(structures: list[LabelledStructure], method: str, n_labels: int) -> list[LabelledStructure]:
    """The first structures for which xTB finds labels, at its level of theory."""
    calculator = LabelCalculator(
        LabelConfig(calculator="tblite.ase:TBLite", arguments={"method": method, "verbosity": 0})
    )
    found: list[LabelledStructure] = []
    for structure in structures:
        try:
            labels = calculator.labels(structure)
        except CalculationFailedError:
            continue
        names = {"id_": f"{method} {structure.id}", "domain": structure.domain, "group": structure.group}
        found.append(with_labels(structure, labels, **names, level_of_theory=method, source=""))
        if len(found) == n_labels:
            break
    return found


def side_by_side(main: list[LabelledStructure], further: list[LabelledStructure]) -> list[LabelledStructure]:
    """Both as one stream, in which each comes as evenly as it can."""
    places = np.concatenate([np.linspace(0.0, 1.0, len(some), endpoint=False) for some in (main, further)])
    return [(*main, *further)[place] for place in np.argsort(places, kind="stable")]


def errors_after(stream: list[LabelledStructure], config: Config, test: Examination) -> dict[str, float]:
    """Errors of a learner that took the stream."""
    learner, size = Learner(config), config.learning.records_per_tick
    for first in range(0, len(stream), size):
        learner.process_tick(stream[first : first + size])
    found = test.errors(learner.ensemble)
    if found is None:
        raise SystemExit("an element of --test is not in --train; give files of the same elements")
    return found.named("ensemble")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--labels", type=int, default=800, help="of the main level")
    parser.add_argument("--further", type=int, default=800, help="of the other one")
    parser.add_argument("--method", default="GFN1-xTB", help="of tblite")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--arms", default="alone,head,mixed")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="SECTION.KEY=VALUE")
    options = parser.parse_args()
    settings = (*options.settings, f'wire.further_levels=["{options.method}"]')
    config = holding_nothing_out(bench_config(None, settings, SEED), ())
    prepare_cpu(config.potential.threads)
    pool = list(labelled_structures(options.train))
    order = np.random.default_rng(0).permutation(len(pool))
    shuffled = [pool[index] for index in order]
    known = shuffled[: options.labels]
    further = labelled_anew(shuffled[options.labels :], options.method, options.further)
    forces = [replace(structure, energy=nan, level_of_theory="") for structure in further]
    streams = {"alone": known, "head": side_by_side(known, further), "mixed": side_by_side(known, forces)}
    test = Examination(list(labelled_structures(options.test)), functions_of(config))
    told = {"labels": len(known), "further": len(further), "method": options.method}
    for arm in options.arms.split(","):
        found = []
        for seed in options.seeds.split(","):
            found.append(errors_after(streams[arm], overlaid(config, [f"seed={seed}"]), test))
            print(arm, seed, {name: round(value, 2) for name, value in found[-1].items()}, flush=True)
        told[arm] = {name: statistics.median(one[name] for one in found) for name in found[0]}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
