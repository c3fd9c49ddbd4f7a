"""Final losses that the authors' own tests of `core-optimizer` 1.1.0 state for a linear network 2-20-2 on 10 points."""

import pytest
import torch

from lmlp_stream.config import CoreConfig
from lmlp_stream.learning.core_optimizer import CoRe

TARGETS = {
    "defaults": ({}, (), 9.3937e-06),
    "plasticity": ({"score_history": 250}, (0.05, 0.0, 0.05, 0.0), 9.2580e-06),
    "resilient backpropagation": ({"betas": (0.0, 0.0, 1.0, -1.0)}, (), 1.3110e-07),
}


@pytest.mark.parametrize(("settings", "frozen", "target"), TARGETS.values(), ids=TARGETS)
def test_the_final_loss_is_the_published_one(settings, frozen, target):
    x = torch.arange(1, 11, dtype=torch.float64).repeat(2, 1).T
    y = x * torch.tensor([2.0, 4.0], dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(227)
        net = torch.nn.Sequential(
            torch.nn.Linear(2, 20, dtype=torch.float64),
            torch.nn.Linear(20, 2, dtype=torch.float64),
        )
    parameters = list(net.parameters())
    defaults = {"learning_rate": 1e-3, "step_sizes": (1e-6, 1e-2), "weight_decay": 0.1, "settling_steps": 0}
    optimizer = CoRe(CoreConfig.model_validate(defaults | settings))
    optimizer.add_group(0, parameters, frozen=frozen)
    for _ in range(500):
        loss = sum(torch.nn.functional.mse_loss(net(point), label) for point, label in zip(x, y, strict=True))
        optimizer.step({0: torch.autograd.grad(loss, parameters)})
    final = sum(torch.nn.functional.mse_loss(net(point), label) for point, label in zip(x, y, strict=True))
    assert final.item() == pytest.approx(target, rel=1e-5)
