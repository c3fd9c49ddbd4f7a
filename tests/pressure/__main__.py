"""`python -m tests.pressure --labels 200000 [--json]`: is the learner's memory flat, does the log absorb a burst?"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.pressure.run import press

MAX_DEVIATION = 0.05


def main() -> int:
    """Print the figures; 1 if memory left the band of ±5 % or a label was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.pressure", description=__doc__)
    parser.add_argument("--labels", type=int, default=200_000, help="how many labels are fed")
    parser.add_argument("--seed", type=int, default=0, help="of the labels")
    parser.add_argument("--json", action="store_true", help="figures as JSON, with every sample")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pressure-") as folder:
        outcome = press(arguments.labels, Path(folder), arguments.seed)
    figures = outcome.named()
    if arguments.json:
        samples = [[s.seconds, s.n_records, s.resident_mib] for s in outcome.samples]
        print(json.dumps({**figures, "samples": samples}))
    else:
        for name, value in figures.items():
            print(f"{name:20} {value:.3f}" if isinstance(value, float) else f"{name:20} {value}")
    flat = max(outcome.highest - 1.0, 1.0 - outcome.lowest) <= MAX_DEVIATION
    return 0 if flat and outcome.n_read == outcome.n_labels else 1


if __name__ == "__main__":
    sys.exit(main())
