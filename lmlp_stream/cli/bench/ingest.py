"""Speed of the door: decode, limits, physics gates and recognition of duplicates. Never imports torch."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

from lmlp_stream.cli.bench.settings import MIN_STRUCTURES
from lmlp_stream.cli.bench.timing import Elapsed, repeated, speed, timed
from lmlp_stream.cli.bench.workload import workload
from lmlp_stream.config import Config
from lmlp_stream.errors import UsageError
from lmlp_stream.learning.known_ids import KnownIds
from lmlp_stream.wire.record import Limits, Rejection, decode, encode

N_RECORDS = 1024
"""Records that each process lets in per repeat."""


def ingest(structures: Path | None, *, processes: int, repeats: int, seconds: float) -> dict[str, float]:
    """Figures of letting records in; with several processes, of all of them together.

    Raises:
        UsageError: The file cannot be read, or the door refuses one of its structures.
    """
    distinct = workload(structures, MIN_STRUCTURES)
    admitted = [replace(distinct[i % len(distinct)], id=f"bench-{i}") for i in range(N_RECORDS)]
    records = [encode(structure) for structure in admitted]
    let_in(records)
    with _measure(records, processes) as measure:
        times = repeated(measure, repeats=repeats, seconds=seconds)
    n_atoms = sum(structure.n_atoms for structure in admitted)
    return speed(times, n_structures=processes * N_RECORDS, n_atoms=processes * n_atoms)


def let_in(records: Sequence[bytes]) -> None:
    """Decode records and know their ids.

    Raises:
        UsageError: A record is refused or its id known.
    """
    config = Config()
    limits, known = Limits.of(config.wire), KnownIds(config.learning.remembered_ids)
    for record in records:
        verdict = decode(record, limits)
        if isinstance(verdict, Rejection):
            raise UsageError(f"the door refuses a structure: {verdict.detail}; measure with structures it lets in")
        if not known.add(verdict.id):
            raise UsageError(f"the id {verdict.id!r} came twice; measure with structures of distinct ids")


@contextmanager
def _measure(records: Sequence[bytes], processes: int) -> Iterator[Callable[[], Elapsed]]:
    if processes == 1:
        yield lambda: timed(lambda: let_in(records))
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), _give, (records,)) as pool:

        def together() -> Elapsed:
            start = time.perf_counter()
            running = [pool.submit(_let_in_given) for _ in range(processes)]
            cpu_s = sum(future.result().cpu_s for future in running)
            return Elapsed(cpu_s=cpu_s, wall_s=time.perf_counter() - start)

        yield together


_given: list[bytes] = []


def _give(records: Sequence[bytes]) -> None:
    """Hand a new process its records."""
    _given.extend(records)


def _let_in_given() -> Elapsed:
    return timed(lambda: let_in(_given))
