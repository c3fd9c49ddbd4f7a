from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from lmlp_stream.cli.demo.farm import labels
from lmlp_stream.cli.demo.molecules import BARRIER, BOND, CONTACT, REACTIONS, SIMULATED, farm_domains, thermalize
from lmlp_stream.cli.demo.settings import LARGEST_FORCE
from lmlp_stream.cli.demo.simulation import broken


def test_a_complex_goes_from_contact_over_the_barrier_to_the_bond():
    distances = [SIMULATED.complex_at(progress).get_distances(0, [4, 5]) for progress in (-1.0, 0.0, 1.0)]

    assert distances[0] == pytest.approx([CONTACT["Cl"], BOND["Br"]])
    assert distances[1] == pytest.approx([BARRIER["Cl"], BARRIER["Br"]])
    assert distances[2] == pytest.approx([BOND["Cl"], CONTACT["Br"]])


def test_the_hydrogen_umbrella_turns_away_from_the_group_that_is_bound():
    for progress in (-1.0, 0.0, 1.0):
        atoms = SIMULATED.complex_at(progress)
        assert atoms.positions[1:4, 2] == pytest.approx([0.36 * progress] * 3)
        assert atoms.get_distances(0, [1, 2, 3]) == pytest.approx([1.09] * 3)
        assert atoms.info["charge"] == -1


def test_the_simulated_reaction_is_new_but_its_elements_are_not():
    assert SIMULATED not in REACTIONS
    halides = {symbol for reaction in REACTIONS for symbol in (reaction.nucleophile, reaction.leaving)}
    assert {SIMULATED.nucleophile, SIMULATED.leaving} <= halides


def test_thermal_momenta_have_the_temperature_and_no_drift():
    generator = np.random.default_rng(0)
    temperatures = []
    for _ in range(300):
        atoms = SIMULATED.complex_at(0.0)
        thermalize(atoms, 300.0, generator)
        assert atoms.get_momenta().sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-12)
        temperatures.append(atoms.get_temperature())

    assert np.mean(temperatures) == pytest.approx(300.0 * 5 / 6, rel=0.06)


def test_the_farm_publishes_at_least_six_elements_with_energies_and_balanced_forces(tmp_path: Path):
    published = [
        (domain, atoms.copy(), atoms.get_forces())
        for domain, _, atoms in islice(labels(1, 1, tmp_path / "test.extxyz"), 60)
    ]

    assert {domain for domain, _, _ in published} == set(farm_domains())
    assert len({z for _, atoms, _ in published for z in atoms.numbers}) == 7
    assert {atoms.info["charge"] for _, atoms, _ in published} == {0, -1}
    for _, _, forces in published:
        assert np.abs(forces.sum(axis=0)).max() < 1e-6
        assert np.abs(forces).max() < LARGEST_FORCE


def test_the_same_seed_and_worker_give_the_same_labels_and_others_do_not(tmp_path: Path):
    def first(seed: int, worker: int) -> list[float]:
        return [a.get_potential_energy() for _, _, a in islice(labels(seed, worker, tmp_path / "test.extxyz"), 5)]

    assert first(1, 0) == pytest.approx(first(1, 0), abs=1e-6)
    assert first(1, 0) != pytest.approx(first(2, 0), abs=1e-6)
    assert first(1, 0) != pytest.approx(first(1, 1), abs=1e-6)


def test_what_lies_in_the_test_file_is_never_published(tmp_path: Path):
    test_file = tmp_path / "test.extxyz"

    groups = {group for _, group, _ in islice(labels(1, 0, test_file), 90)}
    kept = read(test_file, ":")

    assert kept
    assert not groups & {atoms.info["group_id"] for atoms in kept}
    assert {"REF_energy", "domain", "charge"} <= set(kept[0].info)
    assert kept[0].arrays["REF_forces"].shape == (len(kept[0]), 3)


def test_a_trajectory_is_given_up_when_it_tears_apart_overlaps_or_boils():
    sound = SIMULATED.complex_at(-0.5)
    torn, overlapping, hot, lost = (sound.copy() for _ in range(4))
    torn.positions[4, 2] -= 5.0
    overlapping.positions[1] = overlapping.positions[2] + 0.1
    thermalize(hot, 9000.0, np.random.default_rng(0))
    lost.positions[0, 0] = np.nan

    assert [broken(SIMULATED.complex_at(progress)) for progress in (-1.0, -0.5, 0.0, 1.0)] == [""] * 4
    assert "from carbon" in broken(torn)
    assert "overlap" in broken(overlapping)
    assert "temperature" in broken(hot)
    assert "not finite" in broken(lost)
