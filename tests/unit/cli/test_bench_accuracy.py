import json
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import write

from lmlp_stream.cli.bench.accuracy import LEAST_STEPS, errors, prepare
from lmlp_stream.cli.bench.data_sets import DataSet, atomic_energies, read_list, variations
from lmlp_stream.cli.main import main
from lmlp_stream.errors import UsageError
from lmlp_stream.learning.learner import Learner

SMALL = (
    "potential.members=2",
    "potential.hidden=[8]",
    "potential.linear_features=8",
    "symmetry.preset=published",
    "learning.batch_size=4",
)


def waters(path: Path, n_structures: int, *, seed: int) -> Path:
    random, structures = np.random.default_rng(seed), []
    for _ in range(n_structures):
        atoms = Atoms("OHH", [[0.0, 0.0, 0.0], [0.0, 0.76, 0.59], [0.0, -0.76, 0.59]])
        atoms.positions += random.normal(scale=0.05, size=(3, 3))
        atoms.calc = EMT()
        atoms.get_forces()
        structures.append(atoms)
    write(path, structures)
    return path


@pytest.fixture
def train(tmp_path: Path) -> Path:
    return waters(tmp_path / "train.extxyz", 30, seed=0)


@pytest.fixture
def test(tmp_path: Path) -> Path:
    return waters(tmp_path / "test.extxyz", 7, seed=1)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    chosen = [word for setting in SMALL for word in ("--set", setting)]
    monkeypatch.setattr(sys, "argv", ["lmlp-stream", "bench", "accuracy", *map(str, arguments), *chosen])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_every_label_is_learned_in_as_many_steps_as_asked(train: Path, test: Path):
    prepared = prepare(DataSet(name="water", train=train, test=test), None, SMALL, (), 7)
    learner = Learner(prepared.config)
    learner.process_tick(prepared.train)
    assert (learner.labels_learned, learner.n_steps) == (30, 7)


@pytest.mark.parametrize(("bought", "steps"), [(1.5, LEAST_STEPS), (1000.5, 30_015)])
def test_without_a_number_the_labels_buy_their_steps_but_few_labels_get_enough(
    train: Path, test: Path, bought: float, steps: int
):
    settings = (f"learning.steps_per_record={bought}",)
    assert prepare(DataSet(name="water", train=train, test=test), None, settings, ()).n_steps == steps


def test_whole_groups_are_held_out_where_there_is_no_test_file(tmp_path: Path):
    train = waters(tmp_path / "many.extxyz", 100, seed=0)
    prepared = prepare(DataSet(name="water", train=train, hold_out=0.5), None, SMALL, (), 1)
    learned, held = ({structure.group for structure in part} for part in (prepared.train, prepared.test))
    assert learned
    assert held
    assert not learned & held


def test_errors_of_the_ensemble_do_not_exceed_those_of_its_members(train: Path, test: Path):
    prepared = prepare(DataSet(name="water", train=train, test=test), None, SMALL, (), 3)
    learner = Learner(prepared.config)
    learner.process_tick(prepared.train)
    figures = errors(learner.ensemble, prepared.test)
    for name in ("energy_rmse_mev_per_atom", "energy_rmse_mev", "force_rmse_mev_per_angstrom"):
        assert 0 < figures[name] < figures[f"member_{name}"]
    assert figures["energy_rmse_mev"] == pytest.approx(3 * figures["energy_rmse_mev_per_atom"])


def test_steps_lower_the_errors_and_both_tables_say_so(monkeypatch, capsys, tmp_path: Path, train: Path, test: Path):
    stem, sets = tmp_path / "results" / "water", tmp_path / "sets.toml"
    files = f'train = "{train}"\ntest = "{test}"\n'
    sets.write_text("".join(f'[[set]]\nname = "{steps}"\nsteps = {steps}\n{files}' for steps in (3, 600)))

    varied = ("--vary", "learning.energy_weight=5,10", "--output", stem, "--json")
    assert run(monkeypatch, "--sets", sets, *varied) == 0

    rows = json.loads(capsys.readouterr().out)["runs"]
    assert rows == json.loads(stem.with_name("water.json").read_text())
    assert [row["steps"] for row in rows] == [3, 3, 600, 600]
    assert [row["settings"] for row in rows] == [["learning.energy_weight=5"], ["learning.energy_weight=10"]] * 2
    rows = rows[1::2]
    few, many = (row["test"]["force_rmse_mev_per_angstrom"] for row in rows)
    assert many < few
    table = stem.with_name("water.md").read_text().splitlines()
    assert [line.count("|") for line in table[2:]] == [17] * 6
    assert f"{many:.3g} / " in table[-1]


