"""The labeller: answers label requests with any ASE calculator."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from lmlp_stream.atoms.structure import to_ase
from lmlp_stream.broker.log import Log, Message, partition_of
from lmlp_stream.broker.topics import create_topics
from lmlp_stream.config import Config
from lmlp_stream.errors import ConfigError, UsageError
from lmlp_stream.farm.answered import REQUEST_HEADER, Seen, address, answers
from lmlp_stream.farm.calculators import CalculationFailedError, LabelCalculator
from lmlp_stream.farm.door import tried, with_labels
from lmlp_stream.farm.naming import SEGMENT
from lmlp_stream.wire.dead_letter import DeadLetter, dead_letter_headers, encode_dead_letter
from lmlp_stream.wire.record import Limits, Rejection
from lmlp_stream.wire.request import LabelRequest, decode_request

CALCULATION_FAILED = "calculation_failed"
"""Reason of a dead letter: the calculator could not label the structure."""

MAX_FIRST_FAILURES = 10
"""A worker that fails this often and has never succeeded is not set up; it stops before it drains the requests."""

POLL_S = 0.2
MESSAGES_PER_POLL = 256


@dataclass(frozen=True, slots=True)
class Worker:
    """One of several workers that share the requests by lot on their ids; alone by default."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """The worker that `NUMBER/OF` names.

        Raises:
            UsageError: It is not of this form, or the number is not between 1 and OF.
        """
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise UsageError(f"--worker {text!r} is not of the form NUMBER/OF with 1 <= NUMBER <= OF, such as 1/4")
        return cls(int(number), int(of))

    def draws(self, key: bytes) -> bool:
        """Whether the request of this key is this worker's."""
        return partition_of(key, self.of) == self.number - 1


@dataclass(slots=True)
class LabelReport:
    """What a worker did: requests it answered, failed at, found expired and found settled by an earlier run."""

    n_labelled: int = 0
    n_failed: int = 0
    n_expired: int = 0
    n_settled_before: int = 0
    last_failure: str = ""


