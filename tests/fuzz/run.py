"""Many hostile records through decoders, in several processes, with the time and memory they take."""

import os
import resource
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from multiprocessing import get_context
from random import Random

from tests.fuzz.decoders import decoders
from tests.fuzz.mutations import mutated

CHUNK = 5000
WARM_CHUNKS = 4
MAX_CRASHES = 5
SHOWN_BYTES = 4096
MAX_RECORD_S = 1.0
"""Processor time that no record may take, s; most take tens of microseconds, the slowest tens of milliseconds."""
MAX_GROWTH_BYTES = 64 * 2**20
"""Growth of a process's peak memory that no number of records may cause."""


@dataclass(slots=True)
class Findings:
    """What some records showed.

    Attributes:
        n_records: How many they were.
        n_let_in: How many were let in.
        reasons: How many were refused, by reason.
        crashes: How many a decoder did not survive.
        crash_records: The first of those, with the end of the traceback.
        slowest_s: Processor time of the slowest record.
        slowest_record: Its bytes; only the beginning of a long one.
        memory_growth_bytes: Growth of a process's peak memory after its first chunks.
        seconds: Processor time in decoders.
    """

    n_records: int = 0
    n_let_in: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    crashes: int = 0
    crash_records: list[tuple[str, str]] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest_record: str = ""
    memory_growth_bytes: int = 0
    seconds: float = 0.0

    def add(self, other: "Findings") -> None:
        """Count what other records showed."""
        self.n_records += other.n_records
        self.n_let_in += other.n_let_in
        self.reasons += other.reasons
        self.crashes += other.crashes
        self.crash_records = (self.crash_records + other.crash_records)[:MAX_CRASHES]
        self.memory_growth_bytes = max(self.memory_growth_bytes, other.memory_growth_bytes)
        self.seconds += other.seconds
        if other.slowest_s > self.slowest_s:
            self.slowest_s, self.slowest_record = other.slowest_s, other.slowest_record

    def faults(self) -> list[str]:
        """What a decoder must not do, in words; empty if it did none of it."""
        grown_mib, allowed_mib = self.memory_growth_bytes / 2**20, MAX_GROWTH_BYTES / 2**20
        found = {
            f"{self.crashes} records made it crash": self.crashes > 0,
            f"a record took {self.slowest_s:.2f} s, more than {MAX_RECORD_S:g} s": self.slowest_s > MAX_RECORD_S,
            f"memory grew by {grown_mib:.0f} MiB, more than {allowed_mib:.0f} MiB": grown_mib > allowed_mib,
        }
        return [fault for fault, is_there in found.items() if is_there]


def fuzz(
    names: Sequence[str], n_records: int, seed: int, processes: int, observe: Callable[[Findings], None]
) -> dict[str, Findings]:
    """Findings by decoder for `n_records` shared out among the decoders; equal records for equal seeds.

    Args:
        names: The decoders.
        n_records: Records of all decoders together.
        seed: Of the records.
        processes: How many.
        observe: Called with the findings of each chunk.
    """
    findings = {name: Findings() for name in names}
    n_chunks = -(-n_records // CHUNK)
    chunks = [(names[index % len(names)], index, min(CHUNK, n_records - index * CHUNK)) for index in range(n_chunks)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for (name, _, _), found in zip(chunks, pool.map(run_chunk, chunks, repeat(seed)), strict=True):
            findings[name].add(found)
            observe(found)
    return findings


_DECODERS = decoders()
_warm = {"chunks": 0, "peak": 0}


def run_chunk(chunk: tuple[str, int, int], seed: int) -> Findings:
    """Findings of one chunk: decoder, number of the chunk, records."""
    name, number, n_records = chunk
    decoder = _DECODERS[name]
    random = Random(f"{seed}/{name}/{number}")
    findings = Findings(n_records=n_records)
    for _ in range(n_records):
        value = mutated(random, decoder.seeds, resign=decoder.resign)
        started = time.thread_time()
        try:
            reason = decoder.judge(value)
        except Exception:
            findings.crashes += 1
            if len(findings.crash_records) < MAX_CRASHES:
                findings.crash_records.append((value[:SHOWN_BYTES].hex(), traceback.format_exc()[-800:]))
            continue
        taken = time.thread_time() - started
        findings.seconds += taken
        if taken > findings.slowest_s:
            findings.slowest_s, findings.slowest_record = taken, value[:SHOWN_BYTES].hex()
        if reason:
            findings.reasons[reason] += 1
        else:
            findings.n_let_in += 1
    findings.memory_growth_bytes = _growth()
    return findings


def _growth() -> int:
    """Growth of this process's peak memory since its first chunks, in which everything is built once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    _warm["chunks"] += 1
    if _warm["chunks"] <= WARM_CHUNKS:
        _warm["peak"] = peak
    return peak - _warm["peak"]


def default_processes() -> int:
    """One process for each processor this one may use."""
    return len(os.sched_getaffinity(0))
