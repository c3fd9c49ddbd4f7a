"""The publisher: labelled structures from Python into the log."""

from types import TracebackType
from typing import Self

from ase import Atoms

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.broker.open import open_log
from lmlp_stream.broker.topics import create_topics
from lmlp_stream.config import Config, parse_config
from lmlp_stream.errors import UsageError
from lmlp_stream.farm.door import labelled, tried
from lmlp_stream.farm.labels import LabelFinder, Missing, calculated_labels
from lmlp_stream.farm.naming import Naming
from lmlp_stream.wire.record import Limits, Rejection


class Publisher:
    """Publishes labelled structures; what a learner would refuse is refused here, before it is sent.

        with Publisher("sqlite:lmlp-stream.db", level_of_theory="GFN2-xTB") as publisher:
            publisher.publish(atoms)

    The charge is `atoms.info["charge"]`. Structures count as durable when `flush` or the `with` block has returned.

    Args:
        log: URL of the log, or the whole configuration.
        level_of_theory: The method that made the labels; empty: the main one of the configuration.
        source: Who publishes.

    Raises:
        UsageError: The level of theory is missing or is none of the configuration's.
        ConfigError: The URL is wrong.
        BrokerError: The log cannot be reached.
    """

    def __init__(self, log: str | Config, *, level_of_theory: str = "", source: str = "publisher") -> None:
        config = log if isinstance(log, Config) else _config(log, level_of_theory)
        main, further = config.wire.level_of_theory, config.wire.further_levels
        self._level_of_theory = level_of_theory or main
        if not self._level_of_theory or self._level_of_theory not in (main, *further):
            raise UsageError(
                f"the level of theory is {level_of_theory!r} here and {main!r} in the configuration; name the method "
                "that made the labels once, such as level_of_theory='wB97X/6-31G(d)', or in wire.further_levels too"
            )
        self._limits = Limits.of(config.wire)
        self._topic = config.log.structures
        self._source = source
        self._naming = Naming()
        self._finder = LabelFinder()
        self._log = open_log(config.log.url, client=source)
        create_topics(self._log, config.log)
        self._sink = self._log.sink()

    def publish(self, atoms: Atoms, *, domain: str = "", group: str = "") -> str:
        """Send a structure with the labels of its calculator; returns its id, which is the same for the same label.

        Without a calculator the labels are looked for in `atoms.info` and `atoms.arrays`, as in files.

        Args:
            atoms: Positions in Å; the calculator is asked for energy (eV) and forces (eV/Å).
            domain: What errors are reported by; empty: `info["domain"]` and the like, else the formula.
            group: Trajectory segment, never split between learned and held out; empty: `info["group_id"]` and
                the like, else ten consecutive structures of this publisher.

        Raises:
            UsageError: There are no labels, or a learner would refuse the record; the message says why.
            BrokerError: The log did not accept it.
        """
        place = f"the structure {atoms.get_chemical_formula()}"
        charge = _charge(atoms, place)
        labels = calculated_labels(atoms) if atoms.calc is not None else self._finder.find(atoms, place)
        if isinstance(labels, Missing):
            raise UsageError(f"{place} lacks {labels.clause}; attach a calculator that has energy and forces")
        named = atoms.copy()
        named.info |= charge | {key: name for key, name in (("domain", domain), ("group_id", group)) if name}
        structure = labelled(
            named, labels, self._naming, place=place, level_of_theory=self._level_of_theory, source=self._source
        )
        self.send(structure)
        return structure.id

    def send(self, structure: LabelledStructure) -> None:
        """Send a labelled structure as it is.

        Raises:
            UsageError: A learner would refuse the record; the message says why.
            BrokerError: The log did not accept it.
        """
        record = tried(structure, self._limits)
        if isinstance(record, Rejection):
            raise UsageError(f"structure {structure.id} would be refused ({record.reason}): {record.detail}")
        self._sink.send(self._topic, key=structure.group.encode(), value=record)

    def flush(self) -> None:
        """Return when everything published is durable."""
        self._sink.flush()

    def close(self) -> None:
        """Flush and release the connection."""
        self._sink.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


def _config(url: str, level_of_theory: str) -> Config:
    return parse_config({"log": {"url": url}, "wire": {"level_of_theory": level_of_theory}}, place="Publisher")


def _charge(atoms: Atoms, place: str) -> dict[str, float]:
    parameters = getattr(atoms.calc, "parameters", None) or {}
    if "charge" not in parameters:
        return {}
    computed = parameters["charge"] or 0
    said = atoms.info.get("charge", computed)
    if computed != said:
        raise UsageError(
            f"{place}: the calculator computed charge {computed} but atoms.info['charge'] is {said}; "
            f"give the calculator charge={said} or correct atoms.info"
        )
    return {"charge": computed}
