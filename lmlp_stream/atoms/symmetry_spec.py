"""Which symmetry functions there are: the explicit list, and the presets that make one."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from math import copysign
from typing import Any, Self

from lmlp_stream.atoms.elements import ANGULAR_FACTORS, RADIAL_FACTORS
from lmlp_stream.config import SymmetryConfig
from lmlp_stream.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RadialFunction:
    """Parameters of G = sqrt( sum_j H_j exp(-eta (R_ij - r_s)²) f_c(R_ij) ).

    Attributes:
        eta: Sharpness of the Gaussian, Å⁻².
        r_s: Radial shift, Å; 0 in the published form.
        factor: Element factor H, one of `elements.RADIAL_FACTORS`.
    """

    eta: float
    r_s: float
    factor: str

    def __post_init__(self) -> None:
        _refuse_unknown(self.factor, RADIAL_FACTORS)


@dataclass(frozen=True, slots=True)
class AngularFunction:
    """Parameters of G = sqrt( sum_{j<k} H_jk r(R_ij) r(R_ik) [1/2 + (lambda/2) cos(zeta theta_jik)]^xi ).

    Attributes:
        eta: Sharpness of the Gaussian of both legs, Å⁻².
        r_s: Radial shift of both legs, Å; 0 in the published form.
        lambda_: Positive: a maximum at theta = 0, negative: a minimum; +1 or -1 in the published form.
        zeta: Multiple of the angle. Whole, because cos(zeta theta) has a kink at 180° otherwise.
        xi: Exponent, at least 1, because the function has no finite slope otherwise.
        factor: Element factor H, one of `elements.ANGULAR_FACTORS`.
    """

    eta: float
    r_s: float
    lambda_: float
    zeta: int
    xi: float
    factor: str

    def __post_init__(self) -> None:
        _refuse_unknown(self.factor, ANGULAR_FACTORS)
        if self.zeta < 1 or self.zeta != int(self.zeta):
            raise ConfigError(f"zeta = {self.zeta} of an angular function must be a whole number from 1")
        if self.xi < 1:
            raise ConfigError(f"xi = {self.xi} of an angular function must be at least 1")
        if abs(self.lambda_) > 1:
            raise ConfigError(f"lambda = {self.lambda_} of an angular function must lie between -1 and 1")


@dataclass(frozen=True, slots=True)
class SymmetrySpec:
    """The symmetry functions of a potential, in the order of their values.

    Attributes:
        cutoff: R_c in Å.
        radial: Radial functions; they come first.
        angular: Angular functions.
    """

    cutoff: float
    radial: tuple[RadialFunction, ...]
    angular: tuple[AngularFunction, ...]

    @property
    def n_functions(self) -> int:
        """Number of functions D."""
        return len(self.radial) + len(self.angular)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can carry: one list of parameters for each function."""
        return {
            "cutoff": self.cutoff,
            "radial": [[f.eta, f.r_s, f.factor] for f in self.radial],
            "angular": [[f.eta, f.r_s, f.lambda_, f.zeta, f.xi, f.factor] for f in self.angular],
        }

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> Self:
        """The functions `to_dict` wrote.

        Raises:
            ConfigError: A parameter is missing, of the wrong type or out of range.
        """
        try:
            return cls(
                cutoff=float(tree["cutoff"]),
                radial=tuple(RadialFunction(float(eta), float(r_s), str(h)) for eta, r_s, h in tree["radial"]),
                angular=tuple(
                    AngularFunction(float(eta), float(r_s), float(lambda_), int(zeta), float(xi), str(h))
                    for eta, r_s, lambda_, zeta, xi, h in tree["angular"]
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not a list of symmetry functions: {error!r}; take it from a manifest") from error


def spec_of(config: SymmetryConfig) -> SymmetrySpec:
    """The symmetry functions of a preset.

    `published` has the published form and count (153 functions, no shifts; Eckhoff & Reiher 2023,
    doi 10.1021/acs.jctc.3c00279): 11 Gaussians × 5 element factors and 2 Gaussians × 7 angular parts × 7 element
    factors. The values of its parameters are ours, because theirs are not public. `shifted` is our extension: Gaussians
    on shells that are dense where bonds are and widen with the distance, and classes of elements as factors, with n and
    d so that all elements differ (294 functions: 14 shells × 7 factors and 4 shells × 7 angular parts × 7 factors).
    """
    preset = {"published": _published, "shifted": shifted}[config.preset]
    return preset(config.cutoff)


ANGULAR_PARTS = (
    (0.9, 1, 2.0),
    (-0.9, 1, 2.0),
    (1.0, 1, 8.0),
    (-1.0, 1, 8.0),
    (-0.9, 2, 2.0),
    (0.9, 3, 2.0),
    (-0.9, 3, 2.0),
)
"""lambda, zeta, xi: broad and narrow at 0° and at 180°; at 90°; at 0° and 120°; at 60° and 180°.

No broad bracket vanishes, |lambda| < 1 being our extension. Where one does and a single triple dominates, as H-N-H of
an amine does at 120°, the root of its square and the little that other triples add has a notch in its second
derivative, and every passage of the angle changes the energy of dynamics.
"""

PUBLISHED_PARTS = tuple((copysign(1.0, lambda_), zeta, xi) for lambda_, zeta, xi in ANGULAR_PARTS)
"""The same at the published |lambda| = 1.

Every xi is even: the bracket vanishes like the square of the bend, and the square root of an odd power of it would have
a kink where the only triple of an atom is linear, as in HCN.
"""


def _published(cutoff: float) -> SymmetrySpec:
    widths = [0.8 * (cutoff / 0.8) ** (step / 10) for step in range(11)]
    return _grid(
        cutoff,
        radial_shells=[(round(1 / width**2, 6), 0.0) for width in widths],
        radial_factors=("1", "n", "sp", "6-n", "9-sp"),
        angular_shells=[(round(1 / cutoff**2, 6), 0.0), (round(16 / cutoff**2, 6), 0.0)],
        angular_parts=PUBLISHED_PARTS,
        angular_factors=("sum:1", "sum:n", "sum:sp", "sum:6-n", "sum:9-sp", "difference:n", "difference:sp"),
    )


def shifted(
    cutoff: float,
    *,
    radial_shells: int = 14,
    radial_width: float = 0.14,
    radial_factors: tuple[str, ...] = ("hydrogen", "sp~1.5", "sp~4", "sp~5.5", "sp~7", "n-1", "d"),
    angular_shells: int = 4,
    angular_width: float = 0.3,
    angular_parts: tuple[tuple[float, int, float], ...] = ANGULAR_PARTS,
    angular_factors: tuple[str, ...] = (
        *("product:hydrogen*hydrogen", "product:hydrogen*other", "product:other*other"),
        *("sum:sp~4", "sum:sp~6", "sum:n-1", "sum:d"),
    ),
) -> SymmetrySpec:
    """Functions on shells that widen with the distance; tests/bench/search_functions.md compares other choices.

    Args:
        cutoff: R_c in Å.
        radial_shells: Gaussians of the radial functions.
        radial_width: Their standard deviation, a share of their distance.
        radial_factors: Element factors of each.
        angular_shells: Gaussians of the angular functions.
        angular_width: Their standard deviation, a share of their distance.
        angular_parts: lambda, zeta and xi of each.
        angular_factors: Element factors of each part.
    """
    return _grid(
        cutoff,
        radial_shells=_widening(radial_width, 0.9, cutoff - 0.5, radial_shells),
        radial_factors=radial_factors,
        angular_shells=_widening(angular_width, 1.0, cutoff / 1.5, angular_shells),
        angular_parts=angular_parts,
        angular_factors=angular_factors,
    )


def _widening(width: float, first: float, last: float, number: int) -> list[tuple[float, float]]:
    """Eta and r_s of Gaussians at distances in geometric progression, whose standard deviation is a share of each.

    This progression is our extension: published shells have no shift.
    """
    places = [first * (last / first) ** (step / (number - 1)) for step in range(number)]
    return [(round(1 / (2 * (width * r_s) ** 2), 6), round(r_s, 6)) for r_s in places]


def _grid(
    cutoff: float,
    *,
    radial_shells: list[tuple[float, float]],
    radial_factors: tuple[str, ...],
    angular_shells: list[tuple[float, float]],
    angular_parts: tuple[tuple[float, int, float], ...],
    angular_factors: tuple[str, ...],
) -> SymmetrySpec:
    return SymmetrySpec(
        cutoff=cutoff,
        radial=tuple(RadialFunction(eta, r_s, h) for h, (eta, r_s) in product(radial_factors, radial_shells)),
        angular=tuple(
            AngularFunction(eta, r_s, lambda_, zeta, xi, h)
            for h, (eta, r_s), (lambda_, zeta, xi) in product(angular_factors, angular_shells, angular_parts)
        ),
    )


def _refuse_unknown(factor: str, known: tuple[str, ...]) -> None:
    if factor not in known:
        raise ConfigError(f"{factor!r} is not an element factor; these are: {', '.join(known)}")