class Labeller:
    """Answers label requests, the most urgent first, each once however often workers are restarted.

    An answer has the request's id as its id, so the learner counts it once even if two workers compute it; its group
    is a run of consecutive requests of one requester. What cannot be labelled becomes a dead letter.

    Args:
        config: Log, wire and calculator.
        log: Where requests are read and answers are written.
        worker: Its share of the requests.
        now: Unix time in s.

    Raises:
        ConfigError: The calculator cannot be made.
        BrokerError: The log cannot be reached.
    """

    def __init__(
        self, config: Config, log: Log, worker: Worker | None = None, *, now: Callable[[], float] = time.time
    ) -> None:
        self.report = LabelReport()
        self._config = config
        self._limits = Limits.of(config.wire)
        self._worker = worker or Worker()
        self._now = now
        self._calculator = LabelCalculator(config.label)
        create_topics(log, config.log)
        self._log = log
        self._sink = log.sink()
        self._positions = {partition: log.bounds(partition).begin for partition in log.partitions(config.log.requests)}
        self._requests = log.source(self._positions)
        self._answers: Seen | None = None
        self._failures: Seen | None = None
        self._n_calculated_in_vain = 0
        self._open: list[tuple[Message, LabelRequest]] = []

    def run(
        self,
        stopped: Callable[[], bool],
        *,
        until_idle_s: float | None = None,
        observe: Callable[[LabelReport], None] = lambda _: None,
    ) -> LabelReport:
        """Answer requests until told to stop, which is looked at between two calculations.

        Args:
            stopped: Whether to stop now.
            until_idle_s: Stop after this time without a request, s; None: wait for ever.
            observe: Called with the report after each request.

        Raises:
            BrokerError: The log cannot be reached.
            ConfigError: The first calculations all failed.
        """
        busy_at = time.monotonic()
        while not stopped():
            self._receive()
            if self._open:
                self._answer(*self._open.pop())
                observe(self.report)
                busy_at = time.monotonic()
            elif until_idle_s is not None and time.monotonic() - busy_at >= until_idle_s and self._at_end():
                break
        return self.report

    def close(self) -> None:
        """Flush and release the connections, but not the log."""
        self._sink.close()
        self._requests.close()
        for seen in (self._answers, self._failures):
            if seen is not None:
                seen.close()

    def _receive(self) -> None:
        """Take in every request that has arrived; the most urgent, of equals the oldest, comes last."""
        n_open = len(self._open)
        while messages := self._requests.poll(MESSAGES_PER_POLL, 0.0 if self._open else POLL_S):
            for message in messages:
                self._positions[message.partition] = message.offset + 1
                if self._worker.draws(message.key):
                    self._sort_in(message)
        if len(self._open) > n_open:
            self._open.sort(key=lambda item: (item[1].priority, -item[0].timestamp_ms, -item[0].offset))

    def _at_end(self) -> bool:
        return all(position >= self._log.bounds(partition).end for partition, position in self._positions.items())

    def _sort_in(self, message: Message) -> None:
        request = decode_request(message.value, self._limits)
        if isinstance(request, Rejection):
            if not self._failed_before(message):
                self._fail(message, request.reason, request.detail)
        elif request.expires_at <= self._now():
            self.report.n_expired += 1
        else:
            self._open.append((message, request))

    def _answer(self, message: Message, request: LabelRequest) -> None:
        if request.expires_at <= self._now():
            self.report.n_expired += 1
            return
        if self._answered_before(message, request.id) or self._failed_before(message):
            self.report.n_settled_before += 1
            return
        try:
            labels = self._calculator.labels(request.structure)
        except CalculationFailedError as error:
            self._fail(message, CALCULATION_FAILED, str(error))
            self._n_calculated_in_vain += 1
            if not self.report.n_labelled and self._n_calculated_in_vain == MAX_FIRST_FAILURES:
                raise ConfigError(
                    f"the first {MAX_FIRST_FAILURES} calculations of this worker all failed; the last: {error}; "
                    f"check label.calculator and label.arguments"
                ) from error
            return
        answer = with_labels(
            request.structure,
            labels,
            id_=request.id,
            domain=str(to_ase(request.structure).get_chemical_formula()),
            group=f"{request.requester}/{message.partition.index}-{message.offset // SEGMENT}",
            level_of_theory=self._config.wire.level_of_theory,
            source=f"label:{request.requester}",
        )
        record = tried(answer, self._limits)
        if isinstance(record, Rejection):
            self._fail(message, record.reason, record.detail)
            return
        headers = ((REQUEST_HEADER, request.id.encode()),)
        self._sink.send(self._config.log.structures, key=answer.group.encode(), value=record, headers=headers)
        self._sink.flush()
        self.report.n_labelled += 1

    def _answered_before(self, message: Message, request_id: str) -> bool:
        if self._answers is None:
            self._answers = Seen(self._log, self._config.log.structures, self._oldest(message), answers)
        return self._answers.holds(request_id.encode())

    def _failed_before(self, message: Message) -> bool:
        if self._failures is None:
            topic = self._config.log.dead_letters
            self._failures = Seen(self._log, topic, self._oldest(message), lambda letter: (letter.key,))
        return self._failures.holds(address(message))

    def _oldest(self, message: Message) -> int:
        return min(candidate.timestamp_ms for candidate in (message, *(other for other, _ in self._open)))

    def _fail(self, message: Message, reason: str, detail: str) -> None:
        letter = DeadLetter(
            reason=reason,
            detail=detail,
            topic=message.partition.topic,
            partition=message.partition.index,
            offset=message.offset,
            timestamp_ms=message.timestamp_ms,
            key=message.key,
            value=message.value,
        )
        self._sink.send(
            self._config.log.dead_letters,
            key=address(message),
            value=encode_dead_letter(letter),
            headers=dead_letter_headers(letter),
        )
        self._sink.flush()
        self.report.n_failed += 1
        self.report.last_failure = detail
