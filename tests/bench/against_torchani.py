"""Training speed of our ensemble over that of one ANI-1x network (TorchANI), taken in turn on the same structures.

    python tests/bench/against_torchani.py --python ANI_ENV/bin/python --structures FILE [--rounds 5] [--seconds 10]
        [--members 10] [--batch 32] [--preset published]

Run it with the Python that has lmlp_stream; `--python` is that of an environment with TorchANI, made by

    python -m venv ANI_ENV && ANI_ENV/bin/pip install torch==2.13.0 torchani==2.9.0 numpy ase

Each round starts TorchANI (ani_train.py), then `lmlp-stream bench train`, one thread each, so that both meet the same
machine. A structure counts once for us, however many members learn it. Prints one line of JSON: `ratio` is best over
best, `ratio_median` the median of the rounds' ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FIGURE = "structures_per_cpu_s"
ANI_TRAIN = Path(__file__).with_name("ani_train.py")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def measured(command: Sequence[str]) -> dict[str, Any]:
    """The JSON a command prints last; what it says on stderr is passed on."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=os.environ | ONE_THREAD)
    except OSError as error:
        raise SystemExit(
            f"{command[0]} cannot be run ({error.strerror}); give --python that of an environment with TorchANI"
        ) from error
    if done.returncode:
        raise SystemExit(f"`{' '.join(command)}` ended with code {done.returncode}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compared(ours: Sequence[dict[str, Any]], torchani: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Ratios of rounds, with the best and the median figure of both sides."""
    our_figures, their_figures = [round_[FIGURE] for round_ in ours], [round_[FIGURE] for round_ in torchani]
    return {
        "ratio": max(our_figures) / max(their_figures),
        "ratio_median": statistics.median(a / b for a, b in zip(our_figures, their_figures, strict=True)),
        "n_rounds": len(our_figures),
        **_summary("lmlp_stream", our_figures),
        **_summary("torchani", their_figures),
    }


def _summary(name: str, figures: list[float]) -> dict[str, float]:
    return {f"{name}_{FIGURE}": max(figures), f"{name}_{FIGURE}_median": statistics.median(figures)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="Python of an environment with TorchANI")
    parser.add_argument("--structures", type=Path, required=True, help="labelled structures of one molecule")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="least time of one side in one round")
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--preset", default="published")
    options = parser.parse_args()
    shared = ["--structures", str(options.structures), "--batch", str(options.batch)]
    shared += ["--repeats", str(options.repeats), "--seconds", str(options.seconds)]
    own = ["--members", str(options.members), "--preset", options.preset, "--threads", "1", "--json"]
    ours, torchani = [], []
    for number in range(1, options.rounds + 1):
        torchani.append(measured([options.python, str(ANI_TRAIN), *shared]))
        ours.append(measured([sys.executable, "-m", "lmlp_stream.cli.main", "bench", "train", *shared, *own]))
        print(
            f"round {number}: lmlp_stream {ours[-1][FIGURE]:.1f}, TorchANI {torchani[-1][FIGURE]:.1f} {FIGURE}",
            file=sys.stderr,
        )
    settings = {name: getattr(options, name) for name in ("members", "batch", "preset")}
    print(json.dumps({**settings, "structures": str(options.structures), **compared(ours, torchani)}))


if __name__ == "__main__":
    main()
