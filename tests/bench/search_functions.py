"""Search for the default symmetry functions and networks: one changed choice at a time.

    python tests/bench/search_functions.py --train shared/data/3bpa/train_300K.extxyz.xz
        --test shared/data/3bpa/test_300K.extxyz.xz --atomic-energies shared/data/3bpa/iso_atoms.xyz
        [--steps 1000] [--members 2] [--seeds 0 1] [--only NAME ...] [--output tests/bench/search_functions]

Every choice is trained offline as `lmlp-stream bench accuracy` does it, with each seed, networks alone, and
writes one line of the same table. Without `--output` the table goes to stdout; with it, lines that stand there already
are kept and not learned again; lines of other structures, steps or settings are refused. Compare lines of equal steps:
more functions cost more time a step.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

from lmlp_stream.atoms.symmetry_spec import ANGULAR_PARTS, PUBLISHED_PARTS, SymmetrySpec, shifted, spec_of
from lmlp_stream.cli.bench.accuracy import Run, measure, prepare
from lmlp_stream.cli.bench.accuracy_table import markdown, write_tables
from lmlp_stream.cli.bench.data_sets import DataSet
from lmlp_stream.config import Config, overlaid
from lmlp_stream.errors import LmlpStreamError, UsageError

PUBLISHED_FACTORS = {
    "radial_factors": ("1", "n", "sp", "6-n", "9-sp"),
    "angular_factors": ("sum:1", "sum:n", "sum:sp", "sum:6-n", "sum:9-sp", "difference:n", "difference:sp"),
}
BROAD_PARTS = tuple((lambda_, zeta, min(xi, 4.0)) for lambda_, zeta, xi in ANGULAR_PARTS)
SHARP_PARTS = tuple((lambda_, zeta, 2 * xi) for lambda_, zeta, xi in ANGULAR_PARTS)
MORE_PARTS = (*ANGULAR_PARTS, (1.0, 2, 2.0), (1.0, 4, 2.0), (-1.0, 4, 2.0))

FUNCTIONS: dict[str, dict[str, Any]] = {
    "radial shells 10": {"radial_shells": 10},
    "radial shells 20": {"radial_shells": 20},
    "radial width 10 %": {"radial_width": 0.10},
    "radial width 20 %": {"radial_width": 0.20},
    "angular shells 3": {"angular_shells": 3},
    "angular shells 6": {"angular_shells": 6},
    "angular width 20 %": {"angular_width": 0.20},
    "angular width 45 %": {"angular_width": 0.45},
    "angular parts: zeta to 2": {"angular_parts": ANGULAR_PARTS[:5]},
    "angular parts: zeta to 4": {"angular_parts": MORE_PARTS},
    "angular parts: xi at most 4": {"angular_parts": BROAD_PARTS},
    "angular parts: xi doubled": {"angular_parts": SHARP_PARTS},
    "angular parts: lambda to 1": {"angular_parts": PUBLISHED_PARTS},
    "published element factors": PUBLISHED_FACTORS,
}
"""What changes in the functions of the default preset."""
SETTINGS: dict[str, tuple[str, ...]] = {
    "default": (),
    "cutoff 4.4 Å": ("symmetry.cutoff=4.4",),
    "cutoff 5.2 Å": ("symmetry.cutoff=5.2",),
    "networks 61-44": ("potential.hidden=[61,44]",),
    "networks 153-102-61": ("potential.hidden=[153,102,61]",),
    "published form": ("symmetry.preset=published",),
}
"""What changes in the configuration."""
CHOICES = (*SETTINGS, *FUNCTIONS)


ALIKE = ("potential.threads=1", "potential.linear_features=0", "rehearsal.holdout_share=0")
"""What all choices have in common."""


def prepared(options: argparse.Namespace, choice: str, seed: int) -> Run:
    """The run of one choice and seed."""
    name = options.train.name.removesuffix(".xz").removesuffix(".extxyz")
    data = DataSet(name=name, train=options.train, test=options.test, atomic_energies=options.atomic_energies)
    common = (f"potential.members={options.members}", f"seed={seed}", *ALIKE)
    return prepare(data, None, common, SETTINGS.get(choice, ()), options.steps)


def functions(config: Config, choice: str) -> SymmetrySpec:
    """The symmetry functions of one choice."""
    return shifted(config.symmetry.cutoff, **FUNCTIONS[choice]) if choice in FUNCTIONS else spec_of(config.symmetry)


def learned(run: Run, choice: str, seed: int) -> dict[str, Any]:
    """The figures of one choice and seed for networks alone, a row of the table of accuracies."""
    with mock.patch("lmlp_stream.learning.trainer.spec_of", return_value=functions(run.config, choice)):
        row = measure(run, lambda: None)
    return {**row, "settings": [choice, f"seed {seed}"]}


def keys(options: argparse.Namespace) -> dict[str, str]:
    """For each choice a digest of structures, steps, settings and functions, whatever the seed."""
    run = prepared(options, "default", seed=0)
    ids = [[structure.id for structure in part] for part in (run.train, run.test)]
    configs = {choice: overlaid(run.config, SETTINGS.get(choice, ())) for choice in CHOICES}
    told = {choice: [ids, c.model_dump(mode="json"), functions(c, choice).to_dict()] for choice, c in configs.items()}
    return {choice: hashlib.sha256(json.dumps(of_one).encode()).hexdigest() for choice, of_one in told.items()}


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="labelled structures that are learned")
    parser.add_argument("--test", type=Path, help="those that are predicted; else a tenth is held out")
    parser.add_argument("--atomic-energies", type=Path, help="isolated atoms, or JSON of energies (eV) by symbol")
    parser.add_argument("--steps", type=int, default=1000, help="optimizer steps of each choice")
    parser.add_argument("--members", type=int, default=2, help="potentials in each ensemble")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="each choice is learned with every seed")
    parser.add_argument(
        "--only", nargs="+", choices=CHOICES, default=CHOICES, metavar="NAME", help="only these choices"
    )
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.md after every run")
    return parser.parse_args(given)


def kept(output: Path, searched: dict[str, str]) -> list[dict[str, Any]]:
    """The rows that an earlier search of the same keys left under this stem.

    Raises:
        UsageError: Some are of another search.
    """
    path = output.with_name(f"{output.name}.json")
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    if any(row.get("key") != searched.get(row["settings"][0], "") for row in rows):
        raise UsageError(
            f"{path} holds lines of other structures, steps or settings; remove it or give another --output"
        )
    return rows


def search(options: argparse.Namespace) -> None:
    """Learn what is missing and write the table."""
    searched = keys(options)
    rows = kept(options.output, searched) if options.output else []
    done = {tuple(row["settings"]) for row in rows}
    for seed, choice in product(options.seeds, options.only):
        if (choice, f"seed {seed}") not in done:
            rows.append({**learned(prepared(options, choice, seed), choice, seed), "key": searched[choice]})
            if options.output:
                write_tables(options.output, rows)
    if not options.output:
        print(markdown(rows))


def main(given: Sequence[str] | None = None) -> None:
    try:
        search(arguments(given))
    except LmlpStreamError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
