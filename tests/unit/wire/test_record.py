"""Labelled structures: what is let in, what is filled in, and what is refused."""

from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.config import WireConfig
from lmlp_stream.wire.arrays import packed
from lmlp_stream.wire.examples import EXAMPLE_LIMITS, rock_salt, water
from lmlp_stream.wire.record import Limits, Reason, Rejection, decode, encode


def record(**changes: Any) -> bytes:
    return msgpack.packb(msgpack.unpackb(encode(water())) | changes)


def accepted(value: bytes) -> LabelledStructure:
    structure = decode(value, EXAMPLE_LIMITS)
    assert isinstance(structure, LabelledStructure), structure
    return structure


def refused(value: bytes, limits: Limits = EXAMPLE_LIMITS) -> Rejection:
    rejection = decode(value, limits)
    assert isinstance(rejection, Rejection)
    return rejection


def test_limits_are_those_of_the_configuration() -> None:
    config = WireConfig(level_of_theory="x", max_atoms=7)
    limits = Limits.of(config)
    assert {name: getattr(limits, name) for name in WireConfig.model_fields} == config.model_dump()


def test_elements_beyond_xenon_are_let_in_where_the_configuration_says_so() -> None:
    tungsten = encode(replace(water(), atomic_numbers=np.array([74, 1, 1])))
    refusal = refused(tungsten)
    assert refusal.reason is Reason.UNKNOWN_ELEMENT
    assert "wire.elements = 'extended'" in refusal.detail
    extended = replace(EXAMPLE_LIMITS, elements="extended")
    assert isinstance(decode(tungsten, extended), LabelledStructure)
    beyond = refused(encode(replace(water(), atomic_numbers=np.array([119, 1, 1]))), extended)
    assert beyond.detail == "atomic_numbers holds 119; send 1 to 118"


def test_a_missing_energy_is_nan_and_does_not_travel() -> None:
    value = encode(replace(water(), energy=np.nan))
    assert "energy" not in msgpack.unpackb(value)
    assert np.isnan(accepted(value).energy)


def test_missing_forces_are_nan_and_do_not_travel() -> None:
    value = encode(replace(water(), forces=np.full((3, 3), np.nan)))
    assert "forces" not in msgpack.unpackb(value)
    assert np.isnan(accepted(value).forces).all()
    assert accepted(value).forces.shape == (3, 3)


def test_partly_missing_forces_travel_and_are_refused() -> None:
    forces = water().forces.copy()
    forces[1, 2] = np.nan
    rejection = refused(encode(replace(water(), forces=forces)))
    assert rejection.reason is Reason.NOT_FINITE
    assert "forces[1, 2]" in rejection.detail


def test_a_structure_without_a_group_is_its_own_group() -> None:
    assert accepted(encode(replace(water(), group=""))).group == water().id


def test_a_molecule_has_no_cell_on_the_wire() -> None:
    assert not {"cell", "pbc"} & set(msgpack.unpackb(encode(water())))
    assert not accepted(encode(water())).cell.any()


def test_a_cell_without_periodicity_is_kept() -> None:
    structure = replace(water(), cell=10.0 * np.eye(3))
    np.testing.assert_array_equal(accepted(encode(structure)).cell, structure.cell)


def test_arrays_can_be_written_to() -> None:
    structure = accepted(encode(rock_salt()))
    for array in (structure.positions, structure.forces, structure.cell, structure.atomic_numbers, structure.pbc):
        array[...] = 0


def test_single_precision_arrays_become_double() -> None:
    structure = accepted(record(positions=packed(water().positions, "<f4")))
    assert structure.positions.dtype == np.float64
    np.testing.assert_array_equal(structure.positions, water().positions.astype(np.float32))


def test_an_integer_energy_becomes_a_float() -> None:
    energy = accepted(record(energy=-3)).energy
    assert isinstance(energy, float)
    assert energy == -3.0


def test_unknown_fields_are_passed_over() -> None:
    assert accepted(record(invented_later={"a": [1, 2, b"3"]})).id == water().id


