"""A short run of `python -m tests.fuzz`; the long one is for a night."""

import json

import pytest

from tests.fuzz.__main__ import main
from tests.fuzz.decoders import decoders
from tests.fuzz.run import Findings, run_chunk

N_RECORDS = 3000


@pytest.mark.parametrize("name", list(decoders()))
def test_no_decoder_breaks_under_hostile_records(name: str) -> None:
    findings = [run_chunk((name, number, N_RECORDS // 6), seed=20) for number in range(6)]
    assert [record for found in findings for record in found.crash_records] == []
    assert sum(found.n_let_in for found in findings) > 0
    assert len({reason for found in findings for reason in found.reasons}) >= (1 if name == "journal-entry" else 6)
    assert [fault for found in findings for fault in found.faults()] == []


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (Findings(crashes=2), "2 records made it crash"),
        (Findings(slowest_s=1.5), "a record took 1.50 s, more than 1 s"),
        (Findings(memory_growth_bytes=100 * 2**20), "memory grew by 100 MiB, more than 64 MiB"),
    ],
)
def test_a_decoder_that_crashes_dawdles_or_grows_ends_with_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: Findings, fault: str
) -> None:
    monkeypatch.setattr("tests.fuzz.__main__.fuzz", lambda names, *_: dict.fromkeys(names, found))
    monkeypatch.setattr("sys.argv", ["fuzz", "--decoder", "label-request"])
    assert main() == 1
    assert f"label-request: {fault}\n" == capsys.readouterr().err


def test_the_same_seed_makes_the_same_records() -> None:
    one, other = (run_chunk(("journal-entry", 3, 400), seed=5) for _ in range(2))
    assert (one.n_let_in, one.reasons) == (other.n_let_in, other.reasons)


def test_the_findings_can_be_had_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["fuzz", "--decoder", "label-request", "--records", "400", "--processes", "1", "--json"]
    monkeypatch.setattr("sys.argv", command)
    assert main() == 0
    found = json.loads(capsys.readouterr().out)["decoders"]["label-request"]
    assert found["n_records"] == found["n_let_in"] + sum(found["reasons"].values()) == 400
