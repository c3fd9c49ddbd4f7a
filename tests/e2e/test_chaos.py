"""The learner is killed, suspended and robbed of its broker, and ends like one that nobody disturbed.

`python -m tests.chaos` takes larger numbers; each of these runs takes about a minute of CPU time.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.failpoints import KINDS, POINTS

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.slow


def chaos(*arguments: str) -> dict[str, Any]:
    """The report of a trial in which nothing differs."""
    command = [sys.executable, "-m", "tests.chaos", "--json", *arguments]
    finished = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False, timeout=900)
    assert finished.stdout, finished.stderr
    report: dict[str, Any] = json.loads(finished.stdout)
    assert report["mismatches"] == []
    assert len(report["late_deeds"]) <= report["suspensions"]
    assert finished.returncode == 0, finished.stderr
    return report


def killed_at(report: dict[str, Any]) -> set[str]:
    """The failpoints at which a learner was killed."""
    return set(report["kills_by_place"]) & set(POINTS)


@pytest.mark.timeout(1000)
def test_fifty_kills_in_five_thousand_labels_on_sqlite_change_no_bit() -> None:
    report = chaos("--log", "sqlite", "--labels", "5000", "--kills", "50", "--suspensions", "5", "--seed", "1")
    assert report["kills"] >= 50
    assert report["suspensions"] == 5
    assert report["damaged_checkpoints"] > 0
    assert killed_at(report) == set(POINTS)
    assert report["kills_by_place"]["any time"] > 0


def test_ticks_of_any_size_are_repeated_as_the_journal_says() -> None:
    report = chaos(
        "--log", "sqlite", "--labels", "1000", "--kills", "25", "--partitions", "3", "--ragged", "--seed", "2"
    )
    assert report["kills"] == 25


@pytest.mark.kafka
@pytest.mark.timeout(1000)
def test_fifteen_kills_in_two_thousand_labels_on_kafka_change_no_bit(kafka_url: str) -> None:
    report = chaos("--log", kafka_url, "--labels", "2000", "--kills", "15", "--suspensions", "3", "--seed", "3")
    assert report["kills"] >= 15
    assert report["suspensions"] == 3
    assert [kind for kind, points in KINDS.items() if not killed_at(report) & set(points)] == []
    assert len(killed_at(report)) >= 10
    assert report["kills_by_place"]["any time"] > 0


@pytest.mark.kafka
@pytest.mark.usefixtures("kafka_url")
def test_a_learner_outlives_a_broker_that_is_killed_and_started_again() -> None:
    report = chaos("--log", "kafka", "--labels", "600", "--kills", "2", "--broker-kills", "2", "--seed", "4")
    assert report["broker_kills"] == 2


@pytest.mark.kafka
@pytest.mark.usefixtures("kafka_url")
def test_a_learner_of_four_partitions_outlives_a_broker_that_answers_nothing_for_a_minute() -> None:
    stall = ("--broker-stalls", "1", "--stall-s", "60", "--partitions", "4", "--ragged")
    report = chaos("--log", "kafka", "--labels", "200", "--kills", "1", *stall, "--seed", "5")
    assert report["broker_stalls"] == 1
    assert report["kills"] == 2
