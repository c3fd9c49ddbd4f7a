"""Elements: symbols, and the periodic-table numbers behind the element factors of the symmetry functions.

Source: Eckhoff & Reiher, J. Chem. Theory Comput. 2023, 19, 3509 (doi 10.1021/acs.jctc.3c00279), and the table their
inference code SCINE Parrot 1.0.0 runs with. It ends at xenon. Beyond lies our extension by the same rules, with the
same maxima, so that nothing changes up to xenon; see `element_numbers`.
"""

from itertools import combinations_with_replacement

import numpy as np
from jaxtyping import Float

SYMBOLS: tuple[str, ...] = (
    *("X", "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar"),
    *("K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr"),
    *("Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe"),
    *("Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu"),
    *("Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn"),
    *("Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr"),
    *("Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og"),
)
"""Symbol of each atomic number; `SYMBOLS[0]` is a placeholder."""

ATOMIC_NUMBERS: dict[str, int] = {symbol: z for z, symbol in enumerate(SYMBOLS) if z}
"""Atomic number of each symbol."""

N_ATOMIC_NUMBERS = len(SYMBOLS)
"""Length of an axis that is indexed by the atomic number: 119."""

LAST_PUBLISHED_ELEMENT = 54
"""Xenon, the last element of the published table."""

NUMBERS: tuple[str, ...] = ("1", "n", "sp", "d", "6-n", "9-sp", "11-d")
"""Names of the periodic-table numbers h_t: one, period, main-group number, d number, and their complements."""

MAXIMA: tuple[int, ...] = (1, 5, 8, 10, 5, 8, 10)
"""Largest value of each periodic-table number up to xenon, which its element factor is divided by."""

_NOBLE_GASES = (2, 10, 18, 36, 54, 86, 118)
_F_COLUMNS = 14


def element_numbers(z: int) -> tuple[float, ...]:
    """The seven periodic-table numbers (1, n, sp, d, 6-n, 9-sp, 11-d) of an element.

    sp is 1 to 8 in the main groups and 2 in the d-block, d is 1 to 10 in the d-block and 0 in the main groups,
    where 11-d counts as 0, too; helium is a noble gas (sp = 8).

    Beyond xenon (our extension): 6-n counts as 0, since factors below zero have no root; the f-block is La to Yb and Ac
    to No, with sp = 2 and d rising by 1/15 from 1/15 to 14/15, between the s-block (0) and the d-block (1 to 10).

    Raises:
        ValueError: There is no such element.
    """
    if not 1 <= z < N_ATOMIC_NUMBERS:
        raise ValueError(f"Z = {z} is no element; they go from 1 to {N_ATOMIC_NUMBERS - 1}")
    period = next(n for n, noble_gas in enumerate(_NOBLE_GASES, start=1) if z <= noble_gas)
    before = (0, *_NOBLE_GASES)[period - 1]
    column, columns = z - before, _NOBLE_GASES[period - 1] - before
    sp, d = _main_and_d_number(column, columns)
    return 1, period, sp, d, max(6 - period, 0), 9 - sp, 11 - d if d else 0


def _main_and_d_number(column: int, columns: int) -> tuple[int, float]:
    """The numbers sp and d of the element in a column, counted from 1, of a period of so many columns."""
    if columns == 2:
        return (1, 0) if column == 1 else (8, 0)
    if column <= 2:
        return column, 0
    if column > columns - 6:
        return 8 - (columns - column), 0
    f_columns = max(columns - 18, 0)
    return 2, column - 2 - f_columns if column - 2 > f_columns else (column - 2) / (_F_COLUMNS + 1)


def _number_table() -> Float[np.ndarray, "119 7"]:
    return np.array([(0,) * 7, *(element_numbers(z) for z in range(1, N_ATOMIC_NUMBERS))], dtype=np.float64)


def _numbers(name: str) -> Float[np.ndarray, "119"]:
    """One periodic-table number of every element."""
    return _number_table()[:, NUMBERS.index(name)]


TRAITS: tuple[str, ...] = ("hydrogen", "other", "n-1", "sp~1.5", "sp~4", "sp~5.5", "sp~6", "sp~7")
"""Names of the traits of an element (our extension): smooth shares between 0 and 1 in classes of elements."""

TRAIT_WIDTH = 1.2
"""Width w of the classes of neighboring main groups, in sp."""


def trait_table(trait: str) -> Float[np.ndarray, "119"]:
    """How much an element has of a trait, by atomic number.

    `hydrogen` is 1 for hydrogen and `other` for all other elements; those have `n-1` = (n-1)/4, which is at most 1 up
    to xenon, and `sp~T` = exp(-((sp-T)/w)²). Sums over neighbors of the published numbers are nearly proportional to
    each other, those of classes are not: networks tell elements apart in fewer steps.
    """
    n, sp = _numbers("n"), _numbers("sp")
    other = (np.arange(N_ATOMIC_NUMBERS) > 1).astype(np.float64)
    share = other
    if trait == "hydrogen":
        share = (n > 0) - other
    elif trait == "n-1":
        share = other * (n - 1) / 4
    elif trait != "other":
        share = other * np.exp(-(((sp - float(trait.removeprefix("sp~"))) / TRAIT_WIDTH) ** 2))
    return share


def radial_factor_table(factor: str) -> Float[np.ndarray, "119"]:
    """Element factor H_j of a radial function, by atomic number: h_t(Z_j) / max h_t, or the share in a trait.

    Source of the first: SCINE Parrot 1.0.0, `lmlp.py`; form: doi 10.1021/acs.jctc.3c00279.
    """
    if factor in TRAITS:
        return trait_table(factor)
    return _numbers(factor) / MAXIMA[NUMBERS.index(factor)]


def angular_factor_table(factor: str) -> Float[np.ndarray, "119 119"]:
    """Element factor H_jk of an angular function, by the atomic numbers of both neighbors.

    `sum:T` is [h_t(Z_j) + h_t(Z_k)] / (2 max h_t), `difference:T` is (|h_t(Z_j) - h_t(Z_k)| + 1) / max h_t but 0 where
    both numbers are 0. Source: SCINE Parrot 1.0.0, `lmlp.py`; form: doi 10.1021/acs.jctc.3c00279. With traits, `sum:T`
    is their mean and `product:T*U` is (t_j u_k + u_j t_k) / 2 (our extension).
    """
    kind, _, of = factor.partition(":")
    if kind == "sum":
        h, largest = (_numbers(of), MAXIMA[NUMBERS.index(of)]) if of in NUMBERS else (trait_table(of), 1)
        table: Float[np.ndarray, "119 119"] = (h[:, None] + h[None, :]) / (2 * largest)
        return table
    if kind == "product":
        first, second = (trait_table(trait) for trait in of.split("*"))
        return (np.outer(first, second) + np.outer(second, first)) / 2
    h = _numbers(of)
    both_zero = (h[:, None] == 0) & (h[None, :] == 0)
    return np.where(both_zero, 0.0, (np.abs(h[:, None] - h[None, :]) + 1) / MAXIMA[NUMBERS.index(of)])


RADIAL_FACTORS: tuple[str, ...] = (*NUMBERS, *TRAITS)
"""Names of the element factors a radial function can have."""

ANGULAR_FACTORS: tuple[str, ...] = (
    *(f"sum:{t}" for t in RADIAL_FACTORS),
    *(f"difference:{t}" for t in NUMBERS[1:]),
    *(f"product:{t}*{u}" for t, u in combinations_with_replacement(TRAITS, 2)),
)
"""Names of the element factors an angular function can have."""
