import json
import subprocess
import sys
from math import isfinite
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from lmlp_stream.cli.bench.ingest import let_in
from lmlp_stream.cli.bench.settings import BenchSettings
from lmlp_stream.cli.bench.timing import Elapsed, repeated, speed
from lmlp_stream.cli.bench.workload import workload
from lmlp_stream.cli.main import main
from lmlp_stream.errors import UsageError
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.wire.record import encode

SPEED = ("structures_per_cpu_s", "structures_per_s", "atoms_per_cpu_s", "cpu_ms_per_structure")
FIGURES = (*SPEED, *(f"{name}_median" for name in SPEED), "n_repeats", "peak_rss_mb")
TINY = ("--repeats", 2, "--seconds", 0)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lmlp-stream", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def settings(batch: int) -> BenchSettings:
    return BenchSettings(
        structures=None,
        members=1,
        batch=batch,
        device="cpu",
        threads=1,
        preset="published",
        dtype="float32",
        elements="published",
        repeats=1,
        seconds=0.0,
    )


@pytest.fixture
def water(tmp_path: Path) -> Path:
    atoms = Atoms("OHH", [[0.0, 0.0, 0.0], [0.0, 0.76, 0.59], [0.0, -0.76, 0.59]])
    atoms.calc = SinglePointCalculator(atoms, energy=-2080.0, forces=np.zeros((3, 3)))
    path = tmp_path / "water.extxyz"
    write(path, [atoms, atoms])
    return path


@pytest.mark.parametrize("verb", ["train", "infer", "descriptor", "optimizer"])
def test_every_figure_is_there_and_positive(monkeypatch, capsys, water: Path, verb: str):
    options = ("--members", 2, "--batch", 2, "--preset", "published", "--structures", water)

    assert run(monkeypatch, "bench", verb, *options, *TINY, "--json") == 0

    figures = json.loads(capsys.readouterr().out)
    assert figures["bench"] == verb
    assert (figures["members"], figures["batch"], figures["n_repeats"]) == (2, 2, 2)
    for name in FIGURES:
        assert isfinite(figures[name]), name
        assert figures[name] > 0, name
    assert figures["structures_per_cpu_s"] >= figures["structures_per_cpu_s_median"]
    assert figures["atoms_per_cpu_s"] == pytest.approx(3 * figures["structures_per_cpu_s"])


def test_predictions_are_measured_with_a_linear_part_that_was_fitted(monkeypatch, capsys):
    measured, folded = [], Ensemble.folded
    monkeypatch.setattr(Ensemble, "folded", lambda self: measured.append(self.linear.is_fitted) or folded(self))

    assert run(monkeypatch, "bench", "infer", "--members", 2, *TINY, "--json") == 0

    assert measured == [True]


def test_energies_far_from_each_other_do_not_diverge(monkeypatch, capsys, tmp_path: Path, water: Path):
    hydrogen = Atoms("H", [[0.0, 0.0, 0.0]])
    hydrogen.calc = SinglePointCalculator(hydrogen, energy=-13.6, forces=np.zeros((1, 3)))
    path = tmp_path / "mixed.extxyz"
    write(path, [*20 * read(water, ":"), hydrogen])
    options = ("--members", 1, "--batch", 41, "--preset", "published", "--structures", path, "--json")

    assert run(monkeypatch, "bench", "train", *options, *TINY) == 0, capsys.readouterr().err


