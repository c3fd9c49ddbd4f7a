"""The live view: a potential that learns, a simulation that already uses it, and what they say to each other."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lmlp_stream.cli.demo.progress import Progress
from lmlp_stream.cli.demo.settings import DemoSettings
from lmlp_stream.cli.report.history import Arrival, by_domain, force_rmse, windows

CURVE_ROWS = 9
AXIS_COLUMNS = 6
MAX_SNAPSHOTS = 6
EIGHTHS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Moment:
    """What the view shows at one moment.

    Attributes:
        phase: What the demo is doing, in a few words.
        elapsed: Time since it began, s.
        progress: What was reached.
    """

    phase: str
    elapsed: float
    progress: Progress


def draw(moment: Moment, settings: DemoSettings) -> RenderableType:
    """The whole view, about 100 columns and 30 rows."""
    rows = Table.grid(expand=True, padding=(0, 1))
    rows.add_column(ratio=1)
    rows.add_column(ratio=1)
    rows.add_row(_learning_curve(moment.progress), _domains(moment.progress))
    rows.add_row(_snapshots(moment.progress), _simulation(moment.progress))
    return Group(
        _header(moment, settings), rows, Text(f"everything lies in {shown_path(settings.folder)}", style="dim")
    )


def one_line(moment: Moment) -> str:
    """The view where there is no terminal: one line."""
    progress = moment.progress
    errors = progress.force_errors
    error = f"{errors[-1]:.2f} eV/Å" if errors else "–"
    return (
        f"{moment.elapsed:4.0f} s  {moment.phase}: {progress.n_published} published, "
        f"{progress.history.labels_learned} learned, force error {error}, "
        f"{len(progress.history.announced)} snapshots ({len(progress.simulation.snapshots)} used by the simulation), "
        f"{progress.n_requests} requests ({progress.n_labelled} labelled)"
    )


def _header(moment: Moment, settings: DemoSettings) -> RenderableType:
    title = Table.grid(expand=True)
    title.add_column()
    title.add_column(justify="right")
    title.add_row(
        Text.assemble(("lmlp-stream demo", "bold"), "  ", (moment.phase, "cyan")),
        Text(f"{moment.elapsed // 60:.0f}:{moment.elapsed % 60:02.0f}", style="dim"),
    )
    bars = Table.grid(padding=(0, 1))
    for name, count in (("published", moment.progress.n_published), ("learned", moment.progress.n_processed)):
        total = max(settings.labels, moment.progress.n_published)
        bars.add_row(Text(name), ProgressBar(total=total, completed=count, width=60), Text(f"{count} / {total}"))
    return Group(title, bars)


def _learning_curve(progress: Progress) -> RenderableType:
    body = Curve(progress.history.arrivals) if progress.force_errors else Text("waiting for predictions", style="dim")
    return Panel(body, title="force error before learning, eV/Å", title_align="left", height=CURVE_ROWS + 3)


@dataclass(frozen=True, slots=True)
class Curve:
    """Bars of the logarithm of the prequential force error over the stream, as many as there is room for."""

    arrivals: Sequence[Arrival]

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines, from the largest error down; the axis is labelled at top, middle and bottom."""
        room = max(options.max_width - AXIS_COLUMNS - 1, 8)
        parts = windows(self.arrivals, min(room, max(1, len(self.arrivals) // 4)))
        errors = [error for part in parts if (error := force_rmse(part)) is not None]
        low, high = min(errors) / 1.2, max(errors)
        span = log10(high / low)
        heights = [round(8 * CURVE_ROWS * log10(error / low) / span) for error in errors]
        for row in reversed(range(CURVE_ROWS)):
            value = low * 10 ** (span * (row + 1) / CURVE_ROWS)
            axis = f"{value:5.2f} " if row % ((CURVE_ROWS - 1) // 2) == 0 else ""
            bars = "".join(EIGHTHS[min(max(height - 8 * row, 0), 8)] for height in heights)
            yield Text.assemble((axis.ljust(AXIS_COLUMNS), "dim"), (bars, "blue"))
        yield Text(" " * AXIS_COLUMNS + "first" + "newest label".rjust(max(len(errors) - 5, 13)), style="dim")


def _domains(progress: Progress) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 1))
    table.add_column("domain")
    for title in ("labels", "first", "now"):
        table.add_column(title, justify="right")
    for domain, arrivals in list(by_domain(progress.history.arrivals).items())[:10]:
        quarter = max(1, len(arrivals) // 4)
        first, last = force_rmse(arrivals[:quarter]), force_rmse(arrivals[-quarter:])
        table.add_row(domain, str(len(arrivals)), _error(first), Text(_error(last), style="bold"))
    return Panel(table, title="by molecule and reaction, eV/Å", title_align="left", height=CURVE_ROWS + 3)


def _snapshots(progress: Progress) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 1))
    for title in ("id", "labels", "error", ""):
        table.add_column(title, justify="left" if title in ("id", "") else "right", no_wrap=True)
    used = progress.simulation.snapshots
    for line in progress.history.snapshots[-MAX_SNAPSHOTS:]:
        error = line.errors.get("force_rmse_ev_per_angstrom")
        if not line.announced:
            fate = Text("withheld: " + ", ".join(line.reasons), style="yellow")
        elif used and line.id == used[-1]:
            fate = Text("● in use", style="green")
        else:
            fate = Text("used" if line.id in used else "announced", style="dim")
        table.add_row(line.id[:6], str(line.labels_learned), _error(error), fate)
    return Panel(table, title="snapshots, hold-out eV/Å", title_align="left", height=MAX_SNAPSHOTS + 3)


def _simulation(progress: Progress) -> RenderableType:
    state = progress.simulation
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(ratio=1)
    table.add_column(justify="right")
    for name, value in (
        ("MD steps of Cl⁻ + CH₃Br", f"{state.steps:,}"),
        ("temperature", f"{state.temperature:.0f} K" if state.steps else "–"),
        ("uncertainty", f"{state.uncertainty:.2f} eV/Å" if state.steps else "waits for a snapshot"),
        ("begun anew", str(state.restarts)),
        ("asked → labelled → learned", _flow(progress)),
        ("refused records", str(progress.n_refused)),
    ):
        table.add_row(name, Text(value, style="bold"))
    return Panel(table, title="simulation", title_align="left", height=MAX_SNAPSHOTS + 3)


def _flow(progress: Progress) -> str:
    return f"{progress.n_requests} → {progress.n_labelled} → {progress.n_requests_learned}"


def _error(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def print_summary(console: Console, summary: dict[str, object], settings: DemoSettings) -> None:
    """The closing table, where everything lies, and what to type next."""
    errors = summary["prequential_force_rmse_ev_per_angstrom"]
    table = Table(box=box.SIMPLE_HEAD, title="what was reached", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right", style="bold")
    for name, value in (
        ("labels learned", summary["labels_learned"]),
        ("elements", summary["elements"]),
        ("force error before learning, first → last window, eV/Å", _first_last(errors)),
        ("snapshots announced", summary["snapshots_announced"]),
        ("snapshots used by the simulation", summary["snapshots_used_by_simulation"]),
        ("labels the simulation asked for", summary["requests"]),
        ("of these computed", summary["requests_labelled"]),
        ("of these learned, and held out", f"{summary['requests_learned']}, {summary['requests_held_out']}"),
        ("seconds", summary["seconds"]),
    ):
        table.add_row(name, str(value))
    console.print(table)
    places = Table.grid(padding=(0, 2))
    for name, path in (
        ("report, for a browser", settings.report),
        ("summary", settings.summary),
        ("configuration", settings.config),
        ("log of all messages", settings.log),
        ("snapshots, checkpoints", settings.store),
        ("trajectory", settings.trajectory),
        ("never learned", settings.test_file),
    ):
        if path.exists():
            places.add_row(name, Text(str(shown_path(path)), style="cyan", no_wrap=True, overflow="ignore"))
    console.print(places, crop=False)
    console.print("\nwhat to type next:")
    for command, meaning in next_commands(settings):
        console.print(f"  [dim]# {meaning}[/]\n  [bold]{command}[/]", soft_wrap=True, highlight=False)


def next_commands(settings: DemoSettings) -> list[tuple[str, str]]:
    """Commands that work on what the demo left behind, each with what it does."""
    config, test = (shlex.quote(str(shown_path(path))) for path in (settings.config, settings.test_file))
    return [
        (f"lmlp-stream evaluate latest {test} --config {config}", "errors on structures that were never learned"),
        (f"lmlp-stream follow {config} --once", "the snapshots that were announced"),
        (f"lmlp-stream learn {config}", "go on learning what farms publish there; Ctrl-C ends it"),
        (f"lmlp-stream report {config} --test {test}", "the report once more"),
    ]


def shown_path(path: Path) -> Path:
    """The path as short as it works from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _first_last(errors: object) -> str:
    return f"{errors[0]:.2f} → {errors[-1]:.2f}" if isinstance(errors, list) and errors else "–"
