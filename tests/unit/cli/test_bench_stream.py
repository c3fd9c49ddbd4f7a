"""`bench stream`: how a stream is cut, what its figures mean, and that finished runs are kept."""

import json
import sys
from dataclasses import replace
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from lmlp_stream.atoms.structure import to_ase
from lmlp_stream.cli.bench.stream.arms import chosen_arms
from lmlp_stream.cli.bench.stream.bench import bench_stream
from lmlp_stream.cli.bench.stream.domains import Cut, Domain, read_domains
from lmlp_stream.cli.bench.stream.errors import SquaredErrors, pooled
from lmlp_stream.cli.bench.stream.figures import accuracies, ended, labels_until_near, run_figures
from lmlp_stream.cli.bench.stream.plots import draw_curves, draw_matrix
from lmlp_stream.cli.bench.stream.run import Moment, Quarter, Run, run_stream, run_together
from lmlp_stream.cli.bench.stream.table import MOST_DOMAINS, report
from lmlp_stream.cli.main import main
from lmlp_stream.config import Config, parse_config
from lmlp_stream.errors import UsageError
from tests.unit.learning.structures import AMMONIA, METHANE, WATER, labelled

TINY = {
    "symmetry": {"preset": "published", "cutoff": 4.0},
    "potential": {"members": 2, "hidden": (4,), "linear_features": 8, "device": "cpu"},
    "learning": {"steps_per_record": 1.0, "records_per_tick": 4},
    "rehearsal": {"holdout_share": 0.0},
}


def tiny() -> Config:
    return parse_config(TINY, place="test")


