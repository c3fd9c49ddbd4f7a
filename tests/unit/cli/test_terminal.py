"""Figures as a person or a program reads them."""

import json
from math import inf, nan

from lmlp_stream.cli.terminal import LONG, answer, listed


def test_figures_stand_under_each_other_with_four_digits():
    assert listed({"a": 0.123456, "name": "water"}) == "a     0.1235\nname  water"


def test_times_are_dates_and_never_where_there_is_none():
    assert listed({"created_at": 1796000000.25, "told_at": 0.0}).splitlines() == [
        "created_at  2026-11-30T00:53:20+00:00",
        "told_at     never",
    ]


def test_what_is_long_is_counted():
    assert listed({"positions": list(range(LONG))}) == f"positions  {LONG} entries; --json prints them"


def test_what_is_not_finite_is_null_in_json(capsys):
    answer("", {"name": "Å", "rmse": nan, "by_seed": {0: (1.5, inf), 1: [-inf, {"labels": 2}]}}, as_json=True)
    text = capsys.readouterr().out
    assert json.loads(text) == {"name": "Å", "rmse": None, "by_seed": {"0": [1.5, None], "1": [None, {"labels": 2}]}}
