"""Labels computed by any ASE calculator that the configuration names."""

import importlib
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
from ase.calculators.calculator import CalculatorError

from lmlp_stream.atoms.structure import Structure, to_ase
from lmlp_stream.config import LabelConfig
from lmlp_stream.errors import ConfigError, UsageError
from lmlp_stream.farm.labels import Labels, calculated_labels

MULTIPLICITY_PARAMETERS = ("multiplicity", "mult")

CALCULATION_ERRORS = (
    CalculatorError,
    UsageError,
    RuntimeError,
    ValueError,
    TypeError,
    ArithmeticError,
    AttributeError,
    NameError,
    LookupError,
    AssertionError,
    EOFError,
    OSError,
    subprocess.SubprocessError,
)
"""What calculators raise over one structure: their own errors, and those of readers that find no output."""


class CalculationFailedError(Exception):
    """One structure could not be labelled; the worker goes on with the next."""


class LabelCalculator:
    """Computes labels, each with a new calculator, so that no label depends on the one before.

    Args:
        config: Calculator as `module:Class`, and its arguments.

    Raises:
        ConfigError: There is no such calculator, or it does not take the arguments.
    """

    def __init__(self, config: LabelConfig) -> None:
        self._class = _imported(config.calculator)
        self._name = config.calculator
        self._arguments = config.arguments
        try:
            parameters = getattr(self._new(), "parameters", None) or {}
        except CALCULATION_ERRORS as error:
            raise ConfigError(
                f"label.arguments = {self._arguments} do not suit {self._name}: {error}; correct them"
            ) from error
        self._takes_charge = "charge" in parameters
        self._multiplicity = next((name for name in MULTIPLICITY_PARAMETERS if name in parameters), "")

    def labels(self, structure: Structure) -> Labels:
        """Energy, forces and, where the calculator has it, the stress of a structure at its charge and multiplicity.

        Raises:
            CalculationFailedError: The calculation failed, or the calculator does not take the structure's charge.
        """
        if structure.charge and not self._takes_charge:
            raise CalculationFailedError(
                f"{self._name} takes no charge but the structure has charge {structure.charge:g}; "
                f"choose another label.calculator"
            )
        atoms = to_ase(structure)
        try:
            atoms.calc = self._new(**self._electrons(structure))
            return calculated_labels(atoms)
        except CALCULATION_ERRORS as error:
            raise CalculationFailedError(f"{self._name} failed: {type(error).__name__}: {error}") from error

    def _electrons(self, structure: Structure) -> dict[str, float]:
        whole = round(structure.charge) if np.isclose(structure.charge, round(structure.charge)) else structure.charge
        charge = {"charge": whole} if self._takes_charge else {}
        known = self._multiplicity and structure.multiplicity
        return charge | ({self._multiplicity: structure.multiplicity} if known else {})

    def _new(self, **electrons: float) -> Any:
        return self._class(**{**self._arguments, **electrons})


def _imported(name: str) -> Callable[..., Any]:
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ConfigError(f"label.calculator = {name!r} is not of the form module:Class, such as tblite.ase:TBLite")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ConfigError(
            f"label.calculator = {name!r} cannot be imported: {error}; install it (tblite: pip install tblite)"
        ) from error
    if found is None:
        raise ConfigError(f"label.calculator = {name!r}: the module {module} has no {attribute}; name a class it has")
    if not callable(found):
        raise ConfigError(f"label.calculator = {name!r} is no class; name one as module:Class")
    return found  # type: ignore[no-any-return]
