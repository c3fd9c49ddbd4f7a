"""What the size of initial output weights does to the errors after few steps.

    python -m tests.bench.initialisation [--shares 0.01 0.1 1] [--steps 2000] [--only SN2 --only ethanol]

Two members, networks alone, on data sets of `tests/bench/accuracy.toml`, by the learner of `lmlp-stream bench
accuracy`. Prints its table, with the share of unit variance (`network.LAST_LAYER_SHARE`) in place of the settings.
"""

import argparse
from pathlib import Path
from unittest import mock

from lmlp_stream.cli.bench.accuracy import measure, prepare
from lmlp_stream.cli.bench.accuracy_table import markdown
from lmlp_stream.cli.bench.data_sets import read_list
from lmlp_stream.potential import network
from lmlp_stream.potential.device import prepare_cpu

SETS = Path(__file__).with_name("accuracy.toml")
SETTINGS = ("potential.members=2", "potential.linear_features=0", "potential.threads=1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.1, 1.0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args()
    prepare_cpu(1)
    rows = []
    for data in read_list(SETS):
        if data.name not in (options.only or ["SN2", "ethanol"]):
            continue
        run = prepare(data, None, SETTINGS, (), options.steps)
        for share in options.shares:
            with mock.patch.object(network, "LAST_LAYER_SHARE", share):
                rows.append({**measure(run, lambda: None), "settings": [f"share={share:g}"]})
    print(markdown(rows))


if __name__ == "__main__":
    main()
