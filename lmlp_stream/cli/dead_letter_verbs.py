"""The verbs `dead-letters list`, `dead-letters show` and `dead-letters redrive`. They never import torch."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from lmlp_stream.broker.log import Log
from lmlp_stream.broker.open import open_log
from lmlp_stream.cli.options import AsJson, ConfigPath, Settings, configured
from lmlp_stream.cli.terminal import answer, counted, counting, explain
from lmlp_stream.config import Config
from lmlp_stream.errors import BrokerError, UsageError
from lmlp_stream.service.dead_letters import Redriven, dead_letters, redrive, whole
from lmlp_stream.wire.dead_letter import DeadLetter
from lmlp_stream.wire.readable import hexdump, readable_fields
from lmlp_stream.wire.rejection import Reason, Rejection

SHOWN_BYTES = 256
SHOWN_CHARACTERS = 200
CLIENT = "lmlp-stream-dead-letters"

Reasons = Annotated[
    list[str] | None, typer.Option("--reason", metavar="REASON", help="Only letters with this reason; may be repeated.")
]
Addresses = Annotated[
    list[str] | None,
    typer.Option("--address", metavar="TOPIC/PARTITION/OFFSET", help="Only this message; may be repeated."),
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command."""
    verbs = typer.Typer(no_args_is_help=True)
    verbs.command("list")(list_letters)
    verbs.command()(show)
    verbs.command("redrive")(redrive_letters)
    app.add_typer(verbs, name="dead-letters", help="List and show refused messages, and publish them again.")


def list_letters(
    config: ConfigPath, settings: Settings = None, reason: Reasons = None, as_json: AsJson = False
) -> None:
    """Print every refused message: time, reason, address, detail; then how many of each reason there are."""
    read = configured(config, settings)
    listed: list[dict[str, Any]] = []
    counts: Counter[str] = Counter()
    with closing(open_log(read.log.url, client=CLIENT, create=False)) as log:
        _check_reasons(log, read, reason or ())
        for letter in _letters(log, read):
            if reason and letter.reason not in reason:
                continue
            counts[letter.reason] += 1
            if as_json:
                listed.append(_named(letter))
            else:
                typer.echo(f"{_time(letter) or '-':<24}  {letter.reason:<18}  {letter.address}  {letter.detail}")
    n_letters = counts.total()
    by_reason = ", ".join(f"{name} {n}" for name, n in counts.most_common())
    answer(
        f"{counted(n_letters, 'dead letter')}{': ' if by_reason else ''}{by_reason}",
        {"n_letters": n_letters, "by_reason": dict(counts), "letters": listed},
        as_json=as_json,
    )