def atoms_of(index: int, shape: tuple[int, ...], **info: object) -> Atoms:
    atoms = to_ase(labelled(index, shape))
    atoms.info |= {"reaction": str(shape), "window": index // 4, **info}
    return atoms


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Three molecules in turn."""
    path = tmp_path / "mixed.extxyz"
    write(path, [atoms_of(i, shape, xi=float(i % 5)) for i in range(12) for shape in (METHANE, WATER, AMMONIA)])
    return path


def cut(files: list[Path], tests: tuple[Path, ...] = (), **settings: object) -> tuple[Domain, ...]:
    return read_domains(files, tests, Cut(**{"test_share": 0.4, **settings}), lambda: None)


def domains(n: int = 6) -> tuple[Domain, ...]:
    """Water, then methane: an element more."""
    return tuple(
        Domain(str(shape), tuple(labelled(i, shape) for i in range(n)), tuple(labelled(i, shape) for i in (90, 91)))
        for shape in (WATER, METHANE)
    )


def test_a_key_cuts_one_file_into_domains_in_order_of_appearance(mixed: Path):
    found = cut([mixed], by="reaction")
    assert [domain.name for domain in found] == [str(METHANE), str(WATER), str(AMMONIA)]
    assert all(len(domain.learned) + len(domain.tested) == 12 for domain in found)
    with pytest.raises(UsageError, match=r"structure 1 has no info key 'nokey'; name another with --by$"):
        cut([mixed], by="nokey")


def test_no_group_is_both_learned_and_tested(mixed: Path):
    for domain in cut([mixed], by="reaction"):
        assert not {item.group for item in domain.learned} & {item.group for item in domain.tested}


def test_symbols_order_the_domains_by_the_last_element_they_bring(mixed: Path):
    found = cut([mixed], by="reaction", order="O,N,C")
    assert [domain.name for domain in found] == [str(WATER), str(AMMONIA), str(METHANE)]
    with pytest.raises(UsageError, match="'Qq' is no element"):
        cut([mixed], by="reaction", order="O,Qq")


def test_a_shuffled_order_is_always_the_same_one(mixed: Path):
    orders = [[domain.name for domain in cut([mixed], by="reaction", order="shuffled")] for _ in range(2)]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == sorted(map(str, (METHANE, WATER, AMMONIA)))


def test_a_key_sorts_within_a_domain_and_few_are_taken_evenly(tmp_path: Path):
    files = [tmp_path / "learned.extxyz", tmp_path / "tested.extxyz"]
    write(files[0], [atoms_of(i, WATER, xi=float((7 * i) % 11)) for i in range(11)])
    write(files[1], [atoms_of(i, WATER) for i in (50, 51)])
    everything = cut(files[:1], (files[1],), sort="xi")[0]
    few = cut(files[:1], (files[1],), sort="xi", per_domain=3)[0]
    energies = [labelled(i, WATER).energy for i in sorted(range(11), key=lambda i: (7 * i) % 11)]
    assert [item.energy for item in everything.learned] == pytest.approx(energies)
    assert [item.id for item in few.learned] == [everything.learned[place].id for place in (0, 5, 10)]
    assert len(few.tested) == 2
    with pytest.raises(UsageError, match="no number under the info key 'nothing'"):
        cut(files[:1], (files[1],), sort="nothing")


def test_each_file_is_a_domain_with_its_own_test_file(tmp_path: Path):
    paths = [tmp_path / f"{name}.extxyz" for name in ("water", "methane", "water_test", "methane_test")]
    for path, (shape, numbers) in zip(
        paths, ((WATER, (0, 1)), (METHANE, (0, 1)), (WATER, (5,)), (METHANE, (6,))), strict=True
    ):
        write(path, [atoms_of(i, shape) for i in numbers])
    found = cut(paths[:2], tuple(paths[2:]))
    assert [(domain.name, len(domain.learned), len(domain.tested)) for domain in found] == [
        ("water", 2, 1),
        ("methane", 2, 1),
    ]
    with pytest.raises(UsageError, match="1 test files for 2 files"):
        cut(paths[:2], (paths[2],))


def test_files_are_domains_of_their_own_however_alike_their_names_are(tmp_path: Path):
    names = ("a/train.xyz", "b/train.extxyz.xz", "b/MD_300.5K.xyz", "b/MD_300.9K.xyz", "c/x.xyz", "c/x.extxyz")
    paths = [tmp_path / name for name in names]
    for index, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        write(path, [atoms_of(8 * index + i, WATER) for i in (0, 4)], format="extxyz")
    found = cut(paths)
    assert [domain.name for domain in found] == ["a/train", "b/train", "MD_300.5K", "MD_300.9K", "x.xyz", "x.extxyz"]
    for domain, path in zip(found, paths, strict=True):
        assert {item.domain for item in domain.learned} == {domain.name}
        assert len(domain.learned) + len(domain.tested) == 2, path
    again = paths[0].parent / ".." / "a" / "train.xyz"
    for by in ("", "reaction"):
        with pytest.raises(UsageError, match=r"a/train\.xyz is given more than once"):
            cut([*paths, again], by=by)


def test_what_is_tested_in_one_domain_is_learned_in_none(tmp_path: Path):
    paths = [tmp_path / f"{name}.extxyz" for name in ("first", "second", "first_test", "second_test")]
    for path, numbers in zip(paths, (range(8), range(4, 12), (20, 5), (21, 0)), strict=True):
        write(path, [atoms_of(i, WATER) for i in numbers])
    for tests in (tuple(paths[2:]), ()):
        found = cut(paths[:2], tests)
        tested = {item.id for domain in found for item in domain.tested}
        assert not tested & {item.id for domain in found for item in domain.learned}
    assert [len(domain.learned) for domain in cut(paths[:2], tuple(paths[2:]))] == [6, 7]


def test_a_domain_without_test_structures_is_refused(tmp_path: Path):
    path = tmp_path / "one.extxyz"
    write(path, [atoms_of(0, WATER)])
    with pytest.raises(UsageError, match="0 to test on"):
        cut([path])


def test_all_arms_take_the_same_number_of_steps():
    stationary, stream = chosen_arms(["stationary", "stream"], ())
    once = run_stream(domains(), stream.config(tiny(), seed=0, n_labels=12, memory=0.5))
    together = run_together(domains(), stationary.config(tiny(), seed=0, n_labels=12, memory=0.5))
    assert [moment.steps for moment in once.boundaries] == [6, 12]
    assert [moment.steps for moment in together.boundaries] == [6, 12]
    assert [moment.labels for moment in once.boundaries] == [6, 12]


def test_moments_that_never_came_are_the_end_where_labels_wait():
    lonely = tuple(Domain(str(shape), (labelled(0, shape),), (labelled(9, shape),)) for shape in (METHANE, AMMONIA))
    config = chosen_arms(["stationary"], ())[0].config(tiny(), seed=0, n_labels=8, memory=1.0)
    run = run_together((domains()[0], *lonely), config)
    assert run.labels_learned == 6
    assert [moment.steps for moment in run.boundaries] == [6, 6, 6]


def test_an_unknown_element_has_no_errors_until_it_came():
    run = run_stream(domains(), tiny())
    assert [[error is None for error in moment.errors] for moment in run.boundaries] == [[False, True], [False, False]]
    assert run.before[1].errors == (None,)
    assert [moment.labels for moment in run.curves[1]] == [10, 12]


def test_members_are_measured_one_by_one():
    errors = run_stream(domains(), tiny()).boundaries[-1].errors[0]
    assert errors is not None
    assert len(errors.energy) == len(errors.force) == 1 + 2
    assert errors.force[0] <= sum(errors.force[1:]) / 2
    assert (errors.n_energies, errors.n_forces) == (2, 18)


def test_the_arms_remember_what_they_say():
    capacities = {
        arm.name: arm.config(Config(), seed=3, n_labels=200, memory=0.1).rehearsal.capacity
        for arm in chosen_arms(["stationary", "stream", "no-rehearsal", "unlimited"], ())
    }
    assert capacities == {"stationary": 200, "stream": 20, "no-rehearsal": 0, "unlimited": 200}
    varied = chosen_arms([], ["learning.batch_size=4 learning.fresh_share=0.5"])[0]
    assert varied.config(Config(), seed=0, n_labels=9, memory=1.0).learning.batch_size == 4
    with pytest.raises(UsageError, match="no arm 'streem'"):
        chosen_arms(["streem"], ())
    with pytest.raises(UsageError, match="no arm is named"):
        chosen_arms([""], ())


def test_an_ingredient_is_the_stream_without_the_linear_part():
    (alone,) = chosen_arms(["no-linear-part"], ())
    config = alone.config(tiny(), seed=0, n_labels=12, memory=0.5)
    assert (config.potential.linear_features, config.rehearsal.capacity) == (0, 6)
    assert run_stream(domains(), config).boundaries[-1].steps == 12


def errors(force: float) -> SquaredErrors:
    """One structure with these force errors, meV/Å."""
    return SquaredErrors((1e-6, 1e-6), 1, (force**2 * 1e-6, force**2 * 1e-6), 1)


def moment(labels: int, *forces: float | None) -> Moment:
    return Moment(labels, 2 * labels, 0.5 * labels, tuple(None if f is None else errors(f) for f in forces))


def test_forgetting_transfer_and_labels_follow_from_the_moments():
    run = Run(
        label_force_rms=(200.0, 400.0),
        before=(moment(0, None), moment(10, 300.0)),
        curves=((moment(4, 250.0), moment(10, 190.0)), (moment(14, 140.0), moment(20, 100.0))),
        boundaries=(moment(10, 80.0, 300.0), moment(20, 120.0, 100.0)),
        quarters=(Quarter(10, 20, 4.0, 1.0, 50.0), Quarter(10, 20, 8.0, 1.0, 60.0)),
        labels_learned=19,
    )
    figures = run_figures(run, newcomers=[1])
    assert figures["forgetting"] == figures["forgetting_first_third"] == pytest.approx(0.5)
    assert figures["backward_transfer"] == pytest.approx(120 - 80)
    assert figures["forward_transfer"] == pytest.approx(1 - 300 / 400)
    assert figures["labels_until_near"] == pytest.approx((10 + 4) / 2), "the first from the moment after its domain"
    assert figures["labels_until_near_new_element"] == pytest.approx(4)
    assert labels_until_near({0: run}) == [10, 4]
    assert (figures["labels"], figures["labels_learned"]) == (20, 19)
    assert figures["ensemble_force_rmse_mev_per_angstrom"] == pytest.approx(((120**2 + 100**2) / 2) ** 0.5)
    assert figures["cpu_ms_per_label_last_quarter"] == pytest.approx(2 * figures["cpu_ms_per_label_first_quarter"])


def test_what_an_accuracy_cost_is_what_was_spent_when_it_was_first_seen():
    run = Run(
        label_force_rms=(200.0,),
        before=(moment(0, None),),
        curves=((),),
        boundaries=(moment(10, None), moment(20, 400.0), moment(30, 90.0), moment(40, 100.0)),
        quarters=(Quarter(40, 80, 4.0, 1.0, 50.0),),
        labels_learned=40,
    )
    assert ended({0: run, 1: replace(run, boundaries=run.boundaries[:3]), 2: run}) == pytest.approx(100.0)
    found = accuracies(run, 50.0)
    assert [(one["factor"], one["force_rmse_mev_per_angstrom"]) for one in found] == [
        (4.0, 200.0),
        (2.0, 100.0),
        (1.5, 75.0),
        (1.25, 62.5),
    ]
    assert [(one["labels"], one["steps"], one["cpu_s"]) for one in found[1:3]] == [(30, 60, 15.0), (inf, inf, inf)]
    assert accuracies(run, 101.0)[0]["labels"] == 20, "not the first in which an element is unknown"
    assert {one["labels"] for one in accuracies(run, nan)} == {inf}


def test_the_report_shows_what_accuracies_cost_and_the_errors_on_each_domain_after_each():
    cost = {"factor": 2.0, "force_rmse_mev_per_angstrom": 84.0}
    spent = [{**cost, "labels": n, "steps": 2 * n, "cpu_s": 0.25 * n} for n in (8, 24, 16)]
    never = [{**cost, "labels": inf, "steps": inf, "cpu_s": inf}] * 2
    arms = {
        "first": {"accuracies": {seed: [one] for seed, one in enumerate(spent)}},
        "second": {"accuracies": {seed: [one] for seed, one in enumerate([*never, spent[0]])}},
    }
    arms["first"]["force_rmse_matrix_mev_per_angstrom"] = [[1.0, nan], [3.0, 4.0]]
    arms["second"]["force_rmse_matrix_mev_per_angstrom"] = [[5.0, 6.0], [7.0, 8.0]]

    said = report({"arms": arms, "domains": [{"name": "water"}, {"name": "methane"}]})
    assert "|            |         first |    second |\n|" in said
    assert "\n| 2 × = 84.0 | 16 / 32 / 4.0 | – / – / – |\n" in said
    assert "\n| water   |   1.0 |       – |\n| methane |   3.0 |     4.0 |\n" in said
    assert "\n| water   |   5.0 |     6.0 |\n| methane |   7.0 |     8.0 |\n" in said
    assert "(column)" not in report({"arms": arms, "domains": [{"name": "one"}] * (MOST_DOMAINS + 1)})


def test_backward_transfer_is_a_mean_over_domains_whose_errors_are_known_twice():
    run = Run(
        label_force_rms=(200.0,) * 4,
        before=(moment(0, None),) * 4,
        curves=((),) * 4,
        boundaries=(
            moment(10, 80.0, None, None, None),
            moment(20, 10.0, 50.0, None, None),
            moment(30, 10.0, 10.0, None, None),
            moment(40, 90.0, 20.0, 70.0, 60.0),
        ),
        quarters=(Quarter(40, 80, 4.0, 1.0, 50.0),),
        labels_learned=40,
    )
    assert run_figures(run, newcomers=[])["backward_transfer"] == pytest.approx(((90 - 80) + (20 - 50)) / 2)
    assert isnan(run_figures(replace(run, boundaries=run.boundaries[:1]), newcomers=[])["backward_transfer"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("force", [0.0, nan])
def test_a_domain_tested_on_zero_forces_or_on_none_has_the_figures_that_are_known(tmp_path: Path, force: float):
    water, methane = domains()
    tested = tuple(replace(item, forces=np.full_like(item.forces, force)) for item in methane.tested)
    run = run_stream((water, replace(methane, tested=tested)), tiny())
    figures = run_figures(run, newcomers=[1])
    assert isnan(figures["forward_transfer"])
    assert figures["labels_until_near"] > 0
    assert isnan(figures["labels_until_near_new_element"]) == isnan(force)
    draw_curves(tmp_path / "curves.svg", {"stream": {0: run}})
    draw_matrix(tmp_path / "matrix.svg", "stream", {0: run}, ["water", "methane"])


def test_nothing_is_divided_by_errors_of_zero(tmp_path: Path):
    exact = Run(
        label_force_rms=(0.0, nan),
        before=(moment(0, 10.0), moment(10, nan)),
        curves=((moment(10, 0.0),), (moment(20, nan),)),
        boundaries=(moment(10, 0.0, nan), moment(20, 0.0, nan)),
        quarters=(Quarter(20, 40, 4.0, 1.0, 50.0),),
        labels_learned=20,
    )
    figures = run_figures(exact, newcomers=[])
    assert isnan(figures["forgetting"])
    assert isnan(figures["forward_transfer"])
    assert figures["labels_until_near"] == 10
    draw_matrix(tmp_path / "matrix.svg", "exact", {0: exact}, ["water", "methane"])


def test_what_is_unknown_of_one_is_unknown_of_all():
    assert pooled([errors(3.0), None]) is None
    both = pooled([errors(3.0), errors(5.0)])
    assert both is not None
    assert both.force_rmse == pytest.approx((17.0) ** 0.5)
    no_energies = pooled([errors(3.0), SquaredErrors((), 1, (1.0, 1.0), 1)])
    assert no_energies is not None
    assert isnan(no_energies.named("ensemble")["energy_rmse_mev_per_atom"])


def run_verb(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lmlp-stream", "bench", "stream", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_the_verb_writes_json_table_and_pictures_and_keeps_finished_runs(monkeypatch, capsys, tmp_path, mixed: Path):
    settings = [
        "potential.members=1",
        "potential.hidden=[4]",
        "potential.linear_features=8",
        "symmetry.preset=published",
        "learning.steps_per_record=1",
    ]
    options = [mixed, "--by", "reaction", "--test-share", 0.4, "--arms", "stationary,stream", "--seeds", "0"]
    options += ["--out", tmp_path / "out", "--json", *(word for text in settings for word in ("--set", text))]

    assert run_verb(monkeypatch, *options) == 0
    figures = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert json.loads((tmp_path / "out" / "stream.json").read_text(), parse_constant=pytest.fail) == figures
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").iterdir()}
    assert run_verb(monkeypatch, *options) == 0

    assert json.loads(capsys.readouterr().out) == figures
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert len(finished) == 2
    stream = figures["arms"]["stream"]
    assert stream["ensemble_force_rmse_mev_per_angstrom_to_stationary"]["median"] > 0
    assert len(stream["force_rmse_matrix_mev_per_angstrom"]) == 3
    assert sum(quarter["labels"] for quarter in stream["quarters"]["0"]) == 24
    table = (tmp_path / "out" / "stream.md").read_text()
    titles = ("steps to 1.5 ×", "CPU s to 1.5 ×", "peak memory MB")
    assert all(f"\n| {title} " in table for title in titles)
    assert "multiple of that of stationary at the end" in table
    assert "Force RMSE of stream on each domain (column) after each (row)" in table
    for costs in figures["arms"]["stationary"]["accuracies"].values():
        assert [cost["labels"] for cost in costs] == [24] * 4
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"runs", "stream.json", "stream.md", "curves.svg", "matrix-0.svg", "matrix-1.svg"}


@pytest.mark.parametrize(("said", "share"), [((), 0.0), (("--set", "rehearsal.holdout_share=0.05"), 0.05)])
def test_nothing_is_held_out_unless_it_is_said(monkeypatch, tmp_path, mixed: Path, said: tuple[str, ...], share: float):
    shares = []
    complete = tmp_path / "complete.toml"
    complete.write_text("[rehearsal]\nholdout_share = 0.3\n")

    def bench(*about: Any, **_: object) -> dict[str, Any]:
        _, config, arms = about
        shares.extend(arm.config(config, seed=0, n_labels=9, memory=1.0).rehearsal.holdout_share for arm in arms)
        return {"arms": {}}

    monkeypatch.setattr("lmlp_stream.cli.bench.stream.bench.bench_stream", bench)
    varied = ("--vary", "rehearsal.holdout_share=0.2")
    assert (
        run_verb(
            monkeypatch,
            mixed,
            "--by",
            "reaction",
            "--test-share",
            0.4,
            "--arms",
            "stream",
            "--config",
            complete,
            *varied,
            *said,
        )
        == 0
    )
    assert shares == [share, 0.2]


@pytest.mark.parametrize(
    ("setting", "option"),
    [("seed=5", "--seeds"), ("rehearsal.capacity=7", "--memory")],
)
def test_what_an_option_says_is_no_setting(monkeypatch, capsys, mixed: Path, setting: str, option: str):
    assert run_verb(monkeypatch, mixed, "--set", setting) == 2
    assert capsys.readouterr().err.endswith(f"itself; use {option} instead\n")


def test_a_finished_run_without_force_labels_is_read_back(tmp_path: Path):
    water, methane = domains()
    tested = tuple(replace(item, forces=np.full_like(item.forces, nan)) for item in methane.tested)
    stream = (water, replace(methane, tested=tested))
    arms, done = chosen_arms(["stream"], ()), []
    for _ in range(2):
        bench_stream(
            stream, tiny(), arms, seeds=[0], memory=1.0, processes=1, out=tmp_path, advance=lambda: done.append(1)
        )
    (path,) = (tmp_path / "runs").iterdir()
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["label_force_rms"][1] is None
    told = json.loads((tmp_path / "stream.json").read_text(), parse_constant=pytest.fail)
    assert told["arms"]["stream"]["seeds"]["0"]["ensemble_force_rmse_mev_per_angstrom"] > 0
    assert len(done) == 2


def test_seeds_are_numbers(monkeypatch, capsys, mixed: Path):
    assert run_verb(monkeypatch, mixed, "--seeds", "a,b") == 2
    assert "--seeds 'a,b'" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_file_where_a_folder_is_wanted_is_a_usage_error(monkeypatch, capsys, tmp_path, mixed: Path, out: str):
    (tmp_path / "file").touch()
    assert run_verb(monkeypatch, mixed, "--by", "reaction", "--test-share", 0.4, "--out", tmp_path / out) == 2
    assert f"error: cannot make {tmp_path / out}/runs: Not a directory; " in capsys.readouterr().err
