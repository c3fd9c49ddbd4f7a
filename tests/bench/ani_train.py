"""Training speed of one ANI-1x network (TorchANI 2.9) on one CPU thread: energies, forces, backward pass, Adam.

    python ani_train.py --structures FILE [--batch 32] [--repeats 5] [--seconds 15]

Runs in an environment of its own, without lmlp_stream: pip install torch==2.13.0 torchani==2.9.0 numpy ase
Prints one line of JSON with the figures that `lmlp-stream bench train` calls by the same names. A repeat goes through
the same structures as there: whole batches, at least 4 of them and at least 32 structures. The weights are random: they
do not change the time. All structures must be of the same molecule, elements H, C, N and O.
"""

import argparse
import io
import json
import lzma
import statistics
import time
from itertools import cycle, islice
from math import ceil
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from torch import Tensor
from torchani.arch import Assembler
from torchani.models import SYMBOLS_1X

LEARNING_RATE = 1e-4


class Batch:
    """Structures of one molecule side by side, with their labels."""

    def __init__(self, structures: list[Atoms]) -> None:
        self.numbers = torch.tensor(np.stack([atoms.numbers for atoms in structures]))
        self.positions = _float32([atoms.positions for atoms in structures])
        self.energy = _float32([atoms.get_potential_energy() for atoms in structures])
        self.forces = _float32([atoms.get_forces() for atoms in structures])


def ani_1x() -> torch.nn.Module:
    """One network of the ANI-1x architecture in single precision, evaluated by plain PyTorch operations."""
    assembler = Assembler(periodic_table_index=True)
    assembler.set_symbols(SYMBOLS_1X)
    assembler.set_atomic_networks(ctor="ani1x")
    assembler.set_global_cutoff_fn("cosine")
    assembler.set_aev_computer(angular="ani1x", radial="ani1x", strategy="pyaev")
    assembler.set_neighborlist("all_pairs")
    assembler.set_gsaes_as_self_energies("wb97x-631gd")
    return assembler.assemble(1).to(torch.float32)


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """One update on the squared errors of the energy per atom and of the force components."""
    positions = batch.positions.clone().requires_grad_()
    energy = model((batch.numbers, positions)).energies
    (slope,) = torch.autograd.grad(energy.sum(), positions, create_graph=True)
    energy_error = (energy - batch.energy) / batch.numbers.shape[1]
    loss = energy_error.square().mean() + (slope + batch.forces).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def batches_of(path: Path, size: int) -> list[Batch]:
    """Whole batches from the beginning of a file, over again where it is short."""
    n_structures = size * max(4, ceil(32 / size))
    text = lzma.decompress(path.read_bytes()).decode() if path.suffix == ".xz" else path.read_text()
    structures = list(islice(cycle(ase.io.read(io.StringIO(text), f":{n_structures}", format="extxyz")), n_structures))
    if len({tuple(atoms.numbers) for atoms in structures}) != 1:
        raise SystemExit(f"{path} holds several molecules; give structures of one molecule, such as 3BPA")
    return [Batch(structures[first : first + size]) for first in range(0, n_structures, size)]


def cpu_times(batches: list[Batch], repeats: int, seconds: float) -> list[float]:
    """CPU time of each repeat over all batches, s; the first is not kept."""
    model = ani_1x()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], LEARNING_RATE)
    times: list[float] = []
    start = time.perf_counter()
    while len(times) <= repeats or time.perf_counter() - start < seconds:
        before = time.process_time()
        for batch in batches:
            step(model, optimizer, batch)
        times.append(time.process_time() - before)
    return times[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    batches = batches_of(options.structures, options.batch)
    times = cpu_times(batches, options.repeats, options.seconds)
    n_structures = sum(len(batch.energy) for batch in batches)
    figures = {
        "bench": "ani-1x train",
        "batch": options.batch,
        "n_repeats": len(times),
        "structures_per_cpu_s": n_structures / min(times),
        "structures_per_cpu_s_median": n_structures / statistics.median(times),
    }
    print(json.dumps(figures))


def _float32(arrays: list[np.ndarray]) -> Tensor:
    return torch.tensor(np.stack(arrays), dtype=torch.float32)


if __name__ == "__main__":
    main()
