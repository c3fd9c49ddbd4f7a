import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from lmlp_stream.cli.report.figures import ReportFigures, RequestMark, TestFigures
from lmlp_stream.cli.report.history import Arrival, History, SnapshotLine, Tick
from lmlp_stream.cli.report.page import render
from lmlp_stream.cli.report.plots import MAX_DOTS, binned_errors, promised_levels, thinned


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str | None] = []
        self.unbalanced: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if self.open.pop() != tag:
            self.unbalanced.append(tag)


def arrival(index: int, **changes: Any) -> Arrival:
    fields = {
        "time": 100.0 + index,
        "domain": "F⁻ + CH₃Cl" if index % 2 else "<b>&",
        "source": "farm",
        "energy_error": 0.01,
        "force_squared_error": 18.0 / (1 + index),
        "n_force_components": 18,
    }
    return Arrival(index=index, **{**fields, **changes})


@pytest.fixture
def figures() -> ReportFigures:
    generator = np.random.default_rng(0)
    forces = generator.normal(size=72)
    errors = {"force_rmse_ev_per_angstrom": 0.3, "energy_rmse_ev_per_atom": 0.01}
    return ReportFigures(
        title="learner & co",
        level_of_theory="GFN2-xTB",
        history=History(
            ticks=(Tick(0, 100.0, 20, 20, 1, 2, 60), Tick(1, 130.0, 40, 20, 0, 0, 60)),
            arrivals=tuple(arrival(index) for index in range(40)),
            snapshots=(
                SnapshotLine("a" * 64, True, (), 110.0, 20, errors),
                SnapshotLine("", False, ("regression",), 130.0, 40, errors),
            ),
            elements=("H", "C"),
            restarts=(120.0,),
        ),
        requests=(RequestMark(115.0, 1.5, "simulation"),),
        rejections={"net_force": 2},
        rejection_example={"net_force": "the net force is <large>"},
        test=TestFigures(
            file="test.extxyz",
            snapshot_id="a" * 64,
            domains=("water",) * 4,
            energies=np.array([0.1, -0.1, 0.05, -0.05]),
            predicted_energies=np.array([0.11, -0.1, 0.05, -0.04]),
            forces=forces,
            predicted_forces=forces + generator.normal(scale=0.1, size=72),
            forces_disagreement=np.full(72, 0.1),
            forces_uncertainty=np.full(72, 0.2),
            component_structure=np.repeat(np.arange(4), 18),
        ),
        config='{"name": "</pre>"}',
    )


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(figures: ReportFigures):
    page = render(figures)

    tags = Tags()
    tags.feed(page)
    assert tags.unbalanced == []
    assert tags.open == []
    assert tags.addresses == []
    assert not re.search(r"https?://|@import|url\(|<script", page)


def test_texts_from_the_stream_are_escaped(figures: ReportFigures):
    page = render(figures)

    assert "&lt;b&gt;&amp;" in page
    assert "learner &amp; co" in page
    assert "&lt;large&gt;" in page
    assert "{&quot;name&quot;: &quot;&lt;/pre&gt;&quot;}" in page


def test_every_section_stands_on_the_page(figures: ReportFigures):
    titles = re.findall(r"<h2>(.*?)</h2>", render(figures))

    assert titles == [
        "Learning curve",
        "Domains",
        "Parity",
        "Calibration",
        "Timeline",
        "Refused records",
        "Configuration",
    ]


def test_without_a_test_file_parity_and_calibration_are_left_out(figures: ReportFigures):
    titles = re.findall(r"<h2>(.*?)</h2>", render(replace(figures, test=None)))

    assert "Parity" not in titles
    assert "Calibration" not in titles


def test_a_learner_that_could_not_predict_anything_yet_has_a_page(figures: ReportFigures):
    blind = arrival(0, energy_error=None, force_squared_error=None, n_force_components=0)
    history = History(ticks=(Tick(0, 100.0, 1, 1, 0, 0, 3),), arrivals=(blind,))

    assert "<svg" in render(replace(figures, history=history, requests=(), test=None))


def test_errors_drawn_from_the_promised_distribution_fill_the_promised_share():
    sigma = np.full(20_000, 0.3)
    levels = promised_levels(np.random.default_rng(1).normal(scale=0.3, size=20_000), sigma)

    for share in (0.1, 0.5, 0.9):
        assert np.mean(levels <= share) == pytest.approx(share, abs=0.02)


def test_binned_errors_rise_where_disagreement_tells():
    sigma = np.linspace(0.01, 1.0, 500)
    points = binned_errors(np.random.default_rng(2).normal(size=500) * sigma, sigma)

    assert len(points) == 10
    assert points[-1][1] > 3 * points[0][1]
    assert binned_errors(sigma, np.zeros(500)) == []


def test_errors_by_domain_are_those_of_its_structures_and_components(figures: ReportFigures):
    test = replace(figures.test, domains=("a", "a", "b", "b"))

    by_domain = test.errors_by_domain()

    assert by_domain["a"][0] == pytest.approx(0.01 / 2**0.5)
    errors = (test.predicted_forces - test.forces)[36:]
    assert by_domain["b"][1] == pytest.approx(float(np.sqrt(np.mean(errors**2))))


@pytest.mark.parametrize("n_items", [0, 7, MAX_DOTS, MAX_DOTS + 1, 10 * MAX_DOTS + 3])
def test_a_long_stream_is_thinned_to_a_page_of_dots(n_items: int):
    shown = thinned(range(n_items))

    assert len(shown) <= MAX_DOTS
    assert list(shown) == sorted(shown)
    assert len(shown) >= min(n_items, MAX_DOTS // 2)
