"""The demo from start to summary: which process runs when, and how all of them end."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from rich.console import Console
from rich.live import Live

from lmlp_stream.broker.open import open_log
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.cli.demo.children import Child, start
from lmlp_stream.cli.demo.progress import Progress, Watch
from lmlp_stream.cli.demo.settings import FARM_WORKERS, DemoSettings, config_text
from lmlp_stream.cli.demo.summary import summarize
from lmlp_stream.cli.demo.view import Moment, draw, one_line, print_summary
from lmlp_stream.cli.report.gather import write_report
from lmlp_stream.cli.terminal import json_text
from lmlp_stream.config import Config, load_config
from lmlp_stream.errors import LmlpStreamError

COMMAND = ("-c", "from lmlp_stream.cli.main import main; main()")
"""Python's arguments for `lmlp-stream`, wherever its script lies."""
BACKGROUND = 5
"""Niceness of everything but the learner, which has most to do."""
LOOK_EVERY_S = 0.5
LINE_EVERY_S = 10.0
GRACE_S = 15.0
"""Time beyond the asked one in which farm workers may finish, s."""
LABELLING_S = 15.0
"""Longest time for answering the last requests, s."""
LEARNING_S = 60.0
"""Longest time for learning what was published by then, s."""
INTERRUPTED = 130

Show = Callable[[Moment], None]


class DemoError(LmlpStreamError):
    """A process of the demo ended before its time."""


def run_demo(settings: DemoSettings, *, as_json: bool, plain: bool) -> int:
    """Run everything and say what was reached; the exit code.

    Args:
        settings: What the user chose; its folder is empty.
        as_json: Print the summary as JSON instead of a table.
        plain: A line every ten seconds instead of the live view.

    Raises:
        DemoError: A process ended before its time.
    """
    settings.config.write_text(config_text(settings), encoding="utf-8")
    config = load_config(settings.config)
    begin = time.monotonic()
    with _shown(settings, plain=plain) as show:
        progress, interrupted = _stream(settings, config, show, begin)
        show(Moment("writing the report", time.monotonic() - begin, progress))
        if progress.history.ticks:
            write_report(config, settings.report, test=settings.test_file if settings.test_file.exists() else None)
    summary = summarize(progress, settings, seconds=time.monotonic() - begin, interrupted=interrupted)
    settings.summary.write_text(json_text(summary, indent=2) + "\n", encoding="utf-8")
    _tell(summary, settings, as_json=as_json)
    return INTERRUPTED if interrupted else 0


def _stream(settings: DemoSettings, config: Config, show: Show, begin: float) -> tuple[Progress, bool]:
    """Everything between the first process and the last; what was reached, and whether Ctrl-C ended it."""
    log = open_log(config.log.url, client="demo")
    log.ensure(topic_specs(config.log, config.name))
    watch = Watch(log, config, settings.simulation_lines)
    stage = Stage(settings, watch, show, begin)
    interrupted = False
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        stage.start_all()
        stage.play()
    except KeyboardInterrupt:
        interrupted = True
        stage.show("stopping")
    finally:
        stage.stop_all()
        for number, handler in previous.items():
            signal.signal(number, handler)
    progress = watch.look()
    watch.close()
    log.close()
    return progress, interrupted


