"""Refused records become dead letters, each once, whatever dies."""

import time
from collections.abc import Iterator
from contextlib import closing

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.broker.log import Log, Message, Partition
from lmlp_stream.config import Config
from lmlp_stream.errors import BrokerError
from lmlp_stream.service.dead_letters import message_at
from lmlp_stream.wire.dead_letter import DeadLetter, dead_letter_headers, encode_dead_letter
from lmlp_stream.wire.record import encode
from lmlp_stream.wire.rejection import Rejection

LEARNER_HEADER = "lmlp.learner"
READ_TIMEOUT_S = 120.0


class Refusals:
    """The dead letters of one learner.

    After a crash the records behind the last checkpoint are refused again; those whose dead letter is already in the
    log are recognised by their address.

    Args:
        config: Names of learner and topics.
        log: Where they are written.
        position: Next offset of the dead letters when the last checkpoint was saved; None: no checkpoint.

    Attributes:
        start: Offset from which the letters of earlier runs were looked for.
    """

    def __init__(self, config: Config, log: Log, position: int | None) -> None:
        self._name = config.name.encode()
        self._topic = config.log.dead_letters
        self._structures = config.log.structures
        self._log = log
        self._sink = log.sink()
        self._partition = Partition(self._topic, 0)
        begin = log.bounds(self._partition).begin
        self.start = begin if position is None else max(position, begin)
        self._written = {letter.key for letter in written_letters(log, self._topic, config.name, self.start)}

    @property
    def position(self) -> int:
        """Next offset of the dead letters at this moment."""
        return self._log.bounds(self._partition).end

    def refuse(self, message: Message, rejection: Rejection) -> None:
        """Write the dead letter of a message, unless an earlier run of this learner did."""
        letter = DeadLetter(
            reason=rejection.reason,
            detail=rejection.detail,
            topic=message.partition.topic,
            partition=message.partition.index,
            offset=message.offset,
            timestamp_ms=message.timestamp_ms,
            key=message.key,
            value=message.value,
        )
        address = letter.address.encode()
        if address in self._written:
            self._written.remove(address)
            return
        headers = (*dead_letter_headers(letter), (LEARNER_HEADER, self._name))
        self._sink.send(self._topic, key=address, value=encode_dead_letter(letter), headers=headers)

    def condemn(self, structure: LabelledStructure, rejection: Rejection) -> None:
        """Write the dead letter of the message that brought a structure, unless an earlier run of this learner did.

        Where the log has lost the message meanwhile, its time is unknown and its value is written anew.
        """
        index, offset = structure.record
        partition = Partition(self._structures, index)
        message = message_at(self._log, partition, offset) or Message(
            partition=partition,
            offset=offset,
            key=structure.group.encode(),
            value=encode(structure),
            headers=(),
            timestamp_ms=-1,
        )
        self.refuse(message, rejection)

    def flush(self) -> None:
        """Return when every dead letter is durable."""
        self._sink.flush()

    def close(self) -> None:
        """Release the connection."""
        self._sink.close()


def written_letters(log: Log, topic: str, learner: str, begin: int) -> Iterator[Message]:
    """The dead letters of one learner from an offset to where the topic ends now; their key is the address.

    Raises:
        BrokerError: The log does not hand out what it holds.
    """
    partition = Partition(topic, 0)
    end = log.bounds(partition).end
    with closing(log.source({partition: begin})) as source:
        deadline = time.monotonic() + READ_TIMEOUT_S
        while begin < end:
            for message in source.poll(256, 1.0):
                begin = message.offset + 1
                deadline = time.monotonic() + READ_TIMEOUT_S
                if (LEARNER_HEADER, learner.encode()) in message.headers:
                    yield message
            if time.monotonic() > deadline:
                raise BrokerError(f"{topic} ends at {end} but nothing can be read from {begin} on; is the log healthy?")
