"""A wrong label is let in, condemned later with its own address, and learned after all once somebody redrives it."""

import json
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from lmlp_stream.broker.open import open_log
from lmlp_stream.service.dead_letters import dead_letters
from lmlp_stream.wire.record import encode
from tests.integration.conftest import Learning, stream

WRONG = 60
ONE_KIND = ("quarantine.enabled=true", "learning.steps_per_record=0.5")


def wrong_records() -> list[bytes]:
    """Labels of one molecule; the energy of one of them is 20 eV too high."""
    structures = [structure for structure in stream(360) if structure.domain == "H2O"]
    structures[WRONG] = replace(structures[WRONG], energy=structures[WRONG].energy + 20.0)
    return [encode(structure) for structure in structures]


def balance(finished: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert finished.returncode == 0, finished.stderr
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def test_a_condemned_label_is_a_dead_letter_once_and_is_learned_when_it_is_redriven(
    learning: Any, publish: Any, request: pytest.FixtureRequest, backend: str
) -> None:
    url = () if backend == "sqlite" else (f"log.url={request.getfixturevalue('kafka_url')}", "log.prefix=condemning")
    run: Learning = learning(settings=(*ONE_KIND, *url))
    with closing(open_log(run.config.log.url, client="test")) as log:
        publish(run.config, log, wrong_records())
        learned = balance(run.learn("--until-end", "--json"))
        (letter,) = dead_letters(log, run.config.log.dead_letters)
        assert (letter.reason, letter.offset) == ("inconsistent_label", WRONG)
        assert letter.value == wrong_records()[WRONG]
        assert letter.timestamp_ms > 0
        assert learned["n_condemned"] == 1
        assert sum(learned[name] for name in ("n_learned", "n_held_out", "n_unlearned")) == 90

        redrive = [part for setting in (*ONE_KIND, *url) for part in ("--set", setting)]
        command = [sys.executable, "-m", "lmlp_stream.cli.main", "dead-letters", "redrive", str(run.path), *redrive]
        assert subprocess.run(command, check=False, capture_output=True, timeout=120).returncode == 0
        again = balance(run.learn("--until-end", "--json"))
        assert (again["n_learned"] + again["n_held_out"], again["n_duplicates"], again["n_condemned"]) == (1, 0, 0)
        assert len(list(dead_letters(log, run.config.log.dead_letters))) == 1