@dataclass(slots=True)
class Stage:
    """The processes of a demo and the order in which they come and go.

    Attributes:
        settings: What the user chose.
        watch: Reads what was reached.
        show: Shows it.
        begin: When the demo began, on the monotonic clock.
        children: The running processes by name.
    """

    settings: DemoSettings
    watch: Watch
    show_moment: Show
    begin: float
    children: dict[str, Child] = field(default_factory=dict)

    def start_all(self) -> None:
        """Start learner, labeller, simulation and farm, in this order."""
        settings, config = self.settings, str(self.settings.config)
        self._start("learner", [*COMMAND, "learn", config])
        self._start("labeller", [*COMMAND, "label", config], niceness=BACKGROUND)
        paths = [config, str(settings.simulation_lines), str(settings.trajectory)]
        self._start("simulation", ["-m", "lmlp_stream.cli.demo.simulation", *paths], niceness=BACKGROUND)
        for worker in range(FARM_WORKERS):
            share = [str(worker), str(FARM_WORKERS), str(settings.labels), str(settings.seconds)]
            arguments = ["-m", "lmlp_stream.cli.demo.farm", config, *share, str(settings.test_file)]
            self._start(f"farm-{worker}", arguments, niceness=BACKGROUND)

    def play(self) -> None:
        """Stream until the farm is done, answer the last requests, learn the last labels.

        Raises:
            DemoError: A process ended before its time.
        """
        self._wait("streaming", self.settings.seconds + GRACE_S, lambda _: not self._farm_running())
        self._stop("farm-0", "farm-1", "simulation")
        self._wait(
            "answering the last requests", LABELLING_S, lambda now: now.n_labelled + now.n_failed >= now.n_requests
        )
        self._stop("labeller")
        self._wait("learning the last labels", LEARNING_S, lambda now: now.n_processed >= now.n_published)
        self._stop("learner")

    def show(self, phase: str) -> None:
        """Show what was reached."""
        self.show_moment(Moment(phase, time.monotonic() - self.begin, self.watch.look()))

    def stop_all(self) -> None:
        """End what still runs; the learner saves a checkpoint first. A second Ctrl-C ends it at once."""
        for child in self.children.values():
            child.ask_to_stop()
        try:
            for child in self.children.values():
                child.stop()
        except KeyboardInterrupt:
            for child in self.children.values():
                child.kill()
            raise

    def _start(self, name: str, arguments: list[str], *, niceness: int = 0) -> None:
        self.children[name] = start(name, arguments, output=self.settings.output_of(name), niceness=niceness)

    def _farm_running(self) -> bool:
        return any(child.running for name, child in self.children.items() if name.startswith("farm"))

    def _wait(self, phase: str, longest_s: float, done: Callable[[Progress], bool]) -> None:
        deadline = time.monotonic() + longest_s
        while time.monotonic() < deadline:
            progress = self.watch.look()
            self.show_moment(Moment(phase, time.monotonic() - self.begin, progress))
            if done(progress):
                return
            self._check()
            time.sleep(LOOK_EVERY_S)

    def _check(self) -> None:
        for name, child in self.children.items():
            code = child.exit_code
            if code is not None and not (code == 0 and name.startswith("farm")):
                raise DemoError(
                    f"the {name} ended with exit code {code}; {child.output} ends with:\n{child.last_words()}"
                )

    def _stop(self, *names: str) -> None:
        for name in names:
            self.children[name].ask_to_stop()
        for name in names:
            self.children.pop(name).stop()


@contextmanager
def _shown(settings: DemoSettings, *, plain: bool) -> Iterator[Show]:
    """Shows moments on stderr: live on a terminal, else as lines."""
    console = Console(stderr=True)
    if plain or not console.is_terminal:
        yield _line_by_line(console)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda moment: live.update(draw(moment, settings), refresh=True)


def _line_by_line(console: Console) -> Show:
    shown_at, shown_phase = -LINE_EVERY_S, ""

    def show(moment: Moment) -> None:
        nonlocal shown_at, shown_phase
        if moment.elapsed - shown_at >= LINE_EVERY_S or moment.phase != shown_phase:
            shown_at, shown_phase = moment.elapsed, moment.phase
            console.print(one_line(moment), highlight=False, soft_wrap=True)

    return show


def _tell(summary: dict[str, Any], settings: DemoSettings, *, as_json: bool) -> None:
    console = Console()
    if as_json:
        console.file.write(json_text(summary) + "\n")
    else:
        print_summary(console, summary, settings)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
