"""The dead letter: a refused message with its raw bytes, its address and its reason."""

from dataclasses import dataclass

from lmlp_stream.wire.envelope import Envelope
from lmlp_stream.wire.fields import Binary, Integer, Text
from lmlp_stream.wire.rejection import RefusalError, Rejection

MAX_KEPT_BYTES = 2**20
MAX_KEY_BYTES = 1024
MAX_DETAIL = 1024
_ENVELOPE_BYTES = 16384

DEAD_LETTER = Envelope(
    "dead-letter",
    1,
    "A message that was refused. Key: key of the refused message.",
    {
        "reason": Text("Why, from a closed list."),
        "detail": Text("One sentence with value, place and remedy.", min_length=0, max_length=MAX_DETAIL),
        "topic": Text("Topic of the refused message."),
        "partition": Integer("Its partition."),
        "offset": Integer("Its offset."),
        "timestamp_ms": Integer("Its timestamp, Unix time in ms; -1 where it has none.", minimum=-1),
        "key": Binary("Its key; only the beginning of a very long one.", MAX_KEY_BYTES),
        "value": Binary("Its raw bytes; only the beginning of a very large one.", MAX_KEPT_BYTES),
        "missing_bytes": Integer("Bytes cut from the end of the value.", required=False),
    },
)

REDRIVEN_HEADER = "lmlp.redriven-from"
"""Header of a message that was published again: the address of the refused one."""

HEADER_MEANINGS = {
    "__connect.errors.topic": "Topic of the refused message.",
    "__connect.errors.partition": "Its partition.",
    "__connect.errors.offset": "Its offset.",
    "__connect.errors.timestamp": "Its timestamp, Unix time in ms; -1 where it has none.",
    "__connect.errors.stage": "Always VALUE_CONVERTER.",
    "__connect.errors.exception.class.name": "The reason.",
    "__connect.errors.exception.message": "The detail: value, place and remedy.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A refused message, its address and its reason.

    Attributes:
        reason: Why: the value of a `Reason`, or one that a newer learner knows.
        detail: One sentence with value, place and remedy.
        topic: Topic of the refused message.
        partition: Its partition.
        offset: Its offset.
        timestamp_ms: Its timestamp, Unix time in ms.
        key: Its key.
        value: Its raw bytes.
        missing_bytes: Bytes that were cut from the end of a value larger than `MAX_KEPT_BYTES`.
    """

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    missing_bytes: int = 0

    @property
    def address(self) -> str:
        """Where the refused message stands: topic/partition/offset; unlike an id, every message has one."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def cut(self) -> bool:
        """Whether the letter may hold less than the refused message."""
        return self.missing_bytes > 0 or len(self.key) >= MAX_KEY_BYTES


def encode_dead_letter(dead_letter: DeadLetter) -> bytes:
    """The record of a dead letter; very long keys, details and values are cut, so that the log accepts it."""
    kept = dead_letter.value[:MAX_KEPT_BYTES]
    return DEAD_LETTER.pack(
        {
            "reason": str(dead_letter.reason),
            "detail": dead_letter.detail[:MAX_DETAIL],
            "topic": dead_letter.topic,
            "partition": dead_letter.partition,
            "offset": dead_letter.offset,
            "timestamp_ms": dead_letter.timestamp_ms,
            "key": dead_letter.key[:MAX_KEY_BYTES],
            "value": kept,
            "missing_bytes": dead_letter.missing_bytes + len(dead_letter.value) - len(kept),
        }
    )


def decode_dead_letter(value: bytes) -> DeadLetter | Rejection:
    """The dead letter a record holds, or why it is none; never raises."""
    try:
        return DeadLetter(**DEAD_LETTER.open(value, max_bytes=MAX_KEPT_BYTES + _ENVELOPE_BYTES))
    except RefusalError as refusal:
        return refusal.rejection


def dead_letter_headers(dead_letter: DeadLetter) -> tuple[tuple[str, bytes], ...]:
    """Message headers as Kafka Connect writes them, so that tools for its dead letter queues read ours.

    Names: Apache Kafka, `org.apache.kafka.connect.runtime.errors.DeadLetterQueueReporter`. That class has no header for
    the timestamp of the refused message, but gives it to the record itself; here the log sets the time of the letter.
    """
    values = (
        dead_letter.topic,
        str(dead_letter.partition),
        str(dead_letter.offset),
        str(dead_letter.timestamp_ms),
        "VALUE_CONVERTER",
        str(dead_letter.reason),
        dead_letter.detail[:MAX_DETAIL],
    )
    return tuple((name, value.encode()) for name, value in zip(HEADER_MEANINGS, values, strict=True))
