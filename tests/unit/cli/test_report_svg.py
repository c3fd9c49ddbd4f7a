from xml.etree import ElementTree

import pytest

from lmlp_stream.cli.report.svg import Plot, Scale, fitted, format_number, sparkline


def test_a_linear_scale_places_values_evenly_and_keeps_them_inside():
    scale = Scale(0.0, 10.0, "x")

    assert [scale.share(value) for value in (-5.0, 0.0, 2.5, 10.0, 99.0)] == [0.0, 0.0, 0.25, 1.0, 1.0]


def test_a_logarithmic_scale_gives_equal_lengths_to_equal_ratios():
    scale = Scale(0.1, 10.0, "x", logarithmic=True)

    assert scale.share(1.0) == pytest.approx(0.5)
    assert scale.ticks() == pytest.approx([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-120.0, 137.0), (0.0, 767.0), (3.0, 3.001)])
def test_linear_ticks_are_inside_and_neither_few_nor_many(low: float, high: float):
    ticks = Scale(low, high, "x").ticks()

    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    assert 3 <= len(ticks) <= 8


def test_a_fitted_scale_shows_every_value_even_a_single_one_or_none():
    assert fitted([3.0], "x").low < 3.0 < fitted([3.0], "x").high
    assert fitted([], "x").low < fitted([], "x").high
    scale = fitted([float("nan"), -1.0, 0.5, 2.0], "x", logarithmic=True)
    assert 0.0 < scale.low < 0.5
    assert scale.high > 2.0


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.05, "0.05"), (1500.0, "1,500"), (0.00012, "1e-04"), (-2.5, "-2.5")]
)
def test_numbers_are_short(value: float, text: str):
    assert format_number(value) == text


def test_a_plot_is_one_well_formed_element_whatever_its_texts_say():
    plot = Plot(Scale(0.0, 1.0, "a < b & c"), Scale(0.0, 1.0, "y"), 'the "title"')
    plot.line([(0.0, 0.0), (1.0, 1.0)], "first")
    plot.dots([(0.5, 0.5)], "second", titles=["<script>"])
    plot.rule(0.3, "snapshot", title="here & now")

    drawn = ElementTree.fromstring(plot.render())

    assert drawn.tag == "svg"
    assert [mark.tag for mark in drawn.iter("polyline")] == ["polyline"]
    assert [mark.find("title").text for mark in drawn.iter("circle")] == ["<script>"]


def test_a_sparkline_needs_two_values():
    assert sparkline([1.0]) == ""
    assert len(ElementTree.fromstring(sparkline([1.0, 0.5, 0.2])).find("polyline").get("points").split()) == 3
