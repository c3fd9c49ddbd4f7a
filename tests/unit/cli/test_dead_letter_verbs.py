import json
import sys
from dataclasses import replace
from pathlib import Path

import msgpack
import numpy as np
import pytest

from lmlp_stream.broker.log import Message, Partition
from lmlp_stream.broker.open import open_log
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.cli.main import main
from lmlp_stream.config import load_config
from lmlp_stream.service.refusals import Refusals
from lmlp_stream.wire.arrays import packed
from lmlp_stream.wire.dead_letter import MAX_KEPT_BYTES, encode_dead_letter
from lmlp_stream.wire.examples import dead_letter
from lmlp_stream.wire.rejection import Reason, Rejection

TOPIC = "lmlp.structures.v1"
HUGE = b"\x92" * (MAX_KEPT_BYTES + 5)
READABLE = msgpack.packb(
    {
        "schema_name": "labelled-structure",
        "id": "a\x1b[2J",
        "energy": float("nan"),
        "forces": packed(np.array([[1.0, np.inf, 0.5]]), "<f8"),
        "cell": {"d": "<f8", "s": [3, 3], "b": b"short"},
    }
)
RECORDS = {b"k0": b"\xc1 not msgpack", b"k1": READABLE, b"k2": HUGE}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lmlp-stream", "dead-letters", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def published(path: Path) -> list[Message]:
    log = open_log(load_config(path).log.url, client="test")
    return log.source(dict.fromkeys(log.partitions(TOPIC), 0)).poll(1000, 0.0)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A log in memory with three refused records of one partition."""
    path = tmp_path / "config.toml"
    path.write_text(f'[log]\nurl = "memory:{tmp_path}"\n')
    read = load_config(path)
    log = open_log(read.log.url, client="test")
    log.ensure(topic_specs(read.log))
    refusals = Refusals(read, log, None)
    sink = log.sink()
    reasons = (Reason.NOT_MSGPACK, Reason.NOT_FINITE, Reason.TOO_LARGE)
    for offset, (reason, (key, value)) in enumerate(zip(reasons, RECORDS.items(), strict=True)):
        sink.send(TOPIC, key=key, value=value)
        message = Message(Partition(TOPIC, 0), offset, key, value, (), 1_700_000_000_500)
        refusals.refuse(message, Rejection(reason, f"detail {offset}"))
    refusals.flush()
    return path


def test_the_list_says_reason_address_time_and_detail(monkeypatch, capsys, config: Path):
    assert run(monkeypatch, "list", config) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["2023-11-14T22:13:20.500Z", "not_finite", f"{TOPIC}/0/1", "detail", "1"]
    assert total == "3 dead letters: not_msgpack 1, not_finite 1, too_large 1"


def test_the_list_of_one_reason_in_json(monkeypatch, capsys, config: Path):
    assert run(monkeypatch, "list", config, "--reason", "too_large", "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["n_letters"], figures["by_reason"]) == (1, {"too_large": 1})
    letter = figures["letters"][0]
    assert (letter["topic"], letter["partition"], letter["offset"]) == (TOPIC, 0, 2)
    assert (letter["detail"], letter["time"], letter["n_bytes"]) == ("detail 2", "2023-11-14T22:13:20.500Z", len(HUGE))


def test_no_letters_are_said(monkeypatch, capsys, tmp_path: Path):
    path = tmp_path / "config.toml"
    path.write_text(f'[log]\nurl = "memory:{tmp_path}"\n')
    assert run(monkeypatch, "list", path) == 0
    assert capsys.readouterr().out == "0 dead letters\n"


def test_the_fields_of_a_readable_record_are_shown_and_move_no_cursor(monkeypatch, capsys, config: Path):
    assert run(monkeypatch, "show", config, f"{TOPIC}/0/1") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert '"a\\u001b[2J"' in out
    assert '[[1.0, "inf", 0.5]]' in out

    assert run(monkeypatch, "show", config, f"{TOPIC}/0/1", "--json") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["fields"]["energy"] == "nan"
    assert figures["fields"]["cell"] == "a map"
    assert "hexdump" not in figures


def test_the_first_bytes_of_anything_else_are_shown(monkeypatch, capsys, config: Path):
    assert run(monkeypatch, "show", config, f"{TOPIC}/0/0") == 0
    assert "00000000  c1 20 6e 6f 74 20 6d 73 67 70 61 63 6b           . not msgpack" in capsys.readouterr().out


def test_the_raw_bytes_of_a_cut_letter_are_written_whole(monkeypatch, capsys, config: Path, tmp_path: Path):
    assert run(monkeypatch, "show", config, f"{TOPIC}/0/2", "--output", tmp_path / "raw") == 0
    assert (tmp_path / "raw").read_bytes() == HUGE
    assert f"wrote {len(HUGE)} bytes" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["show", "{config}", "a/0/9"], ["redrive", "{config}", "--address", "a/0/9"]])
def test_an_address_without_a_letter_ends_with_code_2(monkeypatch, capsys, config: Path, verb: list[str]):
    assert run(monkeypatch, *[part.format(config=config) for part in verb]) == 2
    assert "no dead letter tells of 'a/0/9'" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["list", "redrive"])
def test_a_reason_that_nobody_gives_ends_with_code_2_and_the_reasons_there_are(
    monkeypatch, capsys, config: Path, verb: str
):
    assert run(monkeypatch, verb, config, "--reason", "too_large", "--reason", "bogus") == 2
    said = capsys.readouterr()
    assert "--reason bogus: there is no such reason; there are bad_array, bad_cell," in said.err
    assert said.out == ""
    assert len(published(config)) == 3


def test_a_reason_that_only_a_newer_learner_gives_is_one(monkeypatch, capsys, config: Path):
    log = open_log(load_config(config).log.url, client="test")
    letter = replace(dead_letter(), reason="invented_later")
    log.sink().send(load_config(config).log.dead_letters, key=b"", value=encode_dead_letter(letter))
    assert run(monkeypatch, "list", config, "--reason", "invented_later") == 0
    assert capsys.readouterr().out.endswith("1 dead letter: invented_later 1\n")


def test_an_address_that_was_refused_for_another_reason_is_told_so(monkeypatch, capsys, config: Path):
    asked = ("--address", f"{TOPIC}/0/1", "--reason", "too_large")
    assert run(monkeypatch, "redrive", config, *asked) == 2
    assert f"{TOPIC}/0/1 was refused for another reason, not_finite: add --reason not_finite" in capsys.readouterr().err
    assert len(published(config)) == 3


def test_a_dry_run_publishes_nothing(monkeypatch, capsys, config: Path):
    assert run(monkeypatch, "redrive", config, "--dry-run") == 0
    assert capsys.readouterr().out == "would redrive 3 messages; 0 had been redriven before, 0 cannot be\n"
    assert len(published(config)) == 3


def test_each_message_is_redriven_once_byte_for_byte(monkeypatch, capsys, config: Path):
    assert run(monkeypatch, "redrive", config, "--reason", "too_large", "--json") == 0
    assert json.loads(capsys.readouterr().out)["redriven"] == [f"{TOPIC}/0/2"]
    assert run(monkeypatch, "redrive", config, "--json") == 0
    assert json.loads(capsys.readouterr().out)["n_redriven_before"] == 1
    assert run(monkeypatch, "redrive", config, "--json") == 0
    assert json.loads(capsys.readouterr().out)["n_redriven"] == 0

    again = published(config)[3:]
    assert {message.key: message.value for message in again} == RECORDS
    assert [dict(message.headers)["lmlp.redriven-from"] for message in again] == [
        f"{TOPIC}/0/{offset}".encode() for offset in (2, 0, 1)
    ]