def test_a_list_names_its_sets_and_only_some_are_taken(monkeypatch, capsys, tmp_path: Path, train: Path, test: Path):
    sets = tmp_path / "sets.toml"
    sets.write_text(
        f'[[set]]\nname = "first"\ntrain = "{train}"\ntest = "{test}"\nsteps = 2\n'
        f'[[set]]\nname = "second"\ntrain = "{train}"\ntest = "{test}"\nsteps = 3\n'
    )
    assert run(monkeypatch, "--sets", sets, "--only", "second", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert (row["set"], row["steps"]) == ("second", 3)


def test_a_name_that_no_set_has_is_named_with_those_that_are_known(monkeypatch, capsys, train: Path):
    assert run(monkeypatch, "--train", train, "--only", train.name, "--only", "typo") == 2
    assert "--only typo: no such data set; these are: train.extxyz" in capsys.readouterr().err


def test_nothing_to_measure_is_a_usage_error(monkeypatch, capsys):
    assert run(monkeypatch) == 2
    assert "--train" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0, 2, -1, "nan"])
def test_a_hold_out_that_is_no_share_is_a_usage_error(monkeypatch, capsys, train: Path, share: object):
    assert run(monkeypatch, "--train", train, "--hold-out", share) == 2
    assert "of train.extxyz is not a share between 0 and 1" in capsys.readouterr().err


def test_a_hold_out_of_a_list_that_is_no_share_is_refused_with_its_set(tmp_path: Path):
    path = tmp_path / "sets.toml"
    path.write_text('[[set]]\nname = "water"\ntrain = "b"\nhold_out = 1.0\n')
    with pytest.raises(UsageError, match=r"hold-out 1\.0 of water"):
        read_list(path)


@pytest.mark.parametrize("text", ['[[set]]\nname = "a"\n', '[[set]]\nname = "a"\ntrain = "b"\nepochs = 3\n', "[[set"])
def test_a_wrong_list_is_refused_with_its_name(tmp_path: Path, text: str):
    path = tmp_path / "sets.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"sets\.toml"):
        read_list(path)


def test_variations_are_every_combination_of_toml_values_or_words():
    assert list(variations(())) == [()]
    assert list(variations(["a.b=[1, 2],[3]", "c.d=x,y"])) == [
        ("a.b=[1, 2]", "c.d=x"),
        ("a.b=[1, 2]", "c.d=y"),
        ("a.b=[3]", "c.d=x"),
        ("a.b=[3]", "c.d=y"),
    ]
    with pytest.raises(UsageError, match="a\\.b"):
        list(variations(["a.b"]))


def test_atomic_energies_come_from_isolated_atoms_or_json(tmp_path: Path, train: Path):
    atoms = tmp_path / "atoms.extxyz"
    atoms.write_text("1\nProperties=species:S:1:pos:R:3 energy=-13.5\nH 0 0 0\n")
    plain = tmp_path / "atoms.json"
    plain.write_text('{"H": -13.5}')
    assert atomic_energies(atoms) == atomic_energies(plain) == {"H": -13.5}
    with pytest.raises(UsageError, match="structure 1"):
        atomic_energies(train)
    plain.write_text('{"H": "much"}')
    with pytest.raises(UsageError, match=r"atoms\.json"):
        atomic_energies(plain)


def test_elements_beyond_xenon_need_the_option(tmp_path: Path):
    atoms = Atoms("Au2", [[0.0, 0.0, 0.0], [0.0, 0.0, 2.5]])
    atoms.calc = EMT()
    atoms.get_forces()
    gold = tmp_path / "gold.extxyz"
    write(gold, [atoms])
    data = DataSet(name="gold", train=gold, test=gold)
    with pytest.raises(UsageError, match="Au, beyond Xe"):
        prepare(data, None, SMALL, (), 1)
    prepared = prepare(data, None, (*SMALL, "wire.elements=extended"), (), 1)
    learner = Learner(prepared.config)
    learner.process_tick(prepared.train)
    assert learner.elements == (79,)


def test_an_element_of_the_test_alone_is_refused_before_anything_is_learned(tmp_path: Path, train: Path):
    oxide = Atoms("CO", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.2]])
    oxide.calc = EMT()
    oxide.get_forces()
    test = tmp_path / "oxide.extxyz"
    write(test, [oxide])
    with pytest.raises(UsageError, match="water: C must be predicted"):
        prepare(DataSet(name="water", train=train, test=test), None, SMALL, (), 1)


def test_an_element_that_the_learner_holds_out_is_not_learned(train: Path, test: Path):
    data = DataSet(name="water", train=train, test=test)
    with pytest.raises(UsageError, match=r"water: H, O must be predicted.* held out while learning .*holdout_share=0$"):
        prepare(data, None, (*SMALL, "rehearsal.holdout_share=1.0"), (), 1)
    prepare(data, None, (*SMALL, "rehearsal.holdout_share=0"), (), 1)


def test_tables_that_cannot_be_written_are_refused_before_anything_is_learned(monkeypatch, capsys, train: Path):
    assert run(monkeypatch, "--train", train, "--output", train / "accuracy") == 2
    assert f"cannot make {train}: File exists; name another folder with --output" in capsys.readouterr().err
