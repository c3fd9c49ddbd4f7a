"""`bench requests`: interpolation, ratios, and one small run from files to the table."""

import json
from math import inf

import pytest

from lmlp_stream.cli.bench.requests.figures import labels_for, needed
from lmlp_stream.cli.bench.requests.run import Point, Rule
from lmlp_stream.config import Config
from tests.unit.cli.test_bench_coverage import files  # noqa: F401 - a fixture
from tests.unit.cli.test_bench_verbs import run

SMALL = [
    part
    for setting in (
        "potential.members=2",
        "potential.hidden=[4]",
        "potential.linear_features=8",
        "learning.steps_per_record=0.5",
        "symmetry.preset=published",
    )
    for part in ("--set", setting)
]


def curve(*points: tuple[int, float]) -> list[Point]:
    return [Point(labels, force_rmse, 1.0) for labels, force_rmse in points]


def test_labels_between_two_examinations_are_interpolated_in_logarithms():
    found = curve((100, 400.0), (400, 100.0))
    assert labels_for(found, 200.0) == pytest.approx(200.0)
    assert labels_for(found, 500.0) == 100.0
    assert labels_for(found, 99.0) == inf


def test_a_ratio_is_the_median_over_seeds_and_unknown_where_it_was_not_reached():
    random = {seed: curve((100, 400.0), (200, 100.0)) for seed in range(3)}
    asked = {0: curve((50, 400.0), (100, 100.0)), 1: curve((25, 400.0), (50, 150.0)), 2: curve((75, 400.0))}
    first, last = needed({Rule.RANDOM: random, Rule.ATOM: asked}, Rule.ATOM)
    assert (first["random_labels"], first["labels"], first["ratio"]) == (100, 50, 0.5)
    assert last["ratio"] is None


def test_both_arms_learn_from_the_same_pool(monkeypatch, capsys, files, tmp_path):  # noqa: F811 - a fixture
    options = [
        *SMALL,
        "--labels",
        16,
        "--start",
        4,
        "--candidates",
        8,
        "--asked",
        4,
        "--every",
        4,
        "--rules",
        "atom,excess,forces",
    ]
    out = tmp_path / "requests.json"
    files_of = ("--train", files[0], "--test", files[0])
    assert run(monkeypatch, "bench", "requests", *files_of, *options, "--seeds", "0", "--out", out, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    random = told["curves"]["random"]["0"]
    assert [point["labels"] for point in random] == [4, 8, 12, 16]
    for rule in ("atom", "excess", "forces"):
        asked = told["curves"][rule]["0"]
        assert asked[0] == random[0]
        assert all(point["force_rmse"] > random[-1]["force_rmse"] for point in asked[:-1])
    assert json.loads(out.read_text())["curves"] == told["curves"]


def test_few_labels_are_examined_at_the_end(monkeypatch, capsys, files):  # noqa: F811 - a fixture
    few = ("--labels", 16, "--start", 8, "--candidates", 8, "--asked", 4, "--seeds", "0", "--json")
    assert run(monkeypatch, "bench", "requests", "--train", files[0], "--test", files[0], *SMALL, *few) == 0
    told = json.loads(capsys.readouterr().out)
    assert [[point["labels"] for point in by_seed["0"]] for by_seed in told["curves"].values()] == [[16], [16]]


def test_an_element_that_the_pool_lacks_is_a_usage_error(monkeypatch, capsys, files):  # noqa: F811 - a fixture
    few = ("--labels", 8, "--start", 8, "--seeds", "0")
    assert run(monkeypatch, "bench", "requests", "--train", files[0], "--test", files[1], *SMALL, *few) == 2
    assert "is unknown after --labels 8" in " ".join(capsys.readouterr().err.split())


def test_an_unknown_rule_is_a_usage_error(monkeypatch, capsys, files):  # noqa: F811 - a fixture
    arguments = ("bench", "requests", "--train", files[0], "--test", files[0], "--rules", "guess")
    assert run(monkeypatch, *arguments) == 2
    assert "guess" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--labels", 30, "--start", 100), "--start 100 is more than --labels 30"),
        (("--asked", 32, "--candidates", 8), "--asked 32 is more than --candidates 8"),
        (("--out", "missing/requests.json"), "missing/requests.json cannot be made"),
        (("--out", "."), ". cannot be made"),
        (("--set", "seed=3"), "--set 'seed=3': the bench chooses seed itself"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(monkeypatch, capsys, tmp_path, options, said):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "bench", "requests", "--train", "none.xyz", "--test", "none.xyz", *options) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}; ")


@pytest.mark.parametrize(("said", "share"), [((), 0.0), (("--set", "rehearsal.holdout_share=0.05"), 0.05)])
def test_nothing_is_held_out_unless_it_is_said(monkeypatch, files, said, share):  # noqa: F811 - a fixture
    shares = []

    def learned(_: object, __: object, config: Config, *___: object, **____: object) -> list[Point]:
        shares.append(config.rehearsal.holdout_share)
        return curve((100, 400.0))

    monkeypatch.setattr("lmlp_stream.cli.bench.requests.run.learning_curve", learned)
    files_of = ("--train", files[0], "--test", files[0])
    assert run(monkeypatch, "bench", "requests", *files_of, "--seeds", "0", *said) == 0
    assert shares == [share, share]
