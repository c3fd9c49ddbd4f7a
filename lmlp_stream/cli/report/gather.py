"""Gathers what a learner left behind: history, requests and dead letters, its newest snapshot on a test file."""

from collections import Counter
from pathlib import Path

from lmlp_stream.broker.log import Log, Message
from lmlp_stream.broker.open import open_log
from lmlp_stream.cli.report.examination import examine_snapshot
from lmlp_stream.cli.report.figures import ReportFigures, RequestMark, TestFigures
from lmlp_stream.cli.report.history import History
from lmlp_stream.cli.report.page import render
from lmlp_stream.cli.report.reading import history_path, read_history
from lmlp_stream.cli.report.tail import Tail
from lmlp_stream.config import Config
from lmlp_stream.errors import UsageError
from lmlp_stream.service.dead_letters import dead_letters
from lmlp_stream.simulate.follower import Follower
from lmlp_stream.wire.dead_letter import DeadLetter
from lmlp_stream.wire.limits import Limits
from lmlp_stream.wire.request import LabelRequest, decode_request


def write_report(config: Config, output: Path, *, test: Path | None) -> ReportFigures:
    """The figures of the report that was written into one HTML file.

    Raises:
        UsageError: The learner has learned nothing yet, or the test file cannot be read.
        BrokerError: The log cannot be read.
        DamagedStoreError: The newest snapshot is damaged.
    """
    figures = gather(config, test=test)
    try:
        output.write_text(render(figures), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}; name another file with --output") from error
    return figures


def gather(config: Config, *, test: Path | None) -> ReportFigures:
    """The figures of a report.

    Raises:
        UsageError: The learner has learned nothing yet, or the test file cannot be read.
        BrokerError: The log cannot be read.
        DamagedStoreError: The newest snapshot is damaged.
    """
    path = history_path(config)
    history = read_history(path)
    if not history.ticks:
        raise UsageError(f"{path} holds no tick; run `lmlp-stream learn CONFIG` with this configuration first")
    log = open_log(config.log.url, client="report", create=False)
    try:
        requests = read_requests(log, config)
        letters = read_dead_letters(log, config)
        figures = examine(log, config, test, history) if test else None
    finally:
        log.close()
    return ReportFigures(
        title=config.name,
        level_of_theory=config.wire.level_of_theory,
        further_levels=config.wire.further_levels,
        history=history,
        requests=requests,
        rejections=Counter(letter.reason for letter in letters),
        rejection_example={letter.reason: letter.detail for letter in reversed(letters)},
        test=figures,
        config=config.model_dump_json(indent=2),
    )


def read_requests(log: Log, config: Config) -> tuple[RequestMark, ...]:
    """The label requests in the log; damaged ones are passed over."""
    limits = Limits.of(config.wire)
    marks = []
    for message in _all_messages(log, config.log.requests):
        request = decode_request(message.value, limits)
        if isinstance(request, LabelRequest):
            marks.append(RequestMark(message.timestamp_ms / 1000.0, request.uncertainty, request.requester))
    return tuple(marks)


def _all_messages(log: Log, topic: str) -> list[Message]:
    tail = Tail(log, (topic,))
    messages = tail.new_messages()
    tail.close()
    return messages


def read_dead_letters(log: Log, config: Config) -> list[DeadLetter]:
    """The dead letters in the log; damaged ones are passed over."""
    return [letter for letter in dead_letters(log, config.log.dead_letters) if isinstance(letter, DeadLetter)]


def examine(log: Log, config: Config, test: Path, history: History) -> TestFigures | None:
    """The newest announced snapshot on the structures of a test file; None before the first announcement.

    Raises:
        UsageError: The file cannot be read, or has no structure that is known by its elements and was not learned.
        DamagedStoreError: The snapshot is damaged.
    """
    follower = Follower(log, config.log.snapshots, config.name, config.simulate.trusted_keys)
    manifest = follower.latest()
    follower.close()
    return None if manifest is None else examine_snapshot(manifest, config, test, history)
