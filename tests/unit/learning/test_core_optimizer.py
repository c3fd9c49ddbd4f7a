"""CoRe against the authors' package, step for step."""

import core_optimizer
import pytest
import torch
from torch import Tensor, nn

from lmlp_stream.config import CoreConfig
from lmlp_stream.errors import ConfigError
from lmlp_stream.learning import core_optimizer as ours_module
from lmlp_stream.learning.core_optimizer import CoRe

P1 = {"etas": (0.5, 1.2), "betas": (0.45, 0.725, 500.0, 0.999), "step_sizes": (1e-6, 1.0)}
MODES = {
    "defaults": {},
    "published lifelong settings": P1,
    "plasticity": {"score_history": 40, "frozen": [0.1, 0.0, 0.05, 0.0]},
    "decay of weights alone": {"weight_decay": [0.3, 0.0]},
    "both lists": {"score_history": 20, "frozen": [0.2, 0.0], "weight_decay": [0.1, 0.0, 0.05, 0.0], **P1},
    "score history without frozen weights": {"score_history": 30},
    "resilient backpropagation": {"betas": (0.0, 0.0, 1.0, -1.0)},
    "resilient backpropagation with plasticity": {
        "betas": (0.0, 0.0, 1.0, -1.0),
        "score_history": 25,
        "frozen": [0.1, 0.0],
    },
}


def network(seed: int) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 2)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(generator=generator)
    return net


def noisy_loss(net: nn.Module, step: int) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(7, 3, dtype=torch.float64, generator=generator)
    return ((net(x) - torch.stack([x.prod(1), x.sin().sum(1)], dim=1)) ** 2).sum()


def ours_of(parameters: list[Tensor], settings: dict[str, object]) -> CoRe:
    scalars = {key: value for key, value in settings.items() if key not in ("frozen", "weight_decay")}
    authors = {"settling_steps": 0, "learning_rate": 1e-3, "step_sizes": (1e-6, 1e-2), "weight_decay": 0.1}
    optimizer = CoRe(CoreConfig.model_validate(authors | scalars))
    lists = {key: settings[key] for key in ("frozen", "weight_decay") if key in settings}
    optimizer.add_group(6, parameters, **lists)
    return optimizer


@pytest.mark.parametrize("settings", MODES.values(), ids=MODES)
@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("by_tensors", [False, True])
def test_every_step_equals_the_authors(settings, foreach, by_tensors, monkeypatch):
    if by_tensors:
        monkeypatch.setattr(ours_module._Group, "in_one_pass", False)
    theirs, ours = network(1), network(1)
    reference = core_optimizer.CoRe(theirs.parameters(), foreach=foreach, **settings)
    parameters = list(ours.parameters())
    optimizer = ours_of(parameters, settings)
    for step in range(300):
        reference.zero_grad()
        noisy_loss(theirs, step).backward()
        reference.step()
        optimizer.step({6: torch.autograd.grad(noisy_loss(ours, step), parameters)})
        for mine, other in zip(parameters, theirs.parameters(), strict=True):
            torch.testing.assert_close(mine.detach(), other.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("foreach", [False, True])
def test_scores_a_millionth_below_the_highest_are_frozen_with_it_as_in_the_authors_code(foreach):
    gradient = 1.0 - torch.tensor([0.0, 5e-7, 2e-6, 0.5], dtype=torch.float64)
    settings = {"score_history": 10, "frozen": [0.25]}
    theirs, ours = nn.Parameter(torch.ones(4, dtype=torch.float64)), torch.ones(4, dtype=torch.float64)
    reference = core_optimizer.CoRe([theirs], foreach=foreach, **settings)
    optimizer = ours_of([ours], settings)
    for _ in range(11):
        before = ours.clone()
        theirs.grad = gradient.clone()
        reference.step()
        optimizer.step({6: [gradient]})
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-14)
    assert (ours == before).tolist() == [True, True, False, False]


