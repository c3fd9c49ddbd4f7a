"""The follower: which snapshots a learner has announced, and the newest of them, verified and loaded."""

import time
from collections.abc import Iterator, Mapping

import torch

from lmlp_stream.broker.log import Log, Partition, Source
from lmlp_stream.errors import BrokerError, UntrustedError
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.store.signing import check_signature
from lmlp_stream.store.snapshot import CPU, load
from lmlp_stream.wire.announcement import SnapshotManifest, read_announcement
from lmlp_stream.wire.rejection import Rejection

MESSAGES_PER_POLL = 500
PATIENCE_S = 5.0
PAUSE_S = 0.2


class Follower:
    """The announcements of a topic from its beginning on.

    It may start before the learner, and before the topic exists.

    Args:
        log: Where snapshots are announced.
        topic: The topic of announcements.
        name: The learner to follow; empty: every learner of the topic.
        trusted_keys: Public keys; what none of them signed is passed over. None: signatures do not matter.

    Attributes:
        untrusted: Why a snapshot was passed over, by its id: it is not signed by a trusted key.
    """

    def __init__(self, log: Log, topic: str, name: str = "", trusted_keys: tuple[str, ...] = ()) -> None:
        self._log = log
        self._topic = topic
        self._name = name
        self._trusted_keys = trusted_keys
        self.untrusted: dict[str, str] = {}
        self._source: Source | None = None
        self._positions: dict[Partition, int] = {}
        self._told: set[str] = set()
        self._latest: SnapshotManifest | None = None

    def new_manifests(self) -> tuple[SnapshotManifest, ...]:
        """What was announced since the last call, each snapshot once, in the order of the log.

        Damaged announcements, those of other learners and those that no trusted key signed are passed over.

        Raises:
            BrokerError: The log cannot be reached or has lost announcements.
        """
        return tuple(self._new())

    def latest(self) -> SnapshotManifest | None:
        """The snapshot that learned the most labels, of equals the one announced last; None before the first.

        Raises:
            BrokerError: The log cannot be reached or has lost announcements.
        """
        for _ in self._new():
            pass
        return self._latest

    def wait(self, timeout_s: float) -> SnapshotManifest:
        """The latest snapshot, as soon as there is one.

        Raises:
            BrokerError: None was announced within `timeout_s`.
            UntrustedError: Some were, but none that a trusted key signed.
        """
        deadline = time.monotonic() + timeout_s
        while (latest := self.latest()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                learner = f"by learner {self._name!r} " if self._name else ""
                if self.untrusted:
                    raise UntrustedError(
                        f"{len(self.untrusted)} snapshots were announced, and the newest of them is "
                        f"not used: {list(self.untrusted.values())[-1]}"
                    )
                raise BrokerError(
                    f"no snapshot was announced {learner}on {self._topic} within {timeout_s:g} s; "
                    "is `lmlp-stream learn` running with the same log.url, log.prefix and name?"
                )
            time.sleep(min(PAUSE_S, left))
        return latest

    def load(self, manifest: SnapshotManifest, *, device: torch.device = CPU) -> Ensemble:
        """The potential of an announced snapshot, verified.

        Raises:
            DamagedStoreError: The snapshot is missing or not what its manifest says.
            UntrustedError: None of the trusted keys signed it.
        """
        return load(manifest, device=device, trusted_keys=self._trusted_keys)[1]

    def close(self) -> None:
        """Release the connection; the log stays open."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _trusts(self, manifest: SnapshotManifest) -> bool:
        try:
            check_signature(manifest, self._trusted_keys)
        except UntrustedError as error:
            self.untrusted[manifest.id] = str(error)
            return False
        self.untrusted.pop(manifest.id, None)
        return True

    def _new(self) -> Iterator[SnapshotManifest]:
        """The new manifests one by one: of all others only the ids are kept, however many there are."""
        for value in self._read_to_the_end():
            manifest = read_announcement(value)
            if isinstance(manifest, Rejection) or manifest.id in self._told:
                continue
            if (not self._name or manifest.name == self._name) and self._trusts(manifest):
                self._told.add(manifest.id)
                if self._latest is None or manifest.labels_learned >= self._latest.labels_learned:
                    self._latest = manifest
                yield manifest

    def _read_to_the_end(self) -> Iterator[bytes]:
        source = self._open()
        if source is None:
            return
        ends = {partition: self._log.bounds(partition).end for partition in self._positions}
        while _behind(self._positions, ends):
            messages = source.poll(MESSAGES_PER_POLL, PATIENCE_S)
            if not messages:
                break
            for message in messages:
                self._positions[message.partition] = message.offset + 1
                yield message.value

    def _open(self) -> Source | None:
        if self._source is None:
            for partition in self._log.partitions(self._topic):
                self._positions.setdefault(partition, self._log.bounds(partition).begin)
            if self._positions:
                self._source = self._log.source(self._positions)
        return self._source


def _behind(positions: Mapping[Partition, int], ends: Mapping[Partition, int]) -> bool:
    return any(positions[partition] < end for partition, end in ends.items())
