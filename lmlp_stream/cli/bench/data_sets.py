"""Which data sets are measured, and with which settings: options and lists in, runs out. Never imports torch."""

import json
import tomllib
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from pydantic import (
    BaseModel,
    ConfigDict,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from lmlp_stream.errors import UsageError
from lmlp_stream.farm.files import read_structures
from lmlp_stream.farm.labels import LabelFinder, Missing


class DataSet(BaseModel):
    """One data set, as an entry `[[set]]` of a list or as options say it.

    Attributes:
        name: What the table calls it.
        train: File of labelled structures that are learned.
        test: File of those that are predicted; None: a share of the groups in `train` is held out.
        hold_out: That share.
        atomic_energies: File of isolated atoms or JSON object of energies in eV by symbol; None: fitted.
        steps: Optimizer steps; None: as many as the labels buy in a stream, and enough for a small set.
        settings: `section.key=value` of this data set.

    Raises:
        UsageError: The share that is held out is not between 0 and 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    train: Path
    test: Path | None = None
    hold_out: float = 0.1
    atomic_energies: Path | None = None
    steps: PositiveInt | None = None
    settings: tuple[str, ...] = ()

    @field_validator("hold_out")
    @classmethod
    def _is_share(cls, share: float, known: ValidationInfo) -> float:
        if not 0.0 < share < 1.0:
            name = known.data.get("name", "a set without a name")
            raise UsageError(f"hold-out {share} of {name} is not a share between 0 and 1; give for example 0.1")
        return share


def read_list(path: Path) -> tuple[DataSet, ...]:
    """The data sets of a TOML file, one `[[set]]` each.

    Raises:
        UsageError: The file cannot be read, or an entry is wrong; the message names each place.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(tuple[DataSet, ...]).validate_python(tree.get("set", ()))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as TOML: {error}; write one [[set]] for each data set") from error
    except ValidationError as error:
        wrong = "; ".join(f"set {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise UsageError(f"{path}: {wrong}; a set has name and train, and may have {_optional()}") from error


def _optional() -> str:
    return ", ".join(name for name, field in DataSet.model_fields.items() if not field.is_required())


def atomic_energies(path: Path) -> dict[str, float]:
    """Energies of free atoms in eV by symbol: a JSON object, or a file of isolated atoms that ASE reads.

    Raises:
        UsageError: The file cannot be read, or a structure in it is no single atom with an energy.
    """
    if path.suffix == ".json":
        try:
            return TypeAdapter(dict[str, float]).validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise UsageError(f"{path} is not a JSON object of energies in eV by symbol: {error}") from error
    finder, energies = LabelFinder(), dict[str, float]()
    for number, atoms in enumerate(read_structures(path), start=1):
        labels = finder.find(atoms, f"{path}, structure {number}")
        if len(atoms) != 1 or isinstance(labels, Missing):
            raise UsageError(f"{path}, structure {number}, is not an isolated atom with an energy; leave it out")
        energies[atoms.get_chemical_symbols()[0]] = labels.energy
    return energies


def variations(vary: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Every combination of `section.key=value,value,...`, each as settings; one empty combination without any.

    Raises:
        UsageError: One of them is not of this form.
    """
    choices = []
    for text in vary:
        key, equals, values = text.partition("=")
        if not equals or not key.strip() or not values.strip():
            raise UsageError(f"--vary {text!r} is not of the form section.key=value,value; write the values to try")
        choices.append([f"{key.strip()}={value}" for value in _values(values)])
    yield from product(*choices)


def _values(text: str) -> list[str]:
    """The values of a list without its brackets: TOML, else the words between commas."""
    try:
        return [json.dumps(value) for value in tomllib.loads(f"values = [{text}]")["values"]]
    except tomllib.TOMLDecodeError:
        return [word.strip() for word in text.split(",")]
