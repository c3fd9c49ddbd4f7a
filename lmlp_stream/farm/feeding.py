"""Files into the log: every structure is checked first, then all are published in their order."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ase import Atoms

from lmlp_stream.broker.log import Sink
from lmlp_stream.config import Config
from lmlp_stream.errors import UsageError
from lmlp_stream.farm.door import labelled, tried
from lmlp_stream.farm.files import read_structures
from lmlp_stream.farm.labels import LabelFinder, Missing
from lmlp_stream.farm.naming import Naming
from lmlp_stream.wire.record import Limits, Rejection

_LENGTHS = struct.Struct("<II")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedOptions:
    """What the user says about files.

    Attributes:
        energy_key: Key of the energy; empty: found; `none`: there is none.
        forces_key: Key of the forces; empty: found; `none`: there are none.
        domain_key: `info` key of the domain; empty: found.
        group_keys: `info` keys that name the group together; empty: found.
        skip_unlabelled: Pass over structures without energy or forces instead of refusing the file.
        keep_going: Pass over structures that a learner would refuse instead of refusing the file.
    """

    energy_key: str = ""
    forces_key: str = ""
    domain_key: str = ""
    group_keys: tuple[str, ...] = ()
    skip_unlabelled: bool = False
    keep_going: bool = False


@dataclass(slots=True, kw_only=True)
class FileReport:
    """What was found in one file.

    Attributes:
        path: The file.
        n_structures: Structures in it.
        n_accepted: Those that are published.
        n_unlabelled: Those that lack energy or forces.
        n_refused: Those that a learner would refuse.
        first_unlabelled: Number of the first of them and what it lacks; empty without any.
        first_refusal: Number of and reason for the first of them; empty without any.
        energy_key: Key the energies were taken from.
        forces_key: Key the forces were taken from.
        stress_key: Key the stresses were taken from; empty without any.
        domains_from: How many domains were taken from what.
        groups_from: How many groups were taken from what.
    """

    path: str
    n_structures: int = 0
    n_accepted: int = 0
    n_unlabelled: int = 0
    n_refused: int = 0
    first_unlabelled: str = ""
    first_refusal: str = ""
    energy_key: str = ""
    forces_key: str = ""
    stress_key: str = ""
    domains_from: dict[str, int] = field(default_factory=dict)
    groups_from: dict[str, int] = field(default_factory=dict)


class FileChecker:
    """Checks the structures of one file and writes those that are let in to a spool.

    Args:
        path: The file.
        options: What the user says about it.
        config: Level of theory and limits of the wire.
        spool: Where records wait until everything is checked.
    """

    def __init__(self, path: Path, options: FeedOptions, config: Config, spool: IO[bytes]) -> None:
        self.report = FileReport(path=str(path))
        self._path = path
        self._options = options
        self._level_of_theory = config.wire.level_of_theory
        self._limits = Limits.of(config.wire)
        self._spool = spool
        self._finder = LabelFinder(options.energy_key, options.forces_key)
        self._naming = Naming(options.domain_key, options.group_keys)

    def check(self, advance: Callable[[], None]) -> FileReport:
        """What is in the file; `advance` is called after each structure.

        Raises:
            UsageError: It cannot be read, its labels are in doubt, or some of its structures are unlabelled or would
                be refused and the options do not say to pass over them.
        """
        for atoms in read_structures(self._path):
            self.report.n_structures += 1
            self._check(atoms)
            advance()
        self.report.energy_key = self._finder.energy_key
        self.report.forces_key = self._finder.forces_key
        self.report.stress_key = self._finder.stress_key
        self.report.domains_from = dict(self._naming.domains_from)
        self.report.groups_from = dict(self._naming.groups_from)
        self._judge()
        return self.report

    def _check(self, atoms: Atoms) -> None:
        number = self.report.n_structures
        place = f"{self._path}, structure {number}"
        labels = self._finder.find(atoms, place)
        if isinstance(labels, Missing):
            self.report.n_unlabelled += 1
            self.report.first_unlabelled = self.report.first_unlabelled or f"structure {number} lacks {labels.clause}"
            return
        structure = labelled(
            atoms,
            labels,
            self._naming,
            place=place,
            level_of_theory=self._level_of_theory,
            source=f"feed:{self._path.name}",
        )
        record = tried(structure, self._limits)
        if isinstance(record, Rejection):
            self.report.n_refused += 1
            self.report.first_refusal = self.report.first_refusal or f"structure {number}: {record.detail}"
            return
        _append(self._spool, structure.group.encode(), record)
        self.report.n_accepted += 1

    def _judge(self) -> None:
        report = self.report
        if report.n_structures == 0:
            raise UsageError(f"{report.path} holds no structures; nothing is published")
        if report.n_unlabelled and not self._options.skip_unlabelled:
            raise UsageError(
                f"{report.path}: {report.n_unlabelled} of {report.n_structures} structures have no labels, nothing is "
                f"published; {report.first_unlabelled}; name keys with --energy-key and --forces-key (none: there is "
                f"no such label), or --skip-unlabelled passes over them"
            )
        if report.n_refused and not self._options.keep_going:
            raise UsageError(
                f"{report.path}: {report.n_refused} of {report.n_structures} structures would be refused by the "
                f"learner, nothing is published; the first is {report.first_refusal}; --keep-going passes over them"
            )


def publish(spool: IO[bytes], sink: Sink, topic: str, advance: Callable[[], None]) -> int:
    """How many records of a spool were sent and are durable; `advance` is called after each is sent.

    Raises:
        BrokerError: The log did not accept them.
    """
    n_published = 0
    for key, record in _records(spool):
        sink.send(topic, key=key, value=record)
        n_published += 1
        advance()
    sink.flush()
    return n_published


def _append(spool: IO[bytes], key: bytes, record: bytes) -> None:
    spool.write(_LENGTHS.pack(len(key), len(record)) + key + record)


def _records(spool: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    spool.seek(0)
    while header := spool.read(_LENGTHS.size):
        n_key, n_record = _LENGTHS.unpack(header)
        yield spool.read(n_key), spool.read(n_record)
