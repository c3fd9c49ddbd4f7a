"""Orderly stops: the first signal asks, a second Ctrl-C insists."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import typer

from lmlp_stream.cli.terminal import explain

INTERRUPTED = 130
TWICE_S = 1.0
"""A signal that comes again sooner is the same one: `timeout` and `srun` send it to the process and to its group."""


@contextmanager
def stopping(finishing: str) -> Iterator[Callable[[], bool]]:
    """Hands out a function that says whether SIGINT or SIGTERM has asked to stop.

    When the block ends, the exit code is 130 if it was SIGINT; after SIGTERM the command ends as if it were done.
    A second SIGINT, more than `TWICE_S` after the first signal, raises `KeyboardInterrupt` at once.

    Args:
        finishing: What is finished before the stop, for the message: "the running calculation".
    """
    received: dict[int, float] = {}

    def ask(number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and received and now - min(received.values()) > TWICE_S:
            raise KeyboardInterrupt
        if number in received:
            return
        received[number] = now
        explain(f"{signal.Signals(number).name}: finishing {finishing}, then stopping")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in received:
        raise typer.Exit(INTERRUPTED)
