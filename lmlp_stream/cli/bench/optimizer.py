"""Speed of CoRe against torch's Adam on the same parameters."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch
from torch import Tensor

from lmlp_stream.cli.bench.settings import BenchSettings
from lmlp_stream.cli.bench.speed import finished, fresh_trainer
from lmlp_stream.cli.bench.timing import Elapsed, repeated, speed, timed
from lmlp_stream.cli.bench.workload import workload
from lmlp_stream.config import CoreConfig
from lmlp_stream.learning.core_optimizer import CoRe

Groups = Mapping[int, Sequence[Tensor]]


def optimizer(settings: BenchSettings) -> dict[str, float]:
    """Figures of one optimizer step of every network, taken in turn with Adam (foreach) and Adam (fused).

    Structures are those of a batch, which the step serves: their rate is that of a step without all else. `ratio` and
    `ratio_fused` are the CPU time of CoRe over that of either Adam, best against best; `*_median` the median of the
    repeats' ratios.
    """
    structures = workload(settings.structures, settings.n_structures)
    trainer = fresh_trainer(settings, structures)
    config = settings.config(str(trainer.ensemble.device)).core
    by_name = trainer.ensemble.parameters
    groups = {z: list(named.values()) for z, named in by_name.items()}
    decays = {z: [config.weight_decay * name.startswith("weight_") for name in named] for z, named in by_name.items()}
    gradients = _random_gradients(groups)
    steps = [
        finished(step, trainer.ensemble.device)
        for step in (
            _core_step(config, groups, gradients, decays),
            _adam_step(groups, gradients, fused=False),
            _adam_step(groups, gradients, fused=True),
        )
    ]
    rounds = repeated(lambda: [timed(step) for step in steps], repeats=settings.repeats, seconds=settings.seconds)
    core, foreach, fused = ([times[index] for times in rounds] for index in range(3))
    n_atoms = sum(structure.n_atoms for structure in structures[: settings.batch])
    return {
        "n_parameters": sum(tensor.numel() for group in groups.values() for tensor in group),
        **speed(core, n_structures=settings.batch, n_atoms=n_atoms),
        **_step_times("", core),
        **_step_times("adam_", foreach),
        **_step_times("adam_fused_", fused),
        **_ratios("ratio", core, foreach),
        **_ratios("ratio_fused", core, fused),
    }


def _random_gradients(groups: Groups) -> dict[int, list[Tensor]]:
    random = torch.Generator().manual_seed(0)
    return {
        z: [torch.randn(tensor.shape, generator=random, dtype=tensor.dtype).to(tensor.device) for tensor in group]
        for z, group in groups.items()
    }


def _core_step(
    config: CoreConfig, groups: Groups, gradients: Groups, decays: Mapping[int, Sequence[float]]
) -> Callable[[], None]:
    core = CoRe(config, independent_axes=1)
    for z, group in _copies(groups).items():
        core.add_group(z, group, weight_decay=decays[z])
    return lambda: core.step(gradients)


def _adam_step(groups: Groups, gradients: Groups, *, fused: bool) -> Callable[[], object]:
    own = _copies(groups)
    for z, group in own.items():
        for tensor, gradient in zip(group, gradients[z], strict=True):
            tensor.grad = gradient
    parameters = [tensor for group in own.values() for tensor in group]
    return torch.optim.Adam(parameters, lr=1e-3, foreach=not fused, fused=fused).step


def _copies(groups: Groups) -> dict[int, list[Tensor]]:
    return {z: [tensor.detach().clone().requires_grad_() for tensor in group] for z, group in groups.items()}


def _step_times(prefix: str, times: Sequence[Elapsed]) -> dict[str, float]:
    cpu = [1000.0 * elapsed.cpu_s for elapsed in times]
    return {f"{prefix}cpu_ms_per_step": min(cpu), f"{prefix}cpu_ms_per_step_median": median(cpu)}


def _ratios(name: str, core: Sequence[Elapsed], adam: Sequence[Elapsed]) -> dict[str, float]:
    return {
        name: min(elapsed.cpu_s for elapsed in core) / min(elapsed.cpu_s for elapsed in adam),
        f"{name}_median": median(ours.cpu_s / theirs.cpu_s for ours, theirs in zip(core, adam, strict=True)),
    }
