"""The configuration: one frozen section per room, TOML outside, the unit of each number in its description.

Relative paths are relative to the folder the command is typed in. Secrets never stand here: they come from
the environment.
"""

import json
import tomllib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from lmlp_stream.errors import ConfigError

NonNegativeInt = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
PublicKey = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
DEVICE = r"^(auto|cpu|cuda(:[0-9]+)?)$"
"""Pattern of the names of devices."""
Device = Annotated[str, Field(pattern=DEVICE)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Level = Annotated[str, Field(min_length=1, max_length=256)]


MAX_LEVELS = 16
"""Most levels of theory that are learned beside the main one."""

_SENTENCES = {
    "extra_forbidden": "there is no such setting",
    "model_type": "this is a section, give its settings one by one",
}


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LogConfig(Section):
    """Where messages travel."""

    url: str = Field("sqlite:lmlp-stream.db", description="sqlite:PATH, kafka://host:port,... or memory:")
    prefix: Name = Field("lmlp", description="First part of every topic name")
    partitions: PositiveInt = Field(1, description="Partitions of the structures topic when it is created")
    replication_factor: PositiveInt = Field(1, description="Copies of each Kafka partition when a topic is created")

    @property
    def structures(self) -> str:
        """Topic of labelled structures."""
        return f"{self.prefix}.structures.v1"

    @property
    def requests(self) -> str:
        """Topic of label requests."""
        return f"{self.prefix}.requests.v1"

    @property
    def snapshots(self) -> str:
        """Topic of snapshot announcements (compacted, keyed by learner name and snapshot id)."""
        return f"{self.prefix}.snapshots.v1"

    @property
    def dead_letters(self) -> str:
        """Topic of refused messages."""
        return f"{self.prefix}.dead-letters.v1"

    def journal(self, name: str) -> str:
        """Topic of the journal of the learner `name`."""
        return f"{self.prefix}.journal.{name}.v1"


class StoreConfig(Section):
    """Where snapshots and checkpoints lie."""

    url: str = Field("lmlp-store", description="Folder or fsspec URL of the snapshots")
    checkpoints: str = Field("", description="Local folder of checkpoints; empty: beside the snapshots")
    keep_checkpoints: PositiveInt = Field(3, description="Newest checkpoints that are kept")


class WireConfig(Section):
    """What the door lets in."""

    level_of_theory: str = Field("", description="The level of theory that is learned, e.g. 'wB97X/6-31G(d)'")
    elements: Literal["published", "extended"] = Field(
        "published",
        description="published: H to Xe, whose element factors are published; extended: H to Og, by our extension",
    )
    further_levels: tuple[Level, ...] = Field(
        (),
        max_length=MAX_LEVELS,
        description="Further levels of theory that are learned beside it, each by an output of the networks and with "
        "reference energies of its own; snapshots predict the main one",
    )
    max_record_bytes: PositiveInt = Field(4 * 2**20, description="Largest record, bytes")
    max_atoms: PositiveInt = Field(2000, description="Largest structure, atoms")
    min_distance: PositiveFloat = Field(0.4, description="Atoms closer than this overlap, Å")
    max_force: PositiveFloat = Field(300.0, description="Largest force component, eV/Å")
    max_net_force: PositiveFloat = Field(0.5, description="Largest net force per atom of an isolated molecule, eV/Å")

    @field_validator("further_levels")
    @classmethod
    def _each_once(cls, levels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(levels)) < len(levels):
            raise PydanticCustomError("levels", "name each level of theory once")
        return levels


class SymmetryConfig(Section):
    """Element-embracing atom-centered symmetry functions (eeACSF)."""

    preset: Literal["shifted", "published"] = Field(
        "shifted", description="shifted: our extension with radial shifts; published: the published form, 153 functions"
    )
    cutoff: float = Field(
        6.0,
        ge=2.0,
        description="Cutoff radius R_c, Å; from 2, so that the shells, which begin at 1 Å, find room below it",
    )


class PotentialConfig(Section):
    """The ensemble of high-dimensional neural network potentials, and the linear part beside it."""

    members: PositiveInt = Field(8, description="Potentials in the ensemble")
    hidden: tuple[PositiveInt, ...] = Field((102, 61, 44), description="Neurons of the hidden layers")
    linear_features: NonNegativeInt = Field(
        800, description="Random features of each element in the linear part, our extension; 0: networks alone"
    )
    linear_share: Share = Field(
        0.8,
        description="Share of the linear part in the energy while little is held out to find the best; 0: none ever",
    )
    dtype: Literal["float32", "float64"] = Field("float32", description="Precision of the potential")
    device: Device = Field("auto", description="auto (a GPU where there is one), cpu, cuda or cuda:N")
    threads: NonNegativeInt = Field(
        0, description="CPU threads of the linear algebra; 0: as many as help, at most one per core"
    )
    atomic_energies: dict[str, float] = Field({}, description="Energies of free atoms by symbol, eV; missing: fitted")


class CoreConfig(Section):
    """The CoRe optimizer (Eckhoff & Reiher 2024, doi 10.1088/2632-2153/ad1f76)."""

    learning_rate: PositiveFloat = Field(1e-3, description="Initial step size of each weight")
    step_sizes: tuple[PositiveFloat, PositiveFloat] = Field((1e-6, 1e-3), description="Smallest and largest step size")
    settling_steps: NonNegativeInt = Field(
        200,
        description="Steps of an element after which its largest step size falls as 1 / their square root; 0: never",
    )
    etas: tuple[PositiveFloat, PositiveFloat] = Field((0.7375, 1.2), description="Step size decrease and increase")
    betas: tuple[float, float, float, float] = Field(
        (0.7375, 0.8125, 250.0, 0.99), description="beta1a, beta1b, beta1c, beta2"
    )
    weight_decay: float = Field(1.0, ge=0.0, description="Decay d of weights (never of biases)")
    score_history: NonNegativeInt = Field(0, description="Steps of the score history; 0: no plasticity factors")
    frozen: Share = Field(0.0, description="Share of the highest-scored weights of a tensor that a step leaves alone")


class LearningConfig(Section):
    """The study: how much is learned from what arrives."""

    records_per_tick: PositiveInt = Field(16, description="Records learned together; the unit of the journal")
    steps_per_record: float = Field(8.0, ge=0.0, description="Optimizer steps earned by each accepted label")
    max_steps_per_tick: PositiveInt = Field(1024, description="Most steps of one tick")
    batch_size: PositiveInt = Field(16, description="Structures of a micro-batch")
    fresh_share: Share = Field(0.25, description="Share of a micro-batch drawn from the newest arrivals")
    energy_weight: PositiveFloat = Field(10.0, description="Weight of the squared energy error per atom, (eV)⁻²")
    force_weight: PositiveFloat = Field(1.0, description="Weight of the squared force component error, (eV/Å)⁻²")
    ridge: PositiveFloat = Field(1e-6, description="Ridge of the linear part, (eV)⁻²")
    averaged_steps: NonNegativeInt = Field(
        400, description="Newest steps whose weights are averaged into the potential that is examined and announced"
    )
    cache_bytes: NonNegativeInt = Field(2 * 2**30, description="Memory for descriptors of remembered structures, bytes")
    remembered_ids: PositiveInt = Field(200_000, description="Newest ids in which a duplicate is recognised")


class RehearsalConfig(Section):
    """What is remembered and what is never learned."""

    capacity: NonNegativeInt = Field(10_000, description="Structures in the reservoir; 0: nothing is rehearsed")
    selection: Literal["coverage", "uniform"] = Field(
        "coverage",
        description="coverage: of those most alike one is forgotten; uniform: a uniform sample of the stream",
    )
    holdout_share: Share = Field(0.05, description="Share of groups that is held out")
    holdout_capacity: PositiveInt = Field(400, description="Structures in the hold-out")


class QuarantineConfig(Section):
    """What becomes of labels that do not fit what is known."""

    enabled: bool = Field(True, description="Keep labels that do not fit from being learned")
    limit: PositiveFloat = Field(
        1.5, description="Errors count as such above this many times what is usual for the domain and the ensemble says"
    )
    capacity: PositiveInt = Field(256, description="Most structures that wait for their judgement")


class EvaluationConfig(Section):
    """When a snapshot is good enough to be announced."""

    window: PositiveInt = Field(200, description="Labels in the window of prequential errors")
    min_labels: NonNegativeInt = Field(10, description="Labels learned before the first snapshot")
    max_regression: PositiveFloat = Field(
        1.5, description="Largest ratio of the hold-out force error to that of the previous snapshot on the same labels"
    )


class ServiceConfig(Section):
    """Cadence and the metrics endpoint."""

    tick_wait_s: PositiveFloat = Field(2.0, description="A tick starts with fewer records after this silence, s")
    checkpoint_every_s: PositiveFloat = Field(
        30.0, description="Longest time between checkpoints, s; sooner, but not within 2.5 s, where saving is quick"
    )
    snapshot_every: PositiveInt = Field(100, description="Labels learned between snapshots")
    metrics_host: str = Field("127.0.0.1", description="Address of the Prometheus endpoint")
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(9464, description="Its port; 0: any free port")


class SimulateConfig(Section):
    """When a simulation asks for labels."""

    request_by: Literal["intervals", "published"] = Field(
        "intervals",
        description="intervals: ask where calibrated 90 % intervals are wide; published: by the published rule",
    )
    request_widening: PositiveFloat = Field(
        1.5, description="intervals: ask where the widest is more than this many times what it is where members agree"
    )
    request_energy: PositiveFloat = Field(3.0, description="published: ask above this many hold-out energy RMSEs/atom")
    request_forces: PositiveFloat = Field(6.0, description="published: ask above this many hold-out force RMSEs")
    scale: PositiveFloat = Field(2.0, description="published: uncertainty per standard deviation of the members")
    max_requests: NonNegativeInt = Field(250, description="Most requests of one calculator")
    min_calls_between_requests: NonNegativeInt = Field(5, description="Evaluations between two requests")
    request_lifetime_s: PositiveFloat = Field(86_400.0, description="A request not labelled within this time lapses, s")
    trusted_keys: tuple[PublicKey, ...] = Field(
        (), description="Public keys of learners; with one, only snapshots that one of them signed are used"
    )


class LabelConfig(Section):
    """The worker that answers label requests."""

    calculator: str = Field("tblite.ase:TBLite", description="ASE calculator as module:Class")
    arguments: dict[str, bool | int | float | str] = Field(
        {"method": "GFN2-xTB", "verbosity": 0}, description="Keyword arguments of the calculator"
    )


class Config(Section):
    """Everything `lmlp-stream` can be told."""

    seed: NonNegativeInt = Field(0, description="Seed of every random choice")
    name: Name = Field("lmlp", description="Name of the learner; one runs at a time")
    log: LogConfig = LogConfig()
    store: StoreConfig = StoreConfig()
    wire: WireConfig = WireConfig()
    symmetry: SymmetryConfig = SymmetryConfig()
    potential: PotentialConfig = PotentialConfig()
    core: CoreConfig = CoreConfig()
    learning: LearningConfig = LearningConfig()
    rehearsal: RehearsalConfig = RehearsalConfig()
    quarantine: QuarantineConfig = QuarantineConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    service: ServiceConfig = ServiceConfig()
    simulate: SimulateConfig = SimulateConfig()
    label: LabelConfig = LabelConfig()


FIXED_SECTIONS = ("seed", "name", "symmetry", "potential", "core", "learning", "rehearsal", "quarantine", "evaluation")
"""What a checkpoint holds a learner to, with the level of theory and the further ones."""


def load_config(path: Path | str | None, overrides: Iterable[str] = ()) -> Config:
    """The configuration of a TOML file (None: the defaults), with `section.key=value` settings laid over it.

    Raises:
        ConfigError: The file cannot be read, or a key or value is wrong; the message names each place.
    """
    tree = {} if path is None else _read(Path(path))
    settings = tuple(overrides)
    for override in settings:
        _lay_over(tree, override)
    place = "the defaults" if path is None else str(path)
    return parse_config(tree, place=f"{place} with --set" if settings else place)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        remedy = "name a TOML file" if path.exists() else f"`lmlp-stream config template > {path}` writes one"
        raise ConfigError(f"cannot read {path}: {error.strerror}; {remedy}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} is not TOML: {error}; `lmlp-stream config template` shows how it is written"
        ) from error


def overlaid(config: Config, settings: Iterable[str]) -> Config:
    """The configuration with `section.key=value` settings laid over it.

    Raises:
        ConfigError: A key or value is wrong; the message names each place.
    """
    tree = config.model_dump()
    for setting in settings:
        _lay_over(tree, setting)
    return parse_config(tree, place="--set")


def parse_config(tree: dict[str, Any], *, place: str) -> Config:
    """The configuration a tree of plain values says.

    Raises:
        ConfigError: A key or value is wrong; the message names each place.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc']))} = {item['input']!r}: {_SENTENCES.get(item['type'], item['msg'])}"
            f"{_nearest(item['loc']) if item['type'] == 'extra_forbidden' else ''}"
            for item in error.errors()
        )
        raise ConfigError(f"{place}: {wrong}; `lmlp-stream config template` shows every key") from error


def _nearest(place: tuple[int | str, ...]) -> str:
    """The setting or section that a misspelt one resembles, as a question; empty where there is none."""
    *sections, last = map(str, place)
    settings: Any = Config
    for section in sections:
        settings = settings.model_fields[section].annotation
    near = get_close_matches(last, settings.model_fields, n=1)
    return f", did you mean {'.'.join([*sections, *near])}?" if near else ""


def _lay_over(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            f"--set {override!r} is not of the form section.key=value; write for example --set potential.members=4"
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, last = key.strip().split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ConfigError(f"--set {override!r}: {section} is not a section")
    tree[last] = value


def config_schema() -> dict[str, Any]:
    """JSON Schema of the configuration."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def config_template() -> str:
    """A complete TOML file with every key at its default and its meaning in a comment."""
    return "# lmlp_stream: every setting, at its default. Delete what you do not change.\n" + config_toml(Config())


def config_toml(config: Config) -> str:
    """A complete TOML file that says this configuration, with the meaning of every key in a comment."""
    lines = []
    for name, field in Config.model_fields.items():
        value = getattr(config, name)
        if isinstance(value, Section):
            lines += ["", f"[{name}]  # {_first_line(type(value))}"]
            for key, inner in type(value).model_fields.items():
                lines += [f"# {inner.description}", f"{key} = {_toml(getattr(value, key))}"]
        else:
            lines += [f"# {field.description}", f"{name} = {_toml(value)}"]
    return "\n".join(lines) + "\n"


def _first_line(section: type[Section]) -> str:
    return (section.__doc__ or "").splitlines()[0]


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)