@pytest.mark.parametrize("by_tensors", [False, True])
def test_once_settled_the_largest_step_falls_as_one_over_the_root_of_the_steps(by_tensors, monkeypatch):
    if by_tensors:
        monkeypatch.setattr(ours_module._Group, "in_one_pass", False)
    optimizer = CoRe(CoreConfig(step_sizes=(1e-6, 1e-3), settling_steps=4))
    optimizer.add_group(6, [torch.ones(3, dtype=torch.float64)])
    largest = []
    for _ in range(500):
        optimizer.step({6: [torch.ones(3, dtype=torch.float64)]})
        largest.append(float(optimizer.state_dict()["6.0.step_size"].max()))
    assert largest[:5] == pytest.approx([1e-3] * 5)
    assert largest[16] == pytest.approx(1e-3 * (4 / 16) ** 0.5)
    assert largest[-1] == pytest.approx(1e-4)


def test_a_group_that_is_absent_is_not_touched():
    carbon, oxygen = torch.ones(2, 3), torch.ones(2, 3)
    optimizer = CoRe(CoreConfig())
    optimizer.add_group(6, [carbon])
    optimizer.add_group(8, [oxygen])
    optimizer.step({6: [torch.ones(2, 3)]})
    assert (carbon != 1).all()
    assert (oxygen == 1).all()
    assert optimizer.state_dict()["8.n_steps"] == 0


def test_a_group_added_later_moves_as_if_it_had_been_alone():
    late, alone, other = torch.ones(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64), torch.zeros(3)
    busy, fresh = CoRe(CoreConfig()), CoRe(CoreConfig())
    busy.add_group(1, [other])
    for _ in range(5):
        busy.step({1: [torch.ones(3)]})
    busy.add_group(8, [late])
    fresh.add_group(8, [alone])
    for step in range(20):
        gradient = torch.linspace(-1, 1, 4, dtype=torch.float64) * (step % 3 - 0.7)
        busy.step({1: [torch.ones(3)], 8: [gradient]})
        fresh.step({8: [gradient]})
    assert torch.equal(late, alone)


def test_a_second_group_of_the_same_key_is_refused():
    optimizer = CoRe(CoreConfig())
    optimizer.add_group(6, [torch.ones(1)])
    with pytest.raises(ValueError, match="group 6 exists"):
        optimizer.add_group(6, [torch.ones(1)])


def test_members_are_optimized_as_if_each_were_alone():
    config = CoreConfig(score_history=10, frozen=0.25)
    stacked = torch.ones(3, 4, 5, dtype=torch.float64)
    singles = [torch.ones(4, 5, dtype=torch.float64) for _ in range(3)]
    together, alone = CoRe(config, independent_axes=1), [CoRe(config) for _ in singles]
    together.add_group(6, [stacked])
    for optimizer, tensor in zip(alone, singles, strict=True):
        optimizer.add_group(6, [tensor])
    generator = torch.Generator().manual_seed(3)
    for _ in range(60):
        gradients = torch.randn(3, 4, 5, dtype=torch.float64, generator=generator)
        together.step({6: [gradients]})
        for optimizer, gradient in zip(alone, gradients, strict=True):
            optimizer.step({6: [gradient]})
    assert torch.equal(stacked, torch.stack(singles))


@pytest.mark.parametrize("settings", MODES.values(), ids=MODES)
def test_saved_and_restored_moves_on_bit_for_bit(settings):
    def gradient(step: int) -> Tensor:
        return torch.randn(6, 5, generator=torch.Generator().manual_seed(step))

    through, stopped = torch.ones(6, 5), torch.ones(6, 5)
    first, second = ours_of([through], settings), ours_of([stopped], settings)
    for step in range(50):
        first.step({6: [gradient(step)]})
        second.step({6: [gradient(step)]})
    resumed = ours_of([stopped], settings)
    resumed.load_state_dict({key: value.clone() for key, value in second.state_dict().items()})
    for step in range(50, 100):
        first.step({6: [gradient(step)]})
        resumed.step({6: [gradient(step)]})
    assert torch.equal(through, stopped)


@pytest.mark.parametrize(
    ("key", "value"),
    [("step_sizes", (1e-2, 1e-3)), ("etas", (1.1, 1.2)), ("etas", (0.5, 0.9)), ("betas", (0.5, 1.0, 10.0, 0.9))],
)
def test_settings_outside_their_range_are_refused_by_name(key, value):
    with pytest.raises(ConfigError, match=key):
        CoRe(CoreConfig.model_validate({key: value}))
