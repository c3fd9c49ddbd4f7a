import numpy as np
import pytest

from lmlp_stream.atoms.elements import (
    ANGULAR_FACTORS,
    ATOMIC_NUMBERS,
    LAST_PUBLISHED_ELEMENT,
    N_ATOMIC_NUMBERS,
    NUMBERS,
    SYMBOLS,
    TRAITS,
    angular_factor_table,
    element_numbers,
    radial_factor_table,
    trait_table,
)

PUBLISHED = {  # 1, n, sp, d, 6-n, 9-sp, 11-d; the table SCINE Parrot 1.0.0 runs with
    "H": (1, 1, 1, 0, 5, 8, 0),
    "He": (1, 1, 8, 0, 5, 1, 0),
    "C": (1, 2, 4, 0, 4, 5, 0),
    "N": (1, 2, 5, 0, 4, 4, 0),
    "O": (1, 2, 6, 0, 4, 3, 0),
    "F": (1, 2, 7, 0, 4, 2, 0),
    "S": (1, 3, 6, 0, 3, 3, 0),
    "Cl": (1, 3, 7, 0, 3, 2, 0),
    "Se": (1, 4, 6, 0, 2, 3, 0),
    "Br": (1, 4, 7, 0, 2, 2, 0),
    "I": (1, 5, 7, 0, 1, 2, 0),
    "Fe": (1, 4, 2, 6, 2, 7, 5),
}


@pytest.mark.parametrize(("symbol", "numbers"), PUBLISHED.items())
def test_periodic_table_numbers_are_the_published_ones(symbol: str, numbers: tuple[int, ...]) -> None:
    assert element_numbers(ATOMIC_NUMBERS[symbol]) == numbers


MAIN_GROUPS = {  # by period, in the order of the main groups 1 to 8
    1: "H - - - - - - He",
    2: "Li Be B C N O F Ne",
    3: "Na Mg Al Si P S Cl Ar",
    4: "K Ca Ga Ge As Se Br Kr",
    5: "Rb Sr In Sn Sb Te I Xe",
}
D_BLOCK = {4: "Sc Ti V Cr Mn Fe Co Ni Cu Zn", 5: "Y Zr Nb Mo Tc Ru Rh Pd Ag Cd"}


def published_table() -> dict[str, tuple[int, ...]]:
    rows = {}
    for n, symbols in MAIN_GROUPS.items():
        rows |= {symbol: (1, n, m, 0, 6 - n, 9 - m, 0) for m, symbol in enumerate(symbols.split(), start=1)}
    for n, symbols in D_BLOCK.items():
        rows |= {symbol: (1, n, 2, d, 6 - n, 7, 11 - d) for d, symbol in enumerate(symbols.split(), start=1)}
    del rows["-"]
    return rows


def test_every_element_up_to_xenon_stands_where_the_periodic_table_has_it() -> None:
    found = {SYMBOLS[z]: element_numbers(z) for z in range(1, LAST_PUBLISHED_ELEMENT + 1)}
    assert found == published_table()


EXTENDED = {
    "Cs": (1, 6, 1, 0, 0, 8, 0),
    "La": (1, 6, 2, 1 / 15, 0, 7, 11 - 1 / 15),
    "Yb": (1, 6, 2, 14 / 15, 0, 7, 11 - 14 / 15),
    "Lu": (1, 6, 2, 1, 0, 7, 10),
    "W": (1, 6, 2, 4, 0, 7, 7),
    "Hg": (1, 6, 2, 10, 0, 7, 1),
    "Tl": (1, 6, 3, 0, 0, 6, 0),
    "Rn": (1, 6, 8, 0, 0, 1, 0),
    "U": (1, 7, 2, 4 / 15, 0, 7, 11 - 4 / 15),
    "Og": (1, 7, 8, 0, 0, 1, 0),
}


@pytest.mark.parametrize(("symbol", "numbers"), EXTENDED.items())
def test_beyond_xenon_the_numbers_go_on_by_the_same_rules(symbol: str, numbers: tuple[float, ...]) -> None:
    assert element_numbers(ATOMIC_NUMBERS[symbol]) == pytest.approx(numbers)


def test_no_two_elements_share_period_main_group_and_d_number() -> None:
    assert len({element_numbers(z)[1:4] for z in range(1, N_ATOMIC_NUMBERS)}) == N_ATOMIC_NUMBERS - 1


def test_no_factor_is_negative_and_up_to_xenon_none_exceeds_one() -> None:
    tables = np.array([radial_factor_table(number) for number in NUMBERS])
    assert tables.min() == 0
    assert tables[:, : LAST_PUBLISHED_ELEMENT + 1].max() == 1


@pytest.mark.parametrize("z", [0, -1, 119])
def test_what_is_no_element_is_refused(z: int) -> None:
    with pytest.raises(ValueError, match=f"Z = {z} "):
        element_numbers(z)


def test_symbols_are_those_of_ase() -> None:
    from ase.data import chemical_symbols

    assert list(SYMBOLS) == chemical_symbols
    assert len(SYMBOLS) == N_ATOMIC_NUMBERS


def test_the_radial_factor_is_the_number_over_its_maximum() -> None:
    assert radial_factor_table("sp")[8] == 6 / 8
    assert radial_factor_table("11-d")[26] == 5 / 10


def test_the_sum_factor_is_the_mean_of_both_neighbors() -> None:
    assert angular_factor_table("sum:sp")[1, 8] == (1 + 6) / 16


def test_the_difference_factor_of_equal_elements_is_one_over_the_maximum() -> None:
    assert angular_factor_table("difference:n")[6, 6] == 1 / 5
    assert angular_factor_table("difference:sp")[1, 8] == (5 + 1) / 8


def test_the_difference_factor_is_zero_where_both_numbers_are() -> None:
    assert angular_factor_table("difference:d")[6, 8] == 0
    assert angular_factor_table("difference:d")[6, 26] == (6 + 1) / 10


def test_hydrogen_and_the_others_share_all_elements() -> None:
    hydrogen, other = trait_table("hydrogen"), trait_table("other")
    assert hydrogen[1] == 1
    np.testing.assert_array_equal((hydrogen + other)[1:], 1)


def test_a_class_of_main_groups_holds_its_group_whole_and_neighbors_in_part() -> None:
    carbon, nitrogen, silicon = (trait_table("sp~4")[z] for z in (6, 7, 14))
    assert carbon == silicon == 1
    assert nitrogen == pytest.approx(np.exp(-1 / 1.44))


@pytest.mark.parametrize("trait", TRAITS)
def test_no_atom_has_no_trait_and_up_to_xenon_no_share_exceeds_one(trait: str) -> None:
    shares = trait_table(trait)
    assert shares[0] == 0
    assert shares[: LAST_PUBLISHED_ELEMENT + 1].max() <= 1
    assert shares.min() >= 0


def test_the_product_factor_is_symmetrised() -> None:
    assert angular_factor_table("product:hydrogen*other")[1, 8] == 0.5
    assert angular_factor_table("product:hydrogen*other")[1, 1] == 0
    assert angular_factor_table("sum:sp~4")[1, 6] == 0.5


@pytest.mark.parametrize("factor", ANGULAR_FACTORS)
def test_angular_factors_do_not_know_which_neighbor_comes_first(factor: str) -> None:
    table = angular_factor_table(factor)
    np.testing.assert_array_equal(table, table.T)
