"""What people see: results on stdout; progress and explanations on stderr."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lmlp_stream.service.history import finite

console = Console(stderr=True)

LONG = 100
"""Characters above which a list or map is counted instead of shown."""


def explain(sentence: str) -> None:
    """Write a sentence to stderr."""
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def answer(sentence: str, figures: Mapping[str, object], *, as_json: bool) -> None:
    """Write the result to stdout: the sentence, or the figures as one line of JSON."""
    typer.echo(json_text(figures) if as_json else sentence)


def json_text(figures: object, *, indent: int | None = None) -> str:
    """Figures as JSON; what is not finite, for which JSON has no word, is null."""
    return json.dumps(finite(figures), ensure_ascii=False, allow_nan=False, indent=indent)


def listed(figures: Mapping[str, object]) -> str:
    """One line for each figure: its name and its value, of which four digits are shown.

    Unix times, whose names end in `_at`, are dates in UTC; what is long is counted.
    """
    width = max(map(len, figures))
    return "\n".join(f"{name:<{width}}  {_shown(name, value)}" for name, value in figures.items())


def _shown(name: str, value: object) -> str:
    if name.endswith("_at") and isinstance(value, float):
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="seconds") if value else "never"
    if isinstance(value, dict | list | tuple) and len(str(value)) > LONG:
        return f"{len(value)} entries; --json prints them"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def counted(n: int, noun: str) -> str:
    """The number and its noun: `1 structure`, `2 structures`."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


@contextmanager
def counting(what: str, total: int | None = None) -> Iterator[Callable[[], None]]:
    """Shows on a terminal how often the function it hands out was called; silent where stderr is a file.

    Args:
        what: What is counted.
        total: How many there will be; None: not known, there is no bar.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
