"""Averaged weights beside those in training."""

import pytest
import torch

from lmlp_stream.atoms.batch import Example, collate
from lmlp_stream.config import Config, parse_config
from lmlp_stream.errors import ConfigError
from lmlp_stream.learning.trainer import Trainer
from tests.unit.learning.structures import METHANE, WATER, labelled


def config_of(averaged_steps: int) -> Config:
    tree = {
        "symmetry": {"preset": "published", "cutoff": 4.0},
        "potential": {"members": 2, "hidden": (6,), "linear_features": 20, "device": "cpu", "dtype": "float64"},
        "learning": {"averaged_steps": averaged_steps},
    }
    return parse_config(tree, place="test")


def batch_of(trainer: Trainer, *structures):
    return collate([Example(structure, trainer.functions.evaluate(structure)) for structure in structures])


def trained(averaged_steps: int, n_steps: int) -> tuple[Trainer, list[dict[str, torch.Tensor]]]:
    """A trainer and the weights of oxygen after each of its steps."""
    trainer = Trainer(config_of(averaged_steps))
    waters = [labelled(index, WATER) for index in range(3)]
    trainer.ensemble.baseline.fit(waters)
    batch = batch_of(trainer, *waters)
    trainer.add_elements(batch)
    weights = []
    for _ in range(n_steps):
        trainer.step(batch)
        training = trainer._training.parameters[8]
        weights.append({name: tensor.detach().clone() for name, tensor in training.items()})
    return trainer, weights


def test_without_averaging_the_newest_weights_are_those_for_everybody():
    trainer, weights = trained(0, 15)
    for name, tensor in trainer.ensemble.parameters[8].items():
        torch.testing.assert_close(tensor, weights[-1][name], rtol=1e-14, atol=1e-14)


def test_the_average_is_exponential_over_the_configured_span():
    trainer, weights = trained(2, 40)
    expected = weights[0]["weight_0"]
    for n_steps, newest in enumerate(weights, start=1):
        span = max(1.0, min(0.1 * n_steps, 2))
        expected = expected + (newest["weight_0"] - expected) / span
    torch.testing.assert_close(trainer.ensemble.parameters[8]["weight_0"], expected, rtol=1e-12, atol=1e-14)


def test_elements_that_are_absent_keep_weights_and_averages():
    trainer, _ = trained(100, 20)
    trainer.ensemble.baseline.fit([labelled(0, METHANE)])
    both = batch_of(trainer, labelled(0, METHANE))
    trainer.add_elements(both)
    before = {name: tensor.clone() for name, tensor in trainer.ensemble.parameters[8].items()}
    for _ in range(3):
        trainer.step(both)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.ensemble.parameters[8].items())
    assert trainer.ensemble.elements == (1, 6, 8)


def test_with_given_energies_of_free_atoms_new_networks_begin_at_the_binding_energy():
    config = config_of(0)
    given = config.potential.model_copy(update={"atomic_energies": {"H": -13.0, "O": -400.0}})
    trainer = Trainer(config.model_copy(update={"potential": given}))
    batch = batch_of(trainer, *(labelled(index, WATER) for index in range(3)))
    trainer.add_elements(batch)
    predicted = trainer.ensemble.predict(batch).mean_energy
    binding = (batch.energy - (-13.0 * 2 - 400.0)).abs()
    assert binding.min() > 10
    assert (predicted - batch.energy).abs().max() < 0.2 * binding.min()


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"potential\.device = 'cuda:3', but torch finds 0 GPUs here"):
        Trainer(parse_config({"potential": {"device": "cuda:3"}}, place="test"))
