"""The announcement of a snapshot: what a simulator must know before it trusts a potential."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from lmlp_stream.config import MAX_LEVELS
from lmlp_stream.wire.envelope import Envelope
from lmlp_stream.wire.fields import AtomicNumbers, Figures, Integer, Number, Text, Texts, Tree
from lmlp_stream.wire.limits import MAX_ATOMIC_NUMBER
from lmlp_stream.wire.rejection import Reason, RefusalError, Rejection

MAX_ANNOUNCEMENT_BYTES = 2**20

SNAPSHOT_ANNOUNCEMENT = Envelope(
    "snapshot-announcement",
    1,
    "A snapshot that can be loaded. Key: name/id; the newest is the one with the most labels learned.",
    {
        "id": Text(
            "SHA-256 of what the manifest says, but for id, weights_uri, code_version, created_at and signature."
        ),
        "name": Text("The learner."),
        "step": Integer("Optimizer steps taken."),
        "labels_learned": Integer("Labels learned."),
        "journal_position": Integer("Journal entries that were replayed or written."),
        "elements": AtomicNumbers("Atomic numbers the potential covers, increasing.", MAX_ATOMIC_NUMBER),
        "cutoff": Number("Cutoff radius, Å.", maximum=1e3, above=0.0),
        "level_of_theory": Text("The method behind the labels.", min_length=0),
        "further_levels": Texts(
            "Further levels of theory that were learned beside it; none: left out.",
            MAX_LEVELS,
            required=False,
        ),
        "symmetry": Tree("The symmetry functions, one by one."),
        "potential": Tree("Members, hidden layers and precision of the ensemble."),
        "errors": Figures("Hold-out errors by name; the unit is part of the name, e.g. force_rmse_ev_per_angstrom."),
        "calibration": Figures("Factors from disagreement to uncertainty."),
        "weights_uri": Text("Where weights.safetensors lies.", max_length=2048),
        "weights_sha256": Text("SHA-256 of that file.", min_length=64, max_length=64),
        "parent_id": Text("The snapshot announced before; empty for the first.", min_length=0),
        "code_version": Text("Version of lmlp_stream that made it.", min_length=0),
        "created_at": Text("When, ISO 8601 in UTC."),
        "signature": Text(
            "Ed25519 signature of 'lmlp-snapshot/1:' and the id, 128 hexadecimal digits; none: not signed.",
            min_length=128,
            max_length=128,
            required=False,
        ),
    },
)

NOT_HASHED = ("id", "weights_uri", "code_version", "created_at", "signature")
"""Fields of a manifest that its content id does not cover."""

_LEFT_OUT = ("further_levels", "signature")
"""Fields that are left out where there is nothing to say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotManifest:
    """What a snapshot says of itself.

    Attributes:
        id: `content_id()` of everything else.
        name: The learner.
        step: Optimizer steps taken.
        labels_learned: Labels learned.
        journal_position: Place in the journal.
        elements: Atomic numbers the potential covers, increasing.
        cutoff: Cutoff radius in Å.
        level_of_theory: The method behind the labels.
        symmetry: The symmetry functions, one by one, as plain values.
        potential: Members, hidden layers and precision of the ensemble, as plain values.
        errors: Finite hold-out errors by name; a figure that does not exist is left out.
        calibration: Finite factors from disagreement to uncertainty.
        weights_uri: Where the weights lie.
        weights_sha256: Hash of that file.
        parent_id: The snapshot announced before; empty for the first.
        code_version: Version of lmlp_stream that made it.
        created_at: When, ISO 8601 in UTC.
        further_levels: Further levels of theory that were learned beside it.
        signature: Of the id by the learner's key, as `store.signing` says; empty: not signed.
    """

    id: str
    name: str
    step: int
    labels_learned: int
    journal_position: int
    elements: tuple[int, ...]
    cutoff: float
    level_of_theory: str
    symmetry: dict[str, Any]
    potential: dict[str, Any]
    errors: dict[str, float]
    calibration: dict[str, float]
    weights_uri: str
    weights_sha256: str
    parent_id: str
    code_version: str
    created_at: str
    further_levels: tuple[str, ...] = ()
    signature: str = ""

    def content_id(self) -> str:
        """SHA-256, in hex, of the canonical JSON of every field but those in `NOT_HASHED`.

        Raises:
            ValueError: A number is not finite.
        """
        tree = {name: value for name, value in self._plain().items() if name not in NOT_HASHED}
        canonical = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def verified(self) -> bool:
        """Whether the id is the hash of what the manifest says."""
        return self.id == self.content_id()

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values that JSON can say, with the name and version of their schema."""
        envelope = SNAPSHOT_ANNOUNCEMENT
        return {"schema_name": envelope.name, "schema_version": envelope.version, **self._plain()}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Self:
        """The manifest of parsed JSON; whether it is `verified` is another question.

        Raises:
            ValueError: A field is missing or wrong; the message names it.
        """
        try:
            return cls(**SNAPSHOT_ANNOUNCEMENT.read(tree))
        except RefusalError as refusal:
            raise ValueError(refusal.rejection.detail) from refusal

    def _plain(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["elements"] = [int(z) for z in self.elements]
        values["cutoff"] = float(self.cutoff)
        for name in ("errors", "calibration"):
            values[name] = {key: float(figure) for key, figure in values[name].items()}
        values["further_levels"] = list(self.further_levels)
        return {name: value for name, value in values.items() if value or name not in _LEFT_OUT}


def announce(manifest: SnapshotManifest) -> bytes:
    """The announcement of a snapshot.

    Raises:
        ValueError: The id is not the hash of the manifest, or the announcement would be too large to be read.
    """
    if not manifest.verified():
        raise ValueError(f"the id {manifest.id!r} of the manifest is not its content id {manifest.content_id()}")
    value = SNAPSHOT_ANNOUNCEMENT.pack(manifest._plain())
    if len(value) > MAX_ANNOUNCEMENT_BYTES:
        raise ValueError(f"the announcement has {len(value)} bytes; readers accept {MAX_ANNOUNCEMENT_BYTES}")
    return value


def announcement_key(manifest: SnapshotManifest) -> bytes:
    """The key on the compacted topic: every snapshot of every learner stays."""
    return f"{manifest.name}/{manifest.id}".encode()


def read_announcement(value: bytes) -> SnapshotManifest | Rejection:
    """The manifest that was announced, verified against its id, or why it is not believed; never raises."""
    try:
        manifest = SnapshotManifest(**SNAPSHOT_ANNOUNCEMENT.open(value, max_bytes=MAX_ANNOUNCEMENT_BYTES))
    except RefusalError as refusal:
        return refusal.rejection
    if not manifest.verified():
        return Rejection(
            Reason.WRONG_ID,
            f"id is {manifest.id[:64]!r} but the manifest hashes to {manifest.content_id()}; announce it again",
        )
    return manifest
