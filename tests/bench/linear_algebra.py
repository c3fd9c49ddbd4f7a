"""Products and triangular factors by the library that `potential.linear_algebra` chooses here, and by torch, in turn.

    python tests/bench/linear_algebra.py [--threads 1] [--members 10]

One line for each product of a training step of the published networks, for so many atoms of an element: GFLOP/s of the
best repeat, by the clock. At last the factor of a linear part of so many features. Where both columns are alike, torch
computes in both.
"""

import argparse
from collections.abc import Callable
from time import perf_counter

import torch

from lmlp_stream.potential.linear_algebra import lower_cholesky, product

LAYERS = ((153, 102), (102, 61), (61, 44))
ATOMS = (12, 64, 384)
FEATURES = (800, 3200)
SECONDS = 0.05
REPEATS = 7


def best(work: Callable[[], object]) -> float:
    """Seconds of one call in the best repeat."""
    start, calls = perf_counter(), 0
    while perf_counter() - start < SECONDS:
        work()
        calls += 1
    times = []
    for _ in range(REPEATS):
        start = perf_counter()
        for _ in range(calls):
            work()
        times.append((perf_counter() - start) / calls)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--members", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    print("product                            here  torch")
    for n_atoms in ATOMS:
        for n_in, n_out in LAYERS:
            shapes = ((n_atoms, n_in), (n_in, n_out), (n_atoms, n_out))
            hidden, weight, upstream = (torch.randn(options.members, *shape, generator=generator) for shape in shapes)
            for name, left, right in (
                ("forth", hidden, weight),
                ("back", upstream, weight.transpose(1, 2)),
                ("by weights", hidden.transpose(1, 2), upstream),
            ):
                operations = 2e-9 * options.members * n_atoms * n_in * n_out
                out = torch.empty(options.members, left.shape[1], right.shape[2])
                ours = operations / best(lambda: product(left, right, out=out))  # noqa: B023
                torchs = operations / best(lambda: torch.bmm(left, right, out=out))  # noqa: B023
                print(f"{n_atoms:4} atoms {n_in:4} to {n_out:4} {name:<12} {ours:5.0f}  {torchs:5.0f}")
    for size in FEATURES:
        square = torch.randn(size, size, generator=generator, dtype=torch.float64)
        matrix = square @ square.T + torch.eye(size, dtype=torch.float64)
        operations = 1e-9 * size**3 / 3
        ours = operations / best(lambda: lower_cholesky(matrix))  # noqa: B023
        torchs = operations / best(lambda: torch.linalg.cholesky_ex(matrix))  # noqa: B023
        print(f"factor of {size:5} features            {ours:5.0f}  {torchs:5.0f}")


if __name__ == "__main__":
    main()
