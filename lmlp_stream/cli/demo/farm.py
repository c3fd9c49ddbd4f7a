"""A worker of the demo's job farm: GFN2-xTB on molecules and SN2 complexes, published label by label.

`python -m lmlp_stream.cli.demo.farm CONFIG WORKER N_WORKERS LABELS SECONDS TEST_FILE`
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write

from lmlp_stream.cli.demo.children import Stopped
from lmlp_stream.cli.demo.molecules import Segment, farm_domains, segments
from lmlp_stream.cli.demo.settings import LARGEST_FORCE
from lmlp_stream.config import load_config
from lmlp_stream.farm.publisher import Publisher

TEST_EVERY = 3
"""Of so many segments of a domain the first worker keeps the second for the test file."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish this worker's share of labels at an even pace, until done or asked to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("worker", type=int)
    parser.add_argument("n_workers", type=int)
    parser.add_argument("labels", type=int, help="labels of all workers together")
    parser.add_argument("seconds", type=float, help="time they are spread over, s")
    parser.add_argument("test_file", type=Path)
    chosen = parser.parse_args(arguments)
    stopped = Stopped()
    config = load_config(chosen.config)
    share = range(chosen.worker, chosen.labels, chosen.n_workers)
    stream = labels(config.seed, chosen.worker, chosen.test_file)
    begin = time.monotonic()
    with Publisher(config, source=f"farm-{chosen.worker}") as publisher:
        for number in share:
            domain, group, atoms = next(stream)
            publisher.publish(atoms, domain=domain, group=group)
            publisher.flush()
            wait_until(begin + chosen.seconds * number / chosen.labels, stopped)
            if stopped:
                break
    return 0


def labels(seed: int, worker: int, test_file: Path) -> Iterator[tuple[str, str, Atoms]]:
    """Domain, group and labelled structure, domains drawn at random; test segments are written, never returned.

    Every domain walks through its own segments, so what follows in the stream is rarely a near copy.
    """
    domains = farm_domains()
    generators = np.random.SeedSequence([seed, worker]).spawn(len(domains) + 1)
    walks = [
        walk(domain, worker, np.random.default_rng(child), test_file)
        for domain, child in zip(domains, generators[1:], strict=True)
    ]
    draw = np.random.default_rng(generators[0])
    while True:
        yield next(walks[draw.integers(len(walks))])


def walk(domain: str, worker: int, generator: np.random.Generator, test_file: Path) -> Iterator[tuple[str, str, Atoms]]:
    """The published structures of one domain, segment after segment."""
    for number, segment in enumerate(segments(domain, generator)):
        group = f"farm-{worker}/{segment.name}"
        if worker == 0 and number % TEST_EVERY == 1:
            keep_for_test(segment, group, test_file)
            continue
        for atoms in segment.frames:
            if np.abs(atoms.get_forces()).max() < LARGEST_FORCE:
                yield domain, group, atoms


def keep_for_test(segment: Segment, group: str, test_file: Path) -> None:
    """Append the structures of a segment to the test file, under keys that mean reference labels."""
    for frame in segment.frames:
        atoms = Atoms(frame.symbols, positions=frame.positions)
        atoms.info = {
            "charge": frame.info["charge"],
            "REF_energy": frame.get_potential_energy(),
            "domain": segment.domain,
            "group_id": group,
        }
        atoms.arrays["REF_forces"] = frame.get_forces()
        write(test_file, atoms, format="extxyz", append=True)


def wait_until(moment: float, stopped: Stopped) -> None:
    """Return at a moment of the monotonic clock, or soon after being asked to stop."""
    while not stopped and (left := moment - time.monotonic()) > 0.0:
        time.sleep(min(left, 0.2))


if __name__ == "__main__":
    raise SystemExit(main())
