"""CPU and wall time of repeats, and the figures that follow from them."""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Time of one repeat: of all threads of this process on a CPU, and on the clock, s."""

    cpu_s: float
    wall_s: float


def timed(work: Callable[[], object]) -> Elapsed:
    """The time `work` takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Elapsed(cpu_s=time.process_time() - cpu, wall_s=time.perf_counter() - wall)


def repeated(measure: Callable[[], T], *, repeats: int, seconds: float) -> list[T]:
    """What `measure` returned at least `repeats` times and for at least `seconds`, after one call that is not kept."""
    measure()
    start = time.perf_counter()
    measured: list[T] = []
    while len(measured) < repeats or time.perf_counter() - start < seconds:
        measured.append(measure())
    return measured


def speed(times: Sequence[Elapsed], *, n_structures: int, n_atoms: int) -> dict[str, float]:
    """Figures of repeats over the same structures: each of the best repeat, and as `*_median`.

    Other processes on a shared machine only ever slow a repeat down: compare the best, and distrust it where it is far
    from the median.

    Args:
        times: One per repeat.
        n_structures: Structures of one repeat.
        n_atoms: Atoms of one repeat.
    """
    cpu, wall = [elapsed.cpu_s for elapsed in times], [elapsed.wall_s for elapsed in times]
    figures: dict[str, float] = {"n_repeats": len(times)}
    for suffix, cpu_s, wall_s in (("", min(cpu), min(wall)), ("_median", median(cpu), median(wall))):
        figures |= {
            f"structures_per_cpu_s{suffix}": n_structures / cpu_s,
            f"structures_per_s{suffix}": n_structures / wall_s,
            f"atoms_per_cpu_s{suffix}": n_atoms / cpu_s,
            f"cpu_ms_per_structure{suffix}": 1000.0 * cpu_s / n_structures,
        }
    return figures


def peak_rss_mb() -> float:
    """Largest resident memory so far of this process or of one that it has waited for, MB."""
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return largest / 1e6 if sys.platform == "darwin" else largest * 1024 / 1e6