def show(
    config: ConfigPath,
    address: Annotated[str, typer.Argument(metavar="TOPIC/PARTITION/OFFSET", help="As `dead-letters list` prints it.")],
    settings: Settings = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write the raw bytes there, whole.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print one refused message: why, and its fields where it has any, otherwise its first bytes."""
    read = configured(config, settings)
    with closing(open_log(read.log.url, client=CLIENT, create=False)) as log:
        found = [letter for letter in _letters(log, read) if letter.address == address]
        if not found:
            raise UsageError(f"no dead letter tells of {address!r}; `lmlp-stream dead-letters list` prints addresses")
        letter = found[-1]
        message = whole(log, letter)
    if message is None:
        explain(f"the letter lacks {letter.missing_bytes} bytes that the log no longer has; this is the beginning")
    value = letter.value if message is None else message[1]
    if output is not None:
        _write(output, value)
    figures = {**_named(letter), "key": letter.key.hex(), "fields": readable_fields(value)}
    if figures["fields"] is None:
        figures["hexdump"] = hexdump(value, SHOWN_BYTES)
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        _print(figures)


def redrive_letters(
    config: ConfigPath,
    settings: Settings = None,
    reason: Reasons = None,
    address: Addresses = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Publish nothing; say what would be.")] = False,
    as_json: AsJson = False,
) -> None:
    """Publish refused messages again, byte for byte, once what made them refused is repaired.

    Each is redriven once; one that is refused again has a letter, and an address, of its own.
    """
    read = configured(config, settings)

    def chosen(letter: DeadLetter) -> bool:
        return (not reason or letter.reason in reason) and (not address or letter.address in address)

    with closing(open_log(read.log.url, client=CLIENT, create=False)) as log:
        _check_reasons(log, read, reason or ())
        with counting("redriving") as advance:
            result = redrive(log, read.log.dead_letters, chosen, dry_run=dry_run, advance=advance)
        left = set(address or ()).difference(result.published, result.before, result.lost)
        others = [letter for letter in _letters(log, read) if letter.address in left] if left else []
    _report(result, dry_run=dry_run, as_json=as_json)
    if result.lost:
        raise BrokerError(
            f"{counted(len(result.lost), 'message')} cannot be redriven, the first is {result.lost[0]}: the letter "
            "holds only its beginning and the log no longer has it; ask its publisher to send it again"
        )
    if others:
        raise UsageError(
            f"{others[0].address} was refused for another reason, {others[0].reason}: add --reason {others[0].reason}, "
            "or leave --reason out"
        )
    if left:
        raise UsageError(f"no dead letter tells of {min(left)!r}; `lmlp-stream dead-letters list` prints addresses")


def _check_reasons(log: Log, config: Config, asked: Iterable[str]) -> None:
    """Refuse a reason that nobody gives: neither this version nor, if a newer one wrote them, a letter of the log.

    Raises:
        UsageError: There is one.
    """
    unknown = set(asked).difference(Reason)
    if unknown:
        unknown -= {letter.reason for letter in _letters(log, config)}
    if unknown:
        raise UsageError(f"--reason {min(unknown)}: there is no such reason; there are {', '.join(sorted(Reason))}")


def _letters(log: Log, config: Config) -> Iterator[DeadLetter]:
    n_unreadable = 0
    for letter in dead_letters(log, config.log.dead_letters):
        if isinstance(letter, Rejection):
            n_unreadable += 1
        else:
            yield letter
    if n_unreadable:
        explain(f"{counted(n_unreadable, 'message')} of {config.log.dead_letters} cannot be read as dead letters")


def _named(letter: DeadLetter) -> dict[str, Any]:
    return {
        "address": letter.address,
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "time": _time(letter),
        "n_bytes": len(letter.value) + letter.missing_bytes,
    }


def _time(letter: DeadLetter) -> str | None:
    """When the refused message was published, ISO 8601; None where it has no time, or none a calendar has."""
    if letter.timestamp_ms < 0:
        return None
    try:
        return datetime.fromtimestamp(letter.timestamp_ms / 1000, UTC).isoformat("T", "milliseconds")[:-6] + "Z"
    except (OverflowError, ValueError, OSError):
        return None


def _print(figures: dict[str, Any]) -> None:
    fields = figures.pop("fields") or {}
    dump = figures.pop("hexdump", [])
    for name, value in figures.items():
        typer.echo(f"{name:<20} {value}")
    for name, value in fields.items():
        shown = json.dumps(value)
        cut = f"{shown[:SHOWN_CHARACTERS]} ... ({len(shown)} characters; --json prints them)"
        typer.echo(f"  {json.dumps(name)[1:-1]:<18} {shown if len(shown) <= SHOWN_CHARACTERS else cut}")
    for line in dump:
        typer.echo(f"  {line}")


def _write(path: Path, value: bytes) -> None:
    try:
        path.write_bytes(value)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; name another file") from error
    explain(f"wrote {len(value)} bytes to {path}")


def _report(result: Redriven, *, dry_run: bool, as_json: bool) -> None:
    verb = "would redrive" if dry_run else "redrove"
    answer(
        f"{verb} {counted(len(result.published), 'message')}; {len(result.before)} had been redriven before, "
        f"{len(result.lost)} cannot be",
        {
            "dry_run": dry_run,
            "n_redriven": len(result.published),
            "n_redriven_before": len(result.before),
            "n_lost": len(result.lost),
            "redriven": list(result.published),
            "lost": list(result.lost),
        },
        as_json=as_json,
    )
