"""The report as one HTML file that needs nothing else: no network, no script, no font."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from lmlp_stream.cli.report import plots
from lmlp_stream.cli.report.figures import ReportFigures, TestFigures
from lmlp_stream.cli.report.history import Arrival, by_domain, energy_rmse, force_rmse, windows
from lmlp_stream.cli.report.html import drawings, key, number, section, table
from lmlp_stream.cli.report.standing import parts, verdict
from lmlp_stream.cli.report.svg import sparkline
from lmlp_stream.cli.terminal import counted


def render(figures: ReportFigures) -> str:
    """The whole page."""
    sections = [
        _header(figures),
        verdict(figures.history),
        _learning(figures),
        _domains(figures),
        *([parts(figures.history.snapshots[-1])] if figures.history.snapshots else []),
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
        tiles.append((f"{_mev(figures.test.energy_rmse)} <small>meV/atom</small>", "energy RMSE on test structures"))
        tiles.append((f"{1000 * figures.test.force_rmse:.0f} <small>meV/Å</small>", "force RMSE on test structures"))
    minutes = (history.ticks[-1].time - history.ticks[0].time) / 60.0 if history.ticks else 0.0
    elements = " ".join(history.elements) or "no element yet"
    level = f" at {figures.level_of_theory}" if figures.level_of_theory else ""
    if figures.further_levels:
        level += f", beside {', '.join(figures.further_levels)}, whose labels are learned and not examined"
    return (
        f"<h1>{escape(figures.title)}</h1>\n<p>{escape(elements)}{escape(level)} · {history.steps:,} optimizer steps "
        f"in {minutes:.1f} minutes of streaming</p>\n"
        + f'<div class="tiles">{"".join(_tile(*tile) for tile in tiles)}</div>'
    )


def _tile(figure: str, meaning: str) -> str:
    return f'<div class="tile"><b>{figure}</b><span>{meaning}</span></div>'


def _learning(figures: ReportFigures) -> str:
    return section(
        "Learning curve",
        "Every label is predicted before it is learned, so each error is one on an unseen structure. "
        f"{key('first', 'mean of a window')}{key('second', 'a snapshot: announced here, with its hold-out error')}",
        drawings(
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
                number(first),
                number(last),
                number(energy_rmse(arrivals[-max(1, len(arrivals) // 4) :]), 1000.0),
                *([number(energy, 1000.0), number(force)] if figures.test else []),
            ]
        )
    titles = ["domain", "labels", "force error", "first quarter, eV/Å", "last quarter, eV/Å", "energy, meV/atom"]
    titles += ["test energy, meV/atom", "test force, eV/Å"] if figures.test else []
    return section(
        "Domains",
        "Prequential errors of each molecule, reaction or phase; energies in the last quarter of its labels.",
        table(titles, rows, text_columns=(0, 2)),
    )


def _ends(arrivals: Sequence[Arrival]) -> tuple[float | None, float | None]:
    quarter = max(1, len(arrivals) // 4)
    return force_rmse(arrivals[:quarter]), force_rmse(arrivals[-quarter:])


def _mev(value: float | None) -> str:
    return "–" if value is None else f"{1000 * value:.1f}"


def _parity(test: TestFigures) -> str:
    energies = f"<b>Energies.</b> RMSE {_mev(test.energy_rmse)} meV/atom"
    if n_undetermined := int((~test.is_determined).sum()):
        energies += f"; without {counted(n_undetermined, 'structure')} of compositions that no learned one determines"
    return section(
        "Parity",
        f"Snapshot <code>{test.snapshot_id[:12]}</code> on {counted(len(test.energies), 'structure')} of "
        f"<code>{escape(test.file)}</code>. {_unseen(test)}",
        drawings(
            (plots.energy_parity(test), energies),
            (plots.force_parity(test), f"<b>Forces.</b> RMSE {test.force_rmse:.3f} eV/Å"),
        ),
    )


def _unseen(test: TestFigures) -> str:
    """Whether the learner had these structures before, as far as it can be told."""
    said = [f"None of them {'is known to have come' if test.n_uncompared else 'came'} to be learned, digit for digit."]
    if test.n_learned:
        said.append(f"Left out: {counted(test.n_learned, 'structure')} that did.")
    if test.n_held_out:
        said.append(f"Held out by the learner: {test.n_held_out} of them.")
    if test.n_uncompared:
        said.append(f"Not compared: {counted(test.n_uncompared, 'label')} whose ids are no hashes or are not recorded.")
    return " ".join(said)


def _calibration(test: TestFigures) -> str:
    return section(
        "Calibration",
        "Is the uncertainty an honest one? On the dashed line it promises exactly what is observed; "
        "below it, it promises too much.",
        drawings(
            (
                plots.coverage(test),
                "<b>Coverage of forces.</b> "
                + key("first", "calibrated at 90 %, as simulations see it")
                + key("muted", "bare disagreement of the members"),
            ),
            (
                plots.error_over_uncertainty(test),
                "<b>Sharpness.</b> Tenths of the force components, ordered by disagreement: "
                "a rising line means that the potential knows what it does not know.",
            ),
        ),
    )


def _timeline(figures: ReportFigures) -> str:
    return section(
        "Timeline",
        f"{key('first', 'labels of one tick')}{key('second', 'snapshot announced')}"
        f"{key('muted', 'snapshot withheld')}{key('third', 'label asked for by a simulation')}"
        f"{key('warn', 'tick repeated after a crash')}",
        drawings((plots.timeline(figures.history, figures.requests), "")),
    )


def _rejections(figures: ReportFigures) -> str:
    duplicates = sum(tick.n_duplicates for tick in figures.history.ticks)
    rows = [
        [
            f"<code>{escape(reason)}</code>",
            f"{count:,}",
            f'<span class="wrap">{escape(figures.rejection_example.get(reason, ""))}</span>',
        ]
        for reason, count in sorted(figures.rejections.items(), key=lambda item: -item[1])
    ]
    text = f"{sum(figures.rejections.values()):,} records were refused, {duplicates:,} were duplicates."
    body = table(["reason", "records", "for example"], rows, text_columns=(0, 2)) if rows else ""
    return section("Refused records", text, body)


def _config(figures: ReportFigures) -> str:
    return section(
        "Configuration",
        "",
        f"<details><summary>Show every setting</summary><pre>{escape(figures.config)}</pre></details>",
    )


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
