"""Rehearsal memory and hold-out by lot; the laws are in tests/property."""

import pytest

from lmlp_stream.learning.reservoir import Reservoir, is_held_out
from tests.unit.learning.structures import labelled


def test_everything_is_kept_while_there_is_room():
    reservoir = Reservoir(10, "salt")
    assert [reservoir.offer(labelled(index)) for index in range(10)] == [None] * 10
    assert len(reservoir) == 10


def test_an_offer_beyond_the_capacity_names_what_is_not_kept():
    reservoir = Reservoir(5, "salt")
    for index in range(5):
        reservoir.offer(labelled(index))
    before = {structure.id for structure in reservoir}
    lost = reservoir.offer(labelled(5))
    assert lost is not None
    assert {structure.id for structure in reservoir} == (before | {labelled(5).id}) - {lost.id}


def test_the_place_of_an_id_is_where_indexing_finds_it():
    reservoir = Reservoir(20, "salt")
    for index in range(15):
        reservoir.offer(labelled(index))
    for structure in reservoir:
        place = reservoir.index(structure.id)
        assert place is not None
        assert reservoir[place] is structure
    assert reservoir.index("never offered") is None


def test_the_sample_is_uniform_over_the_stream():
    early = 0
    for salt in range(200):
        reservoir = Reservoir(10, str(salt))
        for index in range(40):
            reservoir.offer(labelled(index))
        early += sum(int(structure.id.split("/")[1]) < 20 for structure in reservoir)
    assert early / 2000 == pytest.approx(0.5, abs=0.05)


def test_a_group_is_never_split_between_learned_and_held_out():
    verdicts: dict[str, set[bool]] = {}
    for index in range(400):
        structure = labelled(index)
        verdicts.setdefault(structure.group, set()).add(is_held_out(structure, 0.3, "salt"))
    assert all(len(verdict) == 1 for verdict in verdicts.values())
    assert 15 <= sum(verdict == {True} for verdict in verdicts.values()) <= 45


def test_without_groups_single_structures_are_held_out():
    held = sum(is_held_out(labelled(index, group=""), 0.25, "salt") for index in range(400))
    assert 60 <= held <= 140


@pytest.mark.parametrize(("share", "expected"), [(0.0, False), (1.0, True)])
def test_the_extreme_shares_hold_out_nothing_and_everything(share, expected):
    assert {is_held_out(labelled(index), share, "salt") for index in range(50)} == {expected}
