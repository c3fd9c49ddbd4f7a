"""One owner at a time, and one that was replaced finds out."""

from pathlib import Path

import pytest

from lmlp_stream.errors import DamagedStoreError, FencedError
from lmlp_stream.store.lock import sole_owner


def test_a_second_owner_is_refused_while_the_first_holds(tmp_path: Path) -> None:
    with sole_owner(tmp_path) as hold:
        with pytest.raises(FencedError, match="--take-over"), sole_owner(tmp_path):
            pass
        hold.confirm()
    with sole_owner(tmp_path) as hold:
        hold.confirm()


def test_a_folder_that_cannot_be_made_is_named_with_the_settings_that_say_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DamagedStoreError, match=r"cannot be written.*store\.url"), sole_owner(tmp_path / "file" / "a"):
        pass


def test_an_owner_that_was_replaced_is_told_so(tmp_path: Path) -> None:
    with sole_owner(tmp_path) as old, sole_owner(tmp_path, take_over=True) as new:
        new.confirm()
        with pytest.raises(FencedError, match="has taken over"):
            old.confirm()
        with pytest.raises(FencedError, match="belongs to a running learner"), sole_owner(tmp_path):
            pass


def test_the_place_is_free_when_the_new_owner_ends_though_the_old_one_still_sleeps(tmp_path: Path) -> None:
    with sole_owner(tmp_path):
        with sole_owner(tmp_path, take_over=True):
            pass
        with sole_owner(tmp_path) as third:
            third.confirm()
    assert {path.name for path in tmp_path.iterdir()} == {"lock", "id"}


def test_taking_over_from_nobody_is_owning(tmp_path: Path) -> None:
    with sole_owner(tmp_path, take_over=True) as hold:
        hold.confirm()


def test_a_folder_is_known_by_its_id_and_by_its_place(tmp_path: Path) -> None:
    first, moved = tmp_path / "first", tmp_path / "moved"
    with sole_owner(first) as hold:
        home = hold.home
    with sole_owner(first) as hold:
        assert hold.home == home
    first.rename(moved)
    with sole_owner(moved) as hold:
        assert hold.home[0] == home[0]
        assert hold.home[1] != home[1]
    with sole_owner(first) as hold:
        assert hold.home[0] != home[0]
        assert hold.home[1] == home[1]
        (first / "id").write_bytes(b"\xff damaged")
    with sole_owner(first) as hold:
        assert len(hold.home[0]) == len(home[0])
