from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

from lmlp_stream.atoms.structure import Structure, from_ase
from lmlp_stream.errors import UsageError
from lmlp_stream.farm.labels import Labels
from lmlp_stream.farm.naming import SEGMENT, Naming, structure_id

STRUCTURE = from_ase(Atoms("CO", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.13]]))
LABELS = Labels(energy=-10.0, forces=np.zeros((2, 3)))


def names(naming: Naming, atoms: Atoms, id_: str = "0123456789abcdef0123") -> tuple[str, str]:
    domain = naming.domain(atoms, "f.xyz, structure 1")
    return domain, naming.group(atoms, "f.xyz, structure 1", domain, id_)


def test_the_same_label_has_the_same_id():
    assert structure_id(STRUCTURE, LABELS, "PBE") == structure_id(replace(STRUCTURE), replace(LABELS), "PBE")


@pytest.mark.parametrize(
    "change",
    [
        lambda structure, labels: (replace(structure, charge=-1.0), labels),
        lambda structure, labels: (replace(structure, multiplicity=3), labels),
        lambda structure, labels: (replace(structure, positions=structure.positions + 1e-9), labels),
        lambda structure, labels: (replace(structure, atomic_numbers=np.array([8, 6])), labels),
        lambda structure, labels: (replace(structure, pbc=np.array([True, False, False])), labels),
        lambda structure, labels: (replace(structure, cell=np.eye(3)), labels),
        lambda structure, labels: (structure, replace(labels, energy=-10.0 - 1e-9)),
        lambda structure, labels: (structure, replace(labels, forces=np.ones((2, 3)))),
        lambda structure, labels: (structure, replace(labels, stress=np.zeros((3, 3)))),
    ],
)
def test_whatever_makes_another_label_makes_another_id(
    change: Callable[[Structure, Labels], tuple[Structure, Labels]],
):
    assert structure_id(*change(STRUCTURE, LABELS), "PBE") != structure_id(STRUCTURE, LABELS, "PBE")


def test_another_level_of_theory_makes_another_id():
    assert structure_id(STRUCTURE, LABELS, "PBE") != structure_id(STRUCTURE, LABELS, "PBE0")


def test_a_negative_zero_is_a_zero():
    assert structure_id(STRUCTURE, replace(LABELS, forces=-np.zeros((2, 3))), "") == structure_id(STRUCTURE, LABELS, "")


def test_the_id_is_the_same_on_every_machine():
    assert structure_id(STRUCTURE, LABELS, "PBE") == "245df3cb584a8fd9051bb484284694d6ba768bfeda19f696c3f06bd2c565b1ae"


@pytest.mark.parametrize("key", ["domain", "reaction", "molecule", "system", "config_type", "element"])
def test_the_domain_is_what_the_file_calls_it(key: str):
    naming = Naming()

    assert names(naming, Atoms("CO", info={key: "mine"}))[0] == "mine"
    assert naming.domains_from == {f"info {key!r}": 1}


def test_the_domain_is_the_formula_where_nothing_says_it():
    assert names(Naming(), Atoms("CO"))[0] == "CO"


def test_the_windows_of_a_reaction_are_its_groups():
    info = {"reaction": "F-_+_CH3F", "window": np.int64(3), "group": "main"}

    assert names(Naming(), Atoms("CO", info=info)) == ("F-_+_CH3F", "F-_+_CH3F/3")


def test_the_keys_that_are_named_are_taken():
    info = {"reaction": "a", "phase": "liquid", "run": 7, "leg": 2}

    assert names(Naming("phase", ("run", "leg")), Atoms("CO", info=info)) == ("liquid", "7/2")


@pytest.mark.parametrize("naming", [Naming("phase"), Naming("", ("run",))])
def test_a_named_key_that_is_missing_is_refused(naming: Naming):
    with pytest.raises(UsageError, match=r"f.xyz, structure 1 has no info key .*-key"):
        names(naming, Atoms("CO"))


@given(st.integers(1, 60))
def test_consecutive_structures_share_a_group_named_after_the_first(n: int):
    naming = Naming()

    groups = [names(naming, Atoms("CO"), f"{i:020d}")[1] for i in range(n)]

    assert groups == [f"CO/{i // SEGMENT * SEGMENT:020d}"[: len("CO/") + 16] for i in range(n)]