def test_core_is_compared_with_both_kinds_of_adam(monkeypatch, capsys, water: Path):
    assert run(monkeypatch, "bench", "optimizer", "--members", 1, "--structures", water, *TINY, "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["ratio"] == pytest.approx(figures["cpu_ms_per_step"] / figures["adam_cpu_ms_per_step"])
    assert figures["ratio_fused"] == pytest.approx(figures["cpu_ms_per_step"] / figures["adam_fused_cpu_ms_per_step"])


@pytest.mark.parametrize("processes", [1, 2])
def test_ingest_needs_no_torch(processes: int):
    program = (
        "import sys\n"
        "from lmlp_stream.cli.main import main\n"
        "if __name__ == '__main__':\n"
        f"    sys.argv = ['lmlp-stream', 'bench', 'ingest', '--processes', '{processes}', '--repeats', '1', "
        "'--seconds', '0', '--json']\n"
        "    try:\n        main()\n"
        "    except SystemExit as end:\n        assert not end.code, end.code\n"
        "    assert 'torch' not in sys.modules\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["bench"], figures["processes"]) == ("ingest", processes)
    assert all(isfinite(figures[name]) and figures[name] > 0 for name in FIGURES)
    assert figures["atoms_per_cpu_s"] == pytest.approx(20 * figures["structures_per_cpu_s"])


@pytest.mark.parametrize("verb", ["train", "infer", "descriptor", "optimizer"])
def test_elements_beyond_xenon_need_the_option(monkeypatch, capsys, tmp_path: Path, verb: str):
    gold = Atoms("Au2", [[0.0, 0.0, 0.0], [0.0, 0.0, 2.5]])
    gold.calc = SinglePointCalculator(gold, energy=-3.0, forces=np.zeros((2, 3)))
    write(tmp_path / "gold.extxyz", gold)
    options = ("--members", 1, "--batch", 2, "--structures", tmp_path / "gold.extxyz", *TINY)

    assert run(monkeypatch, "bench", verb, *options) == 2
    assert "gold.extxyz contains Au, beyond Xe; --elements extended lets them in" in capsys.readouterr().err
    assert run(monkeypatch, "bench", verb, *options, "--elements", "extended") == 0


def test_figures_are_for_people_too(monkeypatch, capsys, water: Path):
    assert run(monkeypatch, "bench", "descriptor", "--structures", water, *TINY) == 0
    assert "cpu_ms_per_structure" in capsys.readouterr().out


def test_a_record_the_door_refuses_is_no_measurement():
    with pytest.raises(UsageError, match="refuses"):
        let_in([b"nonsense"])


def test_a_known_id_is_no_measurement():
    record = encode(workload(None, 1)[0])
    with pytest.raises(UsageError, match="came twice"):
        let_in([record, record])


def test_a_device_that_is_not_there_ends_with_code_2(monkeypatch, capsys, water: Path):
    assert run(monkeypatch, "bench", "infer", "--structures", water, "--device", "abacus", *TINY) == 2
    assert "abacus" in capsys.readouterr().err


def test_a_file_without_labels_ends_with_code_2(monkeypatch, capsys, tmp_path: Path):
    write(tmp_path / "bare.xyz", Atoms("CO", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.13]]))
    assert run(monkeypatch, "bench", "ingest", "--structures", tmp_path / "bare.xyz", *TINY) == 2
    assert "structure 1 lacks" in capsys.readouterr().err


def test_an_empty_file_ends_with_code_2(monkeypatch, capsys, tmp_path: Path):
    (tmp_path / "empty.extxyz").touch()
    assert run(monkeypatch, "bench", "ingest", "--structures", tmp_path / "empty.extxyz", *TINY) == 2
    assert "empty.extxyz" in capsys.readouterr().err


def test_built_in_structures_are_distinct_and_have_twenty_atoms_of_four_elements():
    structures = workload(None, 5)
    assert {structure.n_atoms for structure in structures} == {20}
    assert {int(z) for structure in structures for z in structure.atomic_numbers} == {1, 6, 7, 8}
    assert len({structure.id for structure in structures}) == 5


def test_a_short_file_is_gone_through_again(water: Path):
    assert [structure.n_atoms for structure in workload(water, 5)] == [3] * 5


@pytest.mark.parametrize(("batch", "n_structures"), [(1, 32), (10, 40), (32, 128)])
def test_a_repeat_is_made_of_whole_batches(batch: int, n_structures: int):
    assert settings(batch).n_structures == n_structures


def test_the_first_call_is_not_kept():
    calls = iter(range(10))
    assert repeated(lambda: next(calls), repeats=3, seconds=0.0) == [1, 2, 3]


def test_figures_follow_from_the_times():
    times = [Elapsed(cpu_s=cpu_s, wall_s=2.0 * cpu_s) for cpu_s in (0.2, 0.1, 0.4)]

    figures = speed(times, n_structures=10, n_atoms=200)

    assert figures["structures_per_cpu_s"] == pytest.approx(100.0)
    assert figures["structures_per_s"] == pytest.approx(50.0)
    assert figures["atoms_per_cpu_s_median"] == pytest.approx(200 / median([0.2, 0.1, 0.4]))
    assert figures["cpu_ms_per_structure_median"] == pytest.approx(20.0)
