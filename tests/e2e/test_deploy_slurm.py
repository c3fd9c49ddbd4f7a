"""The batch jobs of deploy/slurm, run by bash as Slurm runs them, with a program that writes down what it is told."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import typer

from lmlp_stream.cli.main import command
from lmlp_stream.farm.labeller import Worker

SLURM = Path(__file__).parents[2] / "deploy" / "slurm"
JOBS = sorted(SLURM.glob("*.sbatch"))
OPTIONS = {"job-name", "array", "dependency", "requeue", "gres", "cpus-per-task", "mem", "time", "signal", "output"}
RECORDER = """#!/usr/bin/env bash
echo "$$ $OMP_NUM_THREADS $*" >> "$RECORD"
for file in "$@"; do [ "${file##*.}" != extxyz ] || cat "$file" >> "$RECORD"; done
"""
CALCULATE = """#!/usr/bin/env bash
echo "calculating" >&2
echo "labels of $(cat "$1")" > "$2"
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a recorder in the place of lmlp-stream and a calculation of the user's own."""
    for name, text in {"lmlp-stream": RECORDER, "calculate": CALCULATE}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for molecule in ("water", "methane"):
        (tmp_path / f"{molecule}.inp").write_text(molecule)
    (tmp_path / "inputs.txt").write_text("water.inp\nmethane.inp\n")
    return tmp_path


def submit(job: str, site: Path, **environment: str) -> tuple[int, str, str, int]:
    """Exit code, what the recorder wrote, stderr, and the process id of the batch shell."""
    path = f"{site}:{os.environ['PATH']}"
    process = subprocess.Popen(
        ["bash", SLURM / job],
        cwd=site,
        env={"PATH": path, "RECORD": str(site / "record"), "TMPDIR": str(site), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )
    _, stderr = process.communicate()
    record = site / "record"
    return process.returncode, record.read_text() if record.exists() else "", stderr, process.pid


@pytest.mark.parametrize("job", JOBS, ids=[job.name for job in JOBS])
def test_the_head_of_a_job_uses_options_that_sbatch_knows(job: Path) -> None:
    head = re.findall(r"^#SBATCH --([a-z-]+)(?:=\S+)?$", job.read_text(), flags=re.MULTILINE)
    assert len(head) == job.read_text().count("#SBATCH ")
    assert set(head) <= OPTIONS


def test_every_verb_that_deploy_names_exists() -> None:
    texts = [path.read_text() for path in [*JOBS, SLURM.parent / "README.md"]]
    verbs = set(re.findall(r"lmlp-stream ([a-z]+)", " ".join(texts)))
    assert {"learn", "label", "feed"} <= verbs
    assert verbs <= typer.main.get_command(command()).commands.keys()


@pytest.mark.parametrize(
    ("job", "arguments"),
    [("learn.sbatch", "learn lmlp.toml"), ("label-workers.sbatch", "label lmlp.toml --worker 3/8")],
)
def test_a_long_job_becomes_its_program_so_that_slurms_signal_ends_it_in_order(
    site: Path, job: str, arguments: str
) -> None:
    code, record, _, shell = submit(
        job, site, CONFIG="lmlp.toml", SLURM_CPUS_PER_TASK="4", SLURM_ARRAY_TASK_ID="3", SLURM_ARRAY_TASK_COUNT="8"
    )
    assert code == 0
    process, told = record.split(maxsplit=1)
    assert int(process) == shell
    assert told.strip().removeprefix("4 ") == arguments


def test_every_task_of_the_label_workers_has_a_share_of_its_own(site: Path) -> None:
    tasks = re.search(r"^#SBATCH --array=1-(\d+)$", (SLURM / "label-workers.sbatch").read_text(), flags=re.MULTILINE)
    assert tasks
    for task in range(1, int(tasks[1]) + 1):
        submit("label-workers.sbatch", site, CONFIG="c", SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_COUNT=tasks[1])
    shares = [Worker.parse(line.split()[-1]) for line in (site / "record").read_text().splitlines()]
    assert len(set(shares)) == shares[0].of == int(tasks[1])


def test_each_task_of_the_array_publishes_its_own_calculation_and_leaves_nothing_behind(site: Path) -> None:
    environment = {
        "CONFIG": "lmlp.toml",
        "INPUTS": "inputs.txt",
        "CALCULATE": "./calculate",
        "SLURM_CPUS_PER_TASK": "4",
    }
    before = set(site.iterdir())
    for task, molecule in (("1", "water"), ("2", "methane")):
        (site / "record").unlink(missing_ok=True)
        code, record, _, _ = submit("feed-array.sbatch", site, SLURM_ARRAY_TASK_ID=task, **environment)
        assert code == 0
        _, threads, verb, config, file = record.splitlines()[0].split()
        assert (threads, verb, config) == ("4", "feed", "lmlp.toml")
        assert file.endswith(".extxyz")
        assert record.splitlines()[1] == f"labels of {molecule}"
    assert set(site.iterdir()) - before == {site / "record"}


def test_a_failed_calculation_publishes_nothing_and_fails_the_task(site: Path) -> None:
    environment = {"CONFIG": "lmlp.toml", "INPUTS": "inputs.txt", "CALCULATE": "false", "SLURM_ARRAY_TASK_ID": "1"}
    code, record, _, _ = submit("feed-array.sbatch", site, **environment)
    assert code != 0
    assert record == ""


def test_a_task_beyond_the_list_of_inputs_says_where_to_look(site: Path) -> None:
    environment = {"CONFIG": "lmlp.toml", "INPUTS": "inputs.txt", "CALCULATE": "./calculate"}
    code, record, stderr, _ = submit("feed-array.sbatch", site, SLURM_ARRAY_TASK_ID="3", **environment)
    assert (code, record) == (2, "")
    assert "line 3 of inputs.txt is empty; see --array" in stderr


@pytest.mark.parametrize("job", JOBS, ids=[job.name for job in JOBS])
def test_a_job_without_a_configuration_says_what_is_missing_before_it_works(site: Path, job: Path) -> None:
    environment = {"INPUTS": "inputs.txt", "CALCULATE": "./calculate", "SLURM_ARRAY_TASK_ID": "1"}
    code, record, stderr, _ = submit(job.name, site, **environment)
    assert code != 0
    assert record == ""
    assert "CONFIG: is the TOML file of the learner" in stderr
    assert "calculating" not in stderr