def test_a_signalling_nan_is_refused_without_a_warning() -> None:
    signalling = {"d": "<f4", "s": [3, 3], "b": b"\x00\x00\xa0\x7f" * 9}
    assert refused(record(positions=signalling)).reason is Reason.NOT_FINITE


def test_infinite_forces_are_not_finite_rather_than_large() -> None:
    assert refused(record(forces=packed(np.full((3, 3), np.inf), "<f8"))).reason is Reason.NOT_FINITE


def test_the_level_of_theory_is_compared_character_by_character() -> None:
    rejection = refused(record(level_of_theory="GFN2-xTB "))
    assert rejection.reason is Reason.LEVEL_OF_THEORY
    assert "'GFN2-xTB '" in rejection.detail


def test_further_levels_of_theory_are_let_in_by_name() -> None:
    limits = replace(EXAMPLE_LIMITS, further_levels=("PBE", "HF"))
    for level in ("GFN2-xTB", "PBE", "HF"):
        let_in = decode(record(level_of_theory=level), limits)
        assert isinstance(let_in, LabelledStructure)
        assert (let_in.level_of_theory, let_in.energy) == (level, water().energy)
        assert np.array_equal(let_in.forces, water().forces)
    rejection = refused(record(level_of_theory="pbe"), limits)
    assert rejection.reason is Reason.LEVEL_OF_THEORY
    assert "only 'GFN2-xTB' and 2 further ones are learned" in rejection.detail


def test_net_force_is_judged_per_atom_of_isolated_molecules_only() -> None:
    forces = np.zeros((3, 3))
    forces[0, 0] = 1.6
    assert refused(encode(replace(water(), forces=forces))).reason is Reason.NET_FORCE
    accepted(encode(replace(water(), forces=forces * 0.9)))
    accepted(encode(replace(water(), forces=forces, cell=8.0 * np.eye(3), pbc=np.array([True, False, False]))))


def test_the_atom_with_the_largest_force_is_named() -> None:
    forces = np.zeros((3, 3))
    forces[2, 1], forces[1, 1] = 400.0, -400.0
    assert "atom 1 has a force component of 400 eV/Å" in refused(encode(replace(water(), forces=forces))).detail


def test_a_record_at_the_size_limit_is_let_in() -> None:
    value = encode(water())
    assert isinstance(decode(value, replace(EXAMPLE_LIMITS, max_record_bytes=len(value))), LabelledStructure)
    assert refused(value, replace(EXAMPLE_LIMITS, max_record_bytes=len(value) - 1)).reason is Reason.TOO_LARGE


def test_claimed_atoms_are_checked_before_bytes_are_looked_at() -> None:
    claimed = {"d": "<i8", "s": [2**40], "b": b""}
    assert refused(record(atomic_numbers=claimed)).reason is Reason.TOO_MANY_ATOMS


@pytest.mark.parametrize("text", ["x" * 100_000, "é" * 9_000, "\x1b]0;" + "x" * 1000, "\n" * 50])
@pytest.mark.parametrize("field", ["id", "level_of_theory", "schema_name", "schema_version", "energy", "positions"])
def test_a_detail_never_repeats_a_long_or_unprintable_text(field: str, text: str) -> None:
    rejection = refused(record(**{field: text}), replace(EXAMPLE_LIMITS, max_record_bytes=2**20))
    assert len(rejection.detail) < 300
    assert rejection.detail.isprintable()


@pytest.mark.parametrize("length", [True, None, "3", 3.0, -(2**63), 2**64 - 1])
def test_a_length_that_is_no_count_is_refused(length: object) -> None:
    array = packed(water().positions, "<f8") | {"s": [length, 3]}
    assert refused(record(positions=array)).reason is Reason.BAD_ARRAY


def test_only_known_dtypes_are_packed() -> None:
    with pytest.raises(ValueError, match="does not travel"):
        packed(np.zeros(3), ">f8")
