import io
import os
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from lmlp_stream.atoms.structure import LabelledStructure
from lmlp_stream.broker.open import open_log
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.config import Config, WireConfig
from lmlp_stream.errors import UsageError
from lmlp_stream.farm.feeding import FeedOptions, FileChecker, FileReport, publish
from lmlp_stream.wire.record import Limits, decode

CONFIG = Config(wire=WireConfig(level_of_theory="PBE"))
DATA = Path(os.environ.get("LMLP_STREAM_DATA", Path(__file__).parents[3].parent / "shared" / "data"))


def water(energy: float, *, labelled: bool = True) -> Atoms:
    atoms = Atoms("OH2", [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    if labelled:
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((3, 3)))
    return atoms


def nothing() -> None:
    pass


def fed(path: Path, **options: object) -> tuple[FileReport, list[LabelledStructure]]:
    url = f"memory:{path}"
    log = open_log(url, client="test")
    log.ensure(topic_specs(CONFIG.log))
    spool = io.BytesIO()
    report = FileChecker(path, FeedOptions(**options), CONFIG, spool).check(nothing)  # type: ignore[arg-type]
    assert publish(spool, log.sink(), CONFIG.log.structures, nothing) == report.n_accepted
    (partition,) = log.partitions(CONFIG.log.structures)
    read = [decode(message.value, Limits.of(CONFIG.wire)) for message in log.source({partition: 0}).poll(10_000, 0.0)]
    return report, [structure for structure in read if isinstance(structure, LabelledStructure)]


def test_structures_are_published_in_the_order_of_the_file(tmp_path: Path):
    write(tmp_path / "a.extxyz", [water(float(i)) for i in range(25)])

    report, structures = fed(tmp_path / "a.extxyz")

    assert [structure.energy for structure in structures] == list(range(25))
    assert (report.n_structures, report.energy_key, report.forces_key) == (25, "energy", "forces")
    assert len({structure.group for structure in structures}) == 3
    assert {structure.source for structure in structures} == {"feed:a.extxyz"}


def test_the_same_structures_have_the_same_ids_and_groups_in_every_file(tmp_path: Path):
    write(tmp_path / "a.extxyz", [water(float(i)) for i in range(12)])
    write(tmp_path / "b.traj", [water(float(i)) for i in range(12)])

    names = [[(s.id, s.group) for s in fed(tmp_path / name)[1]] for name in ("a.extxyz", "b.traj")]

    assert names[0] == names[1]


def test_a_structure_without_labels_is_refused_with_its_number(tmp_path: Path):
    write(tmp_path / "a.extxyz", [water(1.0), water(2.0, labelled=False), water(3.0)])

    with pytest.raises(
        UsageError, match=r"1 of 3 structures have no labels.*structure 2 lacks energy.*--skip-unlabelled"
    ):
        fed(tmp_path / "a.extxyz")


def test_structures_without_labels_are_passed_over_on_request(tmp_path: Path):
    write(tmp_path / "a.extxyz", [water(1.0), water(2.0, labelled=False), water(3.0)])

    report, structures = fed(tmp_path / "a.extxyz", skip_unlabelled=True)

    assert [structure.energy for structure in structures] == [1.0, 3.0]
    assert report.n_unlabelled == 1


def test_a_structure_the_learner_would_refuse_is_refused_with_its_reason(tmp_path: Path):
    write(tmp_path / "a.extxyz", [water(1.0), Atoms("H2", info={"energy": 1.0})])

    with pytest.raises(UsageError, match=r"1 of 2 structures would be refused.*structure 2: .*--keep-going"):
        fed(tmp_path / "a.extxyz", forces_key="none")


def test_structures_the_learner_would_refuse_are_passed_over_on_request(tmp_path: Path):
    write(tmp_path / "a.extxyz", [Atoms("H2", info={"energy": 1.0}), water(1.0)])

    report, structures = fed(tmp_path / "a.extxyz", keep_going=True, forces_key="none")

    assert [structure.energy for structure in structures] == [1.0]
    assert report.n_refused == 1
    assert report.first_refusal.startswith("structure 1: ")


def test_a_charge_that_is_no_number_is_refused(tmp_path: Path):
    atoms = water(1.0)
    atoms.info["charge"] = "minus one"
    write(tmp_path / "a.extxyz", atoms)

    with pytest.raises(UsageError, match="structure 1: charge or multiplicity cannot be read"):
        fed(tmp_path / "a.extxyz")


def test_an_empty_file_is_refused(tmp_path: Path):
    (tmp_path / "a.extxyz").write_text("")

    with pytest.raises(UsageError, match=r"a\.extxyz"):
        fed(tmp_path / "a.extxyz")


@pytest.mark.parametrize(
    ("name", "n_structures", "domains_from", "groups_from"),
    [
        ("3bpa/train_300K.extxyz.xz", 500, "the chemical formula", "segments of 10 consecutive structures"),
        ("sn2_gfn2/seen27_val.extxyz.xz", 692, "info 'reaction'", "the domain and info 'window'"),
        ("zuo2020/Li_training.extxyz.xz", 241, "info 'element'", "segments of 10 consecutive structures"),
        ("acac/isolated_atoms.xyz", 3, "info 'config_type'", "segments of 10 consecutive structures"),
    ],
)
def test_published_data_is_let_in(name: str, n_structures: int, domains_from: str, groups_from: str):
    if not (DATA / name).exists():
        pytest.skip(f"needs {DATA / name}")

    report, structures = fed(DATA / name)

    assert len(structures) == n_structures == len({structure.id for structure in structures})
    assert list(report.domains_from) == [domains_from]
    assert list(report.groups_from) == [groups_from]
    assert {structure.charge for structure in structures} == ({-1.0} if name.startswith("sn2") else {0.0})
