import json

import pytest

from lmlp_stream.atoms.elements import N_ATOMIC_NUMBERS, angular_factor_table, radial_factor_table
from lmlp_stream.atoms.symmetry_spec import AngularFunction, RadialFunction, SymmetrySpec, spec_of
from lmlp_stream.config import SymmetryConfig
from lmlp_stream.errors import ConfigError


def test_the_published_preset_has_153_functions_and_no_shift() -> None:
    spec = spec_of(SymmetryConfig(preset="published", cutoff=6.0))
    assert (len(spec.radial), len(spec.angular)) == (55, 98)
    assert spec.n_functions == 153
    assert not any(f.r_s for f in (*spec.radial, *spec.angular))


@pytest.mark.parametrize("preset", ["shifted", "published"])
@pytest.mark.parametrize("cutoff", [2.0, 3.0, 5.2, 6.35])
def test_a_preset_lists_each_function_once_and_fits_its_cutoff(preset: str, cutoff: float) -> None:
    spec = spec_of(SymmetryConfig.model_validate({"preset": preset, "cutoff": cutoff}))
    functions = (*spec.radial, *spec.angular)
    assert len(set(functions)) == spec.n_functions
    assert all(f.r_s < cutoff for f in functions)
    for shifts in ([f.r_s for f in some if f.factor == some[0].factor] for some in (spec.radial, spec.angular)):
        assert shifts == sorted(shifts)


def test_the_default_preset_distinguishes_every_element_as_a_neighbor() -> None:
    spec = spec_of(SymmetryConfig())
    factors = {f.factor for f in spec.radial}
    seen = {tuple(radial_factor_table(h)[z] for h in sorted(factors)) for z in range(1, N_ATOMIC_NUMBERS)}
    assert len(seen) == N_ATOMIC_NUMBERS - 1
    niobium, molybdenum = 41, 42
    angular = {f.factor for f in spec.angular}
    assert any(angular_factor_table(h)[6, niobium] != angular_factor_table(h)[6, molybdenum] for h in angular)


def test_a_spec_survives_json() -> None:
    spec = spec_of(SymmetryConfig())
    assert SymmetrySpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"cutoff": 5.0, "radial": [[1.0, 0.0]], "angular": []},
        {"cutoff": 5.0, "radial": [[1.0, 0.0, "f"]], "angular": []},
        {"cutoff": "far", "radial": [], "angular": []},
        {"cutoff": 5.0, "radial": [], "angular": [[1.0, 0.0, 1.0, 1, 0.5, "sum:1"]]},
    ],
)
def test_a_broken_list_of_functions_is_refused(tree: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        SymmetrySpec.from_dict(tree)


@pytest.mark.parametrize("change", [{"zeta": 0}, {"zeta": 1.5}, {"xi": 0.9}, {"lambda_": 1.1}, {"factor": "n"}])
def test_an_angular_function_that_is_not_smooth_is_refused(change: dict[str, object]) -> None:
    good = {"eta": 1.0, "r_s": 0.0, "lambda_": 1.0, "zeta": 1, "xi": 1.0, "factor": "sum:1"}
    AngularFunction(**good)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        AngularFunction(**{**good, **change})  # type: ignore[arg-type]


def test_an_unknown_radial_factor_is_refused() -> None:
    with pytest.raises(ConfigError, match="'f' is not an element factor"):
        RadialFunction(1.0, 0.0, "f")
