import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from lmlp_stream.cli.report.figures import ReportFigures, RequestMark, TestFigures
from lmlp_stream.cli.report.history import Arrival, History, SnapshotLine, Tick, VerdictLine
from lmlp_stream.cli.report.page import render
from lmlp_stream.cli.report.plots import MAX_DOTS, binned_errors, promised_levels, thinned
from lmlp_stream.cli.report.standing import MAX_PARTS, MAX_STAGES


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


def by_part(domain: str, force_rmse: float) -> dict[str, dict[str, dict[str, float]]]:
    forces = {"n_structures": 12.0, "force_rmse_ev_per_angstrom": force_rmse}
    both = {**forces, "energy_rmse_ev_per_atom": 0.02}
    return {"domains": {domain: both}, "sources": {"farm": both}, "elements": {"H": forces}}


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
                SnapshotLine("", False, ("regression",), 130.0, 40, errors, by_part("<i>&", 0.5), by_part("old", 0.25)),
            ),
            elements=("H", "C"),
            restarts=(120.0,),
            verdicts=(VerdictLine(20, "early", "few labels"), VerdictLine(40, "improving", "errors <fell>")),
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
        "Verdict",
        "Learning curve",
        "Domains",
        "New labels and hold-out",
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


def test_the_page_says_of_which_test_structures_the_learner_knows(figures: ReportFigures):
    page = render(figures)
    assert "on 4 structures of <code>test.extxyz</code>. None of them came to be learned, digit for digit.</p>" in page

    page = render(replace(figures, test=replace(figures.test, n_learned=60, n_held_out=3, n_uncompared=1)))
    assert (
        "None of them is known to have come to be learned, digit for digit. Left out: 60 structures that did. Held out "
        "by the learner: 3 of them. Not compared: 1 label whose ids are no hashes or are not recorded.</p>"
    ) in page


def test_the_verdict_stands_with_its_evidence_and_its_course(figures: ReportFigures):
    page = render(figures)

    assert '<p class="verdict improving"><b>improving</b> Errors &lt;fell&gt;.</p>' in page
    stages = re.findall(r'<span class="(\w+)" style="flex-grow: (\d+)" title="labels (\d+) to (\d+)', page)
    assert stages == [("early", "20", "1", "20"), ("improving", "20", "21", "40")]


def test_a_long_course_of_verdicts_is_thinned_and_covers_every_label(figures: ReportFigures):
    lines = tuple(VerdictLine(index, ("improving", "drifting")[index // 3 % 2], "why") for index in range(1, 2001))
    arrivals = tuple(arrival(index) for index in range(2000))
    page = render(replace(figures, history=replace(figures.history, arrivals=arrivals, verdicts=lines)))

    stages = re.findall(r'style="flex-grow: (\d+)"', page)
    assert 10 < len(stages) <= MAX_STAGES + 1
    assert sum(map(int, stages)) == 2000


def test_a_history_of_an_older_learner_has_no_verdict(figures: ReportFigures):
    history = replace(figures.history, verdicts=(VerdictLine(20, "", ""),), snapshots=())

    assert re.findall(r"<h2>(.*?)</h2>", render(replace(figures, history=history)))[:2] == ["Learning curve", "Domains"]


def test_errors_of_parts_stand_on_new_labels_and_on_the_hold_out(figures: ReportFigures):
    page = render(figures)
    rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]

    assert ["&lt;i&gt;&amp;", "12", "0.500", "20.0", "–", "–", "–"] in rows
    assert ["old", "–", "–", "–", "12", "0.250", "20.0"] in rows
    assert ["farm", "12", "0.500", "20.0", "12", "0.250", "20.0"] in rows
    assert ["H", "12", "0.500", "12", "0.250"] in rows


def test_of_many_parts_the_table_says_how_many_it_leaves_out(figures: ReportFigures):
    domains = {f"d{index}": {"n_structures": 1.0} for index in range(MAX_PARTS + 3)}
    last = replace(figures.history.snapshots[-1], newest={"domains": domains}, held_out={})
    page = render(replace(figures, history=replace(figures.history, snapshots=(last,))))

    assert "3 more" in page
    assert page.count("<td>d") == MAX_PARTS


def test_of_many_parts_those_of_the_largest_force_errors_are_shown_by_name(figures: ReportFigures):
    domains = {f"d{index:02d}": {"force_rmse_ev_per_angstrom": 0.01 * index} for index in range(MAX_PARTS + 3)}
    held_out = {"domains": {"d00": {"force_rmse_ev_per_angstrom": 9.0}}}
    last = replace(figures.history.snapshots[-1], newest={"domains": domains}, held_out=held_out)
    page = render(replace(figures, history=replace(figures.history, snapshots=(last,))))

    assert re.findall(r"<td>(d\d\d)", page) == ["d00", *(f"d{index:02d}" for index in range(4, MAX_PARTS + 3))]


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


def test_energies_that_are_not_determined_are_counted_and_left_out(figures: ReportFigures):
    test = replace(figures.test, domains=("a", "a", "b", "b"), energies=np.array([0.1, np.nan, np.nan, np.nan]))

    assert test.energy_rmse == pytest.approx(0.01)
    assert [energy for energy, _ in test.errors_by_domain().values()] == [pytest.approx(0.01), None]
    assert "RMSE 10.0 meV/atom; without 3 structures of compositions" in render(replace(figures, test=test))
    assert "RMSE – meV/atom" in render(replace(figures, test=replace(test, energies=np.full(4, np.nan))))


@pytest.mark.parametrize("n_items", [0, 7, MAX_DOTS, MAX_DOTS + 1, 10 * MAX_DOTS + 3])
def test_a_long_stream_is_thinned_to_a_page_of_dots(n_items: int):
    shown = thinned(range(n_items))

    assert len(shown) <= MAX_DOTS
    assert list(shown) == sorted(shown)
    assert len(shown) >= min(n_items, MAX_DOTS // 2)


def test_it_says_which_labels_are_not_examined(figures: ReportFigures):
    page = render(replace(figures, further_levels=("GFN1-xTB", "<PBE>")))
    assert "beside GFN1-xTB, &lt;PBE&gt;, whose labels are learned and not examined" in page
    assert "not examined" not in render(figures)
