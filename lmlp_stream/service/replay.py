"""Time travel: an announced snapshot is rebuilt from the log and the journal, and nothing else.

The same ticks are learned by a scratch learner. It announces, saves, refuses and journals nothing, so it may run
beside the real one. Every announced snapshot on the way is rebuilt as well: its id is the next one's parent.
The limits of the door may have changed in the learner's life: what they refused is known from its dead letters.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields

from lmlp_stream.broker.log import MAX_MESSAGE_BYTES, Log, Message, Partition
from lmlp_stream.config import Config
from lmlp_stream.errors import BrokerError
from lmlp_stream.learning.learner import Learner
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.service.journal import JournalReader
from lmlp_stream.service.reader import Reader, opened, start_positions
from lmlp_stream.service.refusals import written_letters
from lmlp_stream.service.teller import provenance_of
from lmlp_stream.store.snapshot import Provenance, manifest_of
from lmlp_stream.wire.announcement import NOT_HASHED, SnapshotManifest
from lmlp_stream.wire.dead_letter import DeadLetter, decode_dead_letter
from lmlp_stream.wire.journal import Tell, Tick
from lmlp_stream.wire.limits import Limits
from lmlp_stream.wire.rejection import Reason

LIMITED = frozenset(
    (
        Reason.TOO_LARGE,
        Reason.TOO_MANY_ATOMS,
        Reason.BAD_CELL,
        Reason.OVERLAPPING_ATOMS,
        Reason.FORCE_TOO_LARGE,
        Reason.NET_FORCE,
    )
)
"""Reasons that depend on limits which may change in the life of a learner."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """An announced snapshot beside the one that was rebuilt.

    Attributes:
        announced: The manifest of the announcement.
        manifest: The rebuilt one.
        provenance: What `store.snapshot.publish` needs to store it.
    """

    announced: SnapshotManifest
    manifest: SnapshotManifest
    provenance: Provenance

    @property
    def identical(self) -> bool:
        """Whether both have the same content hash."""
        return self.announced.id == self.manifest.id

    @property
    def differing(self) -> tuple[str, ...]:
        """Names of the content fields that differ."""
        names = [field.name for field in fields(SnapshotManifest) if field.name not in NOT_HASHED]
        return tuple(name for name in names if getattr(self.announced, name) != getattr(self.manifest, name))


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What a replay found.

    Attributes:
        chain: Every announced snapshot from the first one to the one that was asked for.
        n_records: Records that were read.
        ensemble: The rebuilt potential.
    """

    chain: tuple[Rebuilt, ...]
    n_records: int
    ensemble: Ensemble

    @property
    def target(self) -> Rebuilt:
        """The snapshot that was asked for."""
        return self.chain[-1]


def chain_to(target: SnapshotManifest, announced: Iterable[SnapshotManifest]) -> tuple[SnapshotManifest, ...]:
    """The snapshots that were announced before the target, oldest first, and the target.

    Raises:
        BrokerError: One of them is not announced (any more).
    """
    by_id = {manifest.id: manifest for manifest in announced}
    chain = [target]
    while parent := chain[-1].parent_id:
        if parent not in by_id:
            raise BrokerError(
                f"snapshot {chain[-1].id} names {parent} as its parent, which is not announced in this log; "
                "restore the log it was made from"
            )
        chain.append(by_id[parent])
    return tuple(reversed(chain))


def replay(
    config: Config, log: Log, chain: Sequence[SnapshotManifest], observe: Callable[[Rebuilt | None], None]
) -> Replay:
    """The last snapshot of a chain, learned again from the beginning of the journal.

    Args:
        config: The configuration of the learner that announced it.
        log: Its log.
        chain: `chain_to` of the snapshot.
        observe: Called after each journal entry, with the snapshot that was announced there or None.

    Raises:
        BrokerError: The log cannot be reached, or has no longer all that was learned.
        DivergedError: A loss was not finite.
    """
    with ExitStack() as stack:
        journal = stack.enter_context(closing(JournalReader(log, config.log.journal(config.name))))
        entries = _needed(journal.decisions(), chain[-1])
        reader = Reader(log, start_positions(log, config.log.structures, {}))
        scratch = _Scratch(config, stack.enter_context(closing(reader)), _refused_by_limits(config, log))
        places = {manifest.journal_position: manifest for manifest in chain}
        for n_followed, entry in enumerate(entries, start=1):
            scratch.follow(entry)
            announced = places.get(n_followed)
            observe(scratch.rebuild(announced) if announced else None)
    if len(scratch.chain) != len(chain):
        raise BrokerError(f"the snapshots announced before {chain[-1].id} do not follow each other in the journal")
    return Replay(tuple(scratch.chain), scratch.n_records, scratch.learner.ensemble)


class _Scratch:
    """A learner that follows a journal and tells nobody."""

    def __init__(self, config: Config, reader: Reader, refused: frozenset[str]) -> None:
        self._config = config
        self._reader = reader
        self._refused = refused
        self._limits = _without_limits(config)
        self.learner = Learner(config)
        self.chain: list[Rebuilt] = []
        self.n_records = 0

    def follow(self, entry: Tick | Tell) -> None:
        """Learn what the entry names."""
        if isinstance(entry, Tick):
            messages = self._reader.take(entry.ranges)
            self.n_records += len(messages)
            let_in = [message for message in messages if _address(message) not in self._refused]
            self.learner.process_tick(opened(let_in, self._limits).structures)

    def rebuild(self, announced: SnapshotManifest) -> Rebuilt:
        """The snapshot that can be made now beside the one that was announced."""
        provenance = provenance_of(
            self._config,
            self.learner,
            self.learner.assess(),
            journal_position=announced.journal_position,
            parent_id=self.chain[-1].manifest.id if self.chain else "",
            created_at=announced.created_at,
        )
        self.chain.append(Rebuilt(announced, manifest_of(self.learner.ensemble, provenance), provenance))
        return self.chain[-1]


def _refused_by_limits(config: Config, log: Log) -> frozenset[str]:
    """Addresses of the records that the learner refused because of limits of that time."""
    topic = config.log.dead_letters
    messages = written_letters(log, topic, config.name, log.bounds(Partition(topic, 0)).begin)
    letters = (decode_dead_letter(message.value) for message in messages)
    return frozenset(
        letter.address for letter in letters if isinstance(letter, DeadLetter) and letter.reason in LIMITED
    )


def _without_limits(config: Config) -> Limits:
    """Limits that refuse what no learner with these levels of theory ever let in, and nothing else."""
    return Limits(
        level_of_theory=config.wire.level_of_theory,
        further_levels=config.wire.further_levels,
        elements="extended",
        max_record_bytes=MAX_MESSAGE_BYTES,
        max_atoms=MAX_MESSAGE_BYTES,
        min_distance=sys.float_info.min,
        max_force=sys.float_info.max,
        max_net_force=sys.float_info.max,
    )


def _address(message: Message) -> str:
    return f"{message.partition.topic}/{message.partition.index}/{message.offset}"


def _needed(entries: Sequence[Tick | Tell], target: SnapshotManifest) -> Sequence[Tick | Tell]:
    """The journal entries a snapshot was made after.

    Raises:
        BrokerError: The journal does not hold them one after the other from the first on.
    """
    needed = entries[: target.journal_position]
    if [entry.number for entry in needed] != list(range(target.journal_position)):
        raise BrokerError(
            f"snapshot {target.id} was made after {target.journal_position} journal entries, which the journal of "
            f"{target.name} does not hold one after the other; restore the log it was made from"
        )
    return needed
