"""The report as one HTML file that needs nothing else: no network, no script, no font."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from lmlp_stream.cli.report import plots
from lmlp_stream.cli.report.figures import ReportFigures, TestFigures
from lmlp_stream.cli.report.history import Arrival, by_domain, energy_rmse, force_rmse, windows
from lmlp_stream.cli.report.svg import sparkline


def render(figures: ReportFigures) -> str:
    """The whole page."""
    sections = [
        _header(figures),
        _learning(figures),
        _domains(figures),
        *([_parity(figures.test), _calibration(figures.test)] if figures.test else []),
        _timeline(figures),
        _rejections(figures),
        _config(figures),
    ]
    style = files("lmlp_stream.cli.report").joinpath("style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(figures.title)} · lmlp_stream</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(sections)
        + "\n</main>\n</body>\n</html>\n"
    )


def _header(figures: ReportFigures) -> str:
    history = figures.history
    quarters = windows(history.arrivals, 4)
    first, last = (force_rmse(quarters[0]), force_rmse(quarters[-1])) if len(quarters) == 4 else (None, None)
    tiles = [
        (f"{history.labels_learned:,}", "labels learned"),
        (f"{_short(first)} → {_short(last)}", "eV/Å force RMSE on new labels, first → last quarter"),
        (
            f"{len(history.announced)}",
            f"snapshots announced, {len(history.snapshots) - len(history.announced)} withheld",
        ),
        (f"{len(history.answers)} <small>of {len(figures.requests)}</small>", "label requests answered"),
    ]
    if figures.test:
        tiles.append((f"{1000 * figures.test.energy_rmse:.1f} <small>meV/atom</small>", "energy RMSE on the test file"))
        tiles.append((f"{1000 * figures.test.force_rmse:.0f} <small>meV/Å</small>", "force RMSE on the test file"))
    minutes = (history.ticks[-1].time - history.ticks[0].time) / 60.0 if history.ticks else 0.0
    elements = " ".join(history.elements) or "no element yet"
    level = f" at {figures.level_of_theory}" if figures.level_of_theory else ""
    return (
        f"<h1>{escape(figures.title)}</h1>\n<p>{escape(elements)}{escape(level)} · {history.steps:,} optimizer steps "
        f"in {minutes:.1f} minutes of streaming</p>\n"
        + f'<div class="tiles">{"".join(_tile(*tile) for tile in tiles)}</div>'
    )


def _tile(figure: str, meaning: str) -> str:
    return f'<div class="tile"><b>{figure}</b><span>{meaning}</span></div>'


def _learning(figures: ReportFigures) -> str:
    return _section(
        "Learning curve",
        "Every label is predicted before it is learned, so each error is one on an unseen structure. "
        f"{_key('first', 'mean of a window')}{_key('second', 'a snapshot: announced here, with its hold-out error')}",
        _figures(
            (plots.force_curve(figures.history), "<b>Forces.</b>"),
            (plots.energy_curve(figures.history), "<b>Energies.</b>"),
        ),
    )


def _domains(figures: ReportFigures) -> str:
    on_test = figures.test.errors_by_domain() if figures.test else {}
    rows = []
    for domain, arrivals in by_domain(figures.history.arrivals).items():
        first, last = _ends(arrivals)
        energy, force = on_test.get(domain, (None, None))
        rows.append(
            [
                escape(domain),
                f"{len(arrivals):,}",
                sparkline([error for part in windows(arrivals, 10) if (error := force_rmse(part)) is not None]),
                _figure(first),
                _figure(last),
                _figure(energy_rmse(arrivals[-max(1, len(arrivals) // 4) :]), 1000.0),
                *([_figure(energy, 1000.0), _figure(force)] if figures.test else []),
            ]
        )
    titles = ["domain", "labels", "force error", "first quarter, eV/Å", "last quarter, eV/Å", "energy, meV/atom"]
    titles += ["test energy, meV/atom", "test force, eV/Å"] if figures.test else []
    return _section(
        "Domains",
        "Prequential errors of each molecule, reaction or phase; energies in the last quarter of its labels.",
        _table(titles, rows, text_columns=(0, 2)),
    )


def _ends(arrivals: Sequence[Arrival]) -> tuple[float | None, float | None]:
    quarter = max(1, len(arrivals) // 4)
    return force_rmse(arrivals[:quarter]), force_rmse(arrivals[-quarter:])


def _parity(test: TestFigures) -> str:
    return _section(
        "Parity",
        f"Snapshot <code>{test.snapshot_id[:12]}</code> on {len(test.energies)} structures of "
        f"<code>{escape(test.file)}</code>, which it never learned.",
        _figures(
            (plots.energy_parity(test), f"<b>Energies.</b> RMSE {1000 * test.energy_rmse:.1f} meV/atom"),
            (plots.force_parity(test), f"<b>Forces.</b> RMSE {test.force_rmse:.3f} eV/Å"),
        ),
    )


def _calibration(test: TestFigures) -> str:
    return _section(
        "Calibration",
        "Is the uncertainty an honest one? On the dashed line it promises exactly what is observed; "
        "below it, it promises too much.",
        _figures(
            (
                plots.coverage(test),
                "<b>Coverage of forces.</b> "
                + _key("first", "calibrated at 90 %, as simulations see it")
                + _key("muted", "bare disagreement of the members"),
            ),
            (
                plots.error_over_uncertainty(test),
                "<b>Sharpness.</b> Tenths of the force components, ordered by disagreement: "
                "a rising line means that the potential knows what it does not know.",
            ),
        ),
    )


def _timeline(figures: ReportFigures) -> str:
    return _section(
        "Timeline",
        f"{_key('first', 'labels of one tick')}{_key('second', 'snapshot announced')}"
        f"{_key('muted', 'snapshot withheld')}{_key('third', 'label asked for by a simulation')}"
        f"{_key('warn', 'tick repeated after a crash')}",
        _figures((plots.timeline(figures.history, figures.requests), "")),
    )


def _rejections(figures: ReportFigures) -> str:
    duplicates = sum(tick.n_duplicates for tick in figures.history.ticks)
    rows = [
        [f"<code>{escape(reason)}</code>", f"{count:,}", escape(figures.rejection_example.get(reason, ""))]
        for reason, count in sorted(figures.rejections.items(), key=lambda item: -item[1])
    ]
    text = f"{sum(figures.rejections.values()):,} records were refused, {duplicates:,} were duplicates."
    table = _table(["reason", "records", "for example"], rows, text_columns=(0, 2)) if rows else ""
    return _section("Refused records", text, table)


def _config(figures: ReportFigures) -> str:
    return _section(
        "Configuration",
        "",
        f"<details><summary>Show every setting</summary><pre>{escape(figures.config)}</pre></details>",
    )


def _section(title: str, text: str, body: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n" + (f"<p>{text}</p>\n" if text else "") + body + "\n</section>"


def _figures(*drawn: tuple[str, str]) -> str:
    inner = "".join(
        f"<figure>{svg}" + (f"<figcaption>{caption}</figcaption>" if caption else "") + "</figure>"
        for svg, caption in drawn
    )
    return f'<div class="figures">{inner}</div>'


def _key(style: str, text: str) -> str:
    return f'<span class="key" style="--color: var(--{style})">{text}</span> '


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, text_columns: tuple[int, ...]) -> str:
    def cell(tag: str, index: int, content: str) -> str:
        style = "" if index in text_columns else ' class="number"'
        return f"<{tag}{style}>{content}</{tag}>"

    head = "".join(cell("th", index, title) for index, title in enumerate(titles))
    body = "".join(
        "<tr>" + "".join(cell("td", index, content) for index, content in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(value: float | None, unit: float = 1.0) -> str:
    return "–" if value is None else f"{value * unit:#.3g}".rstrip(".")


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
