import torch
from jaxtyping import Float
from torch import Tensor

from lmlp_stream.atoms.symmetry import Descriptors


def derivatives(descriptors: Descriptors) -> Float[Tensor, "A D 3*N"]:
    """dG_i/d(r_j - r_i) of all symmetry functions in Å⁻¹: all x, then all y, then all z."""
    radial = torch.einsum("and,acn->adcn", descriptors.radial, descriptors.units)
    return torch.cat([radial.flatten(2), descriptors.angular], dim=1)
