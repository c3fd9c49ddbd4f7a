import torch

from lmlp_stream.potential.uncertainty import energy_uncertainty, forces_uncertainty


def test_the_energy_uncertainty_is_the_scaled_disagreement_above_the_error_of_all_atoms() -> None:
    uncertainty = energy_uncertainty(torch.tensor([0.5, 0.001]), torch.tensor([10, 10]), rmse=0.01, scale=2.0)
    torch.testing.assert_close(uncertainty, torch.tensor([1.0, 0.1]))


def test_the_force_uncertainty_is_the_scaled_disagreement_of_each_component_above_the_error() -> None:
    uncertainty = forces_uncertainty(torch.tensor([[0.3, 0.01, 0.0]]), rmse=0.1, scale=2.0)
    torch.testing.assert_close(uncertainty, torch.tensor([[0.6, 0.1, 0.1]]))
