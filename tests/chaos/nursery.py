"""Forks learners: importing torch takes seconds, so one process imports it once and every learner is its child.

A child is a process of its own with its own log connections; it is the command `lmlp-stream learn` from `main()` on,
and it is killed by the kernel. The parent has one thread and opens no log itself.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import lmlp_stream.broker.kafka.log
import lmlp_stream.broker.sqlite
import lmlp_stream.cli.learn  # noqa: F401 - imported so that no child pays for it
from lmlp_stream.cli.main import main
from tests.chaos.failpoints import arm
from tests.chaos.window import Window


@dataclass(frozen=True, slots=True)
class Ambush:
    """A signal that a learner sends itself: at the `occurrence`-th passage of a failpoint."""

    point: str
    occurrence: int
    signal_number: int = signal.SIGKILL


class Child:
    """A process that was forked here.

    Attributes:
        said: File with its stdout and stderr.
        window: Set while it is a learner that stands between asking and doing.
        status: Exit code, negative for a signal; None while it runs.
    """

    def __init__(self, pid: int, said: Path, window: Window) -> None:
        self.pid = pid
        self.said = said
        self.window = window
        self.status: int | None = None

    def alive(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is None

    def wait(self, timeout_s: float) -> int:
        """Its exit code; a child that takes longer is killed."""
        deadline = time.monotonic() + timeout_s
        while self.alive():
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"process {self.pid} took more than {timeout_s} s:\n{self.said.read_text()}")
            time.sleep(0.005)
        assert self.status is not None
        return self.status

    def send(self, signal_number: int) -> None:
        if self.alive():
            os.kill(self.pid, signal_number)

    def suspend(self) -> None:
        """Suspend it; returns when it sleeps, or is gone."""
        self.send(signal.SIGSTOP)
        while self.alive() and not self.stopped():
            time.sleep(0.001)

    def stopped(self) -> bool:
        """Whether it is suspended."""
        return self.alive() and Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def kill(self) -> None:
        """End it; returns when it is gone."""
        self.send(signal.SIGKILL)
        while self.alive():
            time.sleep(0.002)


def fork(deed: Callable[[Window], int], said: Path) -> Child:
    """A child that does the deed and ends with the number it returns."""
    sys.stdout.flush()
    window = Window()
    pid = os.fork()
    if pid:
        return Child(pid, said, window)
    code = 1
    try:
        with said.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        code = deed(window)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def learner(arguments: Sequence[str], said: Path, ambush: Ambush | None = None) -> Child:
    """`lmlp-stream learn ARGUMENTS` as a child."""

    def learn(window: Window) -> int:
        window.watch()
        if ambush is not None:
            arm(ambush.point, ambush.occurrence, ambush.signal_number)
        sys.argv = ["lmlp-stream", "learn", *arguments]
        main()
        return 0

    torch.set_num_threads(1)
    return fork(learn, said)
