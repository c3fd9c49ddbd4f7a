"""`python -m tests.fuzz --decoder all --records 10000000 --seed 0 [--json]`: exit code 1 if a decoder broke.

It breaks when it crashes, takes long over a record, or lets memory grow.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict

from tests.fuzz.decoders import decoders
from tests.fuzz.run import Findings, default_processes, fuzz

ALL = "all"
TOLD_EVERY = 100_000


def main() -> int:
    """Print what was found."""
    names = list(decoders())
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--decoder", choices=[ALL, *names], default=ALL)
    parser.add_argument("--records", type=int, default=1_000_000, help="shared out among the decoders")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=default_processes())
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    arguments = parser.parse_args()
    started = time.perf_counter()
    chosen = names if arguments.decoder == ALL else [arguments.decoder]
    n_done = n_crashes = 0

    def observe(found: Findings) -> None:
        nonlocal n_done, n_crashes
        n_done, n_crashes = n_done + found.n_records, n_crashes + found.crashes
        if n_done // TOLD_EVERY > (n_done - found.n_records) // TOLD_EVERY:
            seconds = time.perf_counter() - started
            print(f"{n_done} records, {n_crashes} crashes, {seconds:.0f} s", file=sys.stderr, flush=True)

    findings = fuzz(chosen, arguments.records, arguments.seed, arguments.processes, observe)
    if arguments.json:
        figures = {name: asdict(found) | {"reasons": dict(found.reasons)} for name, found in findings.items()}
        print(json.dumps({"seed": arguments.seed, "seconds": time.perf_counter() - started, "decoders": figures}))
    else:
        for name, found in findings.items():
            print(
                f"{name:20} {found.n_records} records, {found.n_let_in} let in, {found.crashes} crashes, slowest "
                f"{1e3 * found.slowest_s:.1f} ms, mean {1e6 * found.seconds / max(1, found.n_records):.0f} µs, "
                f"peak memory +{found.memory_growth_bytes / 2**20:.1f} MiB"
            )
            for record, trace in found.crash_records:
                print(record, trace, sep="\n")
    faults = [f"{name}: {fault}" for name, found in findings.items() for fault in found.faults()]
    for fault in faults:
        print(fault, file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
