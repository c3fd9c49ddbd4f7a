"""Where the learner stands: the verdict with its evidence and its course, and errors by domain, source and element."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from lmlp_stream.cli.report.history import History, SnapshotLine, VerdictLine
from lmlp_stream.cli.report.html import number, section, table

MAX_STAGES = 120
"""Most stages of the course of verdicts; of a longer stream, one verdict speaks for several ticks."""
MAX_PARTS = 40
"""Most rows of a table of parts: those of the largest force errors."""


def verdict(history: History) -> str:
    """The verdict now, why, and what it was before; empty where a learner left none."""
    known = [line for line in history.verdicts if line.verdict]
    if not known:
        return ""
    now = known[-1]
    body = (
        f'<p class="verdict {escape(now.verdict)}"><b>{escape(now.verdict)}</b> '
        f"{escape(now.evidence[:1].upper() + now.evidence[1:])}.</p>"
    )
    return section("Verdict", "", body + _course(known))


def _course(lines: Sequence[VerdictLine]) -> str:
    """A bar over the labels in the order of their arrival: each verdict over the labels it was the first to know."""
    shown = [lines[round(place * (len(lines) - 1) / MAX_STAGES)] for place in range(MAX_STAGES + 1)]
    stages, begin = [], 0
    for name, run in groupby(shown, key=lambda line: line.verdict):
        *_, last = run
        if last.n_arrivals > begin:
            stages.append(
                f'<span class="{escape(name)}" style="flex-grow: {last.n_arrivals - begin}" title="labels {begin + 1} '
                f'to {last.n_arrivals}: {escape(name)}; {escape(last.evidence)}">{escape(name)}</span>'
            )
            begin = last.n_arrivals
    return f'<div class="course">{"".join(stages)}</div><p>Verdicts over the labels in the order of their arrival.</p>'


def parts(line: SnapshotLine) -> str:
    """Errors at the newest snapshot by domain, source and element, on new labels and on the hold-out."""
    tables = [
        _parts(kind, title, line)
        for kind, title in (("domains", "domain"), ("sources", "source"), ("elements", "element"))
        if line.newest.get(kind) or line.held_out.get(kind)
    ]
    return section(
        "New labels and hold-out",
        f"After {line.labels_learned:,} labels: errors on the newest ones before they were learned, and on the "
        "structures held out of everything that came.",
        "".join(tables),
    )


def _parts(kind: str, title: str, line: SnapshotLine) -> str:
    newest, held_out = line.newest.get(kind, {}), line.held_out.get(kind, {})
    names = sorted({*newest, *held_out})
    shown = sorted(names, key=lambda name: _force_error(name, newest, held_out), reverse=True)[:MAX_PARTS]
    titles = [title]
    for where in ("newest", "held out"):
        titles += [f"{where}, structures", "force, eV/Å", *(["energy, meV/atom"] if kind != "elements" else [])]
    rows = [
        [escape(name) or "—", *_cells(newest.get(name, {}), kind), *_cells(held_out.get(name, {}), kind)]
        for name in sorted(shown)
    ]
    n_left_out = len(names) - len(shown)
    left_out = f"<p>{n_left_out} more, of no larger force error.</p>" if n_left_out else ""
    return table(titles, rows, text_columns=(0,)) + left_out


def _force_error(name: str, *errors: Mapping[str, Mapping[str, float]]) -> float:
    """The largest known force error of a part."""
    return max(some.get(name, {}).get("force_rmse_ev_per_angstrom", 0.0) for some in errors)


def _cells(errors: Mapping[str, float], kind: str) -> list[str]:
    n_structures = errors.get("n_structures")
    cells = ["–" if n_structures is None else f"{n_structures:,.0f}", number(errors.get("force_rmse_ev_per_angstrom"))]
    if kind != "elements":
        cells.append(number(errors.get("energy_rmse_ev_per_atom"), 1000.0))
    return cells
