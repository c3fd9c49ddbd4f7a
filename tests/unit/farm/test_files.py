import gzip
import lzma
import os
from pathlib import Path

import ase.db
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.io.trajectory import Trajectory

from lmlp_stream.errors import UsageError
from lmlp_stream.farm.files import read_structures

DATA = Path(os.environ.get("LMLP_STREAM_DATA", Path(__file__).parents[3].parent / "shared" / "data"))


def water(energy: float) -> Atoms:
    atoms = Atoms("OH2", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, energy / 100]])
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.full((3, 3), energy))
    return atoms


def test_a_file_is_read_in_its_order(tmp_path: Path):
    write(tmp_path / "water.extxyz", [water(1.0), water(2.0), water(3.0)])

    assert [atoms.get_potential_energy() for atoms in read_structures(tmp_path / "water.extxyz")] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(("suffix", "opener"), [(".xz", lzma.open), (".gz", gzip.open)])
@pytest.mark.parametrize("name", ["water.extxyz", "water.xyz"])
def test_a_compressed_file_reads_like_the_plain_one(tmp_path: Path, name: str, suffix: str, opener):
    write(tmp_path / name, [water(1.0), water(2.0)], format="extxyz")
    with opener(tmp_path / f"{name}{suffix}", "wb") as packed:
        packed.write((tmp_path / name).read_bytes())

    plain = list(read_structures(tmp_path / name))
    unpacked = list(read_structures(tmp_path / f"{name}{suffix}"))

    assert [atoms.get_potential_energy() for atoms in unpacked] == [1.0, 2.0]
    assert all((a.positions == b.positions).all() for a, b in zip(plain, unpacked, strict=True))


def test_a_trajectory_is_read(tmp_path: Path):
    with Trajectory(tmp_path / "water.traj", "w") as trajectory:
        for energy in (1.0, 2.0):
            trajectory.write(water(energy))

    assert [atoms.get_forces()[0, 0] for atoms in read_structures(tmp_path / "water.traj")] == [1.0, 2.0]


def test_key_value_pairs_and_data_of_a_database_are_read(tmp_path: Path):
    with ase.db.connect(tmp_path / "water.db") as database:
        database.write(water(1.0), key_value_pairs={"reaction": "a"}, data={"REF_forces": np.ones((3, 3))})

    (atoms,) = read_structures(tmp_path / "water.db")

    assert atoms.info["reaction"] == "a"
    assert np.array_equal(atoms.info["REF_forces"], np.ones((3, 3)))
    assert atoms.get_potential_energy() == 1.0


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match="there is no file"):
        list(read_structures(tmp_path / "missing.xyz"))


def test_a_file_that_breaks_off_names_the_structure(tmp_path: Path):
    path = tmp_path / "water.extxyz"
    write(path, [water(1.0), water(2.0)])
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")

    with pytest.raises(UsageError, match=r"water.extxyz, structure \d: ASE cannot read it"):
        list(read_structures(path))


def test_a_file_that_is_no_compressed_file_is_refused(tmp_path: Path):
    (tmp_path / "water.extxyz.xz").write_text("not compressed")

    with pytest.raises(UsageError, match="ASE cannot read it"):
        list(read_structures(tmp_path / "water.extxyz.xz"))


def test_a_file_of_an_unknown_kind_is_refused(tmp_path: Path):
    (tmp_path / "notes.doc").write_text("dear diary")

    with pytest.raises(UsageError, match="ASE cannot read it"):
        list(read_structures(tmp_path / "notes.doc"))


def test_published_data_is_read():
    path = DATA / "3bpa" / "train_300K.extxyz.xz"
    if not path.exists():
        pytest.skip(f"needs {path}")

    energies = [atoms.get_potential_energy() for atoms in read_structures(path)]

    assert len(energies) == 500
    assert energies[0] == -17660.461737861464
