import json
from pathlib import Path
from typing import Any

import pytest

from lmlp_stream.cli.report.history import by_domain, energy_rmse, force_rmse, windows
from lmlp_stream.cli.report.reading import HistoryReader, read_history


def arrival(domain: str = "water", error: float | None = 0.1, source: str = "farm") -> dict[str, Any]:
    return {
        "id": f"{domain}/{source}/{error}",
        "domain": domain,
        "source": source,
        "held_out": False,
        "energy_error_ev_per_atom": error,
        "force_squared_error_sum": None if error is None else 9 * error**2,
        "n_force_components": 0 if error is None else 9,
    }


def tick(number: int, *arrivals: dict[str, Any], labels: int = 0) -> dict[str, Any]:
    return {
        "kind": "tick",
        "tick": number,
        "time": 100.0 + number,
        "labels_learned": labels,
        "n_new": len(arrivals),
        "n_duplicates": 0,
        "n_refused": 0,
        "steps": 3,
        "elements": ["H", "O"],
        "arrivals": list(arrivals),
    }


def snapshot(number: int, *, announced: bool = True) -> dict[str, Any]:
    return {
        "kind": "snapshot",
        "tick": number,
        "time": 100.0 + number,
        "labels_learned": number,
        "announced": announced,
        "reasons": [] if announced else ["regression"],
        "errors": {"force_rmse_ev_per_angstrom": 0.2, "energy_rmse_ev_per_atom": None},
        **({"id": f"snapshot-{number}"} if announced else {}),
    }


def written(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "history.jsonl"
    with path.open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)
    return path


def test_without_a_file_there_is_no_history(tmp_path: Path):
    assert read_history(tmp_path / "history.jsonl").ticks == ()


def test_arrivals_are_numbered_through_the_stream(tmp_path: Path):
    path = written(tmp_path, tick(0, arrival(), arrival()), tick(1, arrival(), labels=3))

    history = read_history(path)

    assert [one.index for one in history.arrivals] == [0, 1, 2]
    assert [one.id for one in history.arrivals] == ["water/farm/0.1"] * 3
    assert history.labels_learned == 3
    assert history.steps == 6
    assert history.elements == ("H", "O")


def test_of_a_repeated_tick_the_last_line_counts_and_the_restart_is_noted(tmp_path: Path):
    path = written(
        tmp_path,
        tick(0, arrival(error=0.1)),
        tick(1, arrival(error=0.2)),
        tick(2, arrival(error=0.3)),
        tick(1, arrival(error=0.4)),
    )

    history = read_history(path)

    assert [one.energy_error for one in history.arrivals] == [0.1, 0.4]
    assert history.restarts == (101.0,)


def test_a_snapshot_told_after_a_repeated_tick_is_told_once(tmp_path: Path):
    path = written(tmp_path, tick(0, arrival()), snapshot(1), tick(0, arrival()), snapshot(1), snapshot(2))

    assert [line.id for line in read_history(path).snapshots] == ["snapshot-1", "snapshot-2"]


def test_withheld_snapshots_keep_their_reasons_and_unknown_errors_are_left_out(tmp_path: Path):
    history = read_history(written(tmp_path, tick(0, arrival()), snapshot(1), snapshot(2, announced=False)))

    assert [line.labels_learned for line in history.announced] == [1]
    assert history.snapshots[1].reasons == ("regression",)
    assert history.snapshots[0].errors == {"force_rmse_ev_per_angstrom": 0.2}


def test_a_reader_takes_in_what_was_added_and_waits_for_the_end_of_a_line(tmp_path: Path):
    path = written(tmp_path, tick(0, arrival()))
    reader = HistoryReader(path)
    assert len(reader.read().arrivals) == 1

    line = json.dumps(tick(1, arrival()))
    with path.open("a") as stream:
        stream.write(line[:30])
    assert len(reader.read().arrivals) == 1
    with path.open("a") as stream:
        stream.write(line[30:] + "\n")
    assert len(reader.read().arrivals) == 2


def test_a_torn_line_is_passed_over(tmp_path: Path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"kind": "tick", "ti\n[1]\n')
    written(tmp_path, tick(0, arrival()))

    assert len(read_history(path).ticks) == 1


def test_answers_to_requests_are_known_by_their_source(tmp_path: Path):
    history = read_history(written(tmp_path, tick(0, arrival(), arrival(source="label:simulation"))))

    assert [one.source for one in history.answers] == ["label:simulation"]


def test_errors_are_root_mean_squares_over_what_could_be_predicted(tmp_path: Path):
    arrivals = read_history(written(tmp_path, tick(0, arrival(error=0.3), arrival(error=None), arrival(error=0.4))))

    assert force_rmse(arrivals.arrivals) == pytest.approx(0.125**0.5)
    assert energy_rmse(arrivals.arrivals) == pytest.approx(0.125**0.5)
    assert force_rmse(arrivals.arrivals[1:2]) is None
    assert energy_rmse([]) is None


@pytest.mark.parametrize(("n_arrivals", "n_windows"), [(0, 4), (3, 4), (10, 4), (16, 4)])
def test_windows_hold_every_arrival_once_in_order(tmp_path: Path, n_arrivals: int, n_windows: int):
    arrivals = read_history(written(tmp_path, tick(0, *[arrival()] * n_arrivals))).arrivals

    parts = windows(arrivals, n_windows)

    assert [one for part in parts for one in part] == list(arrivals)
    assert all(parts)


def test_domains_come_in_alphabetical_order_and_an_unnamed_one_is_a_dash(tmp_path: Path):
    arrivals = read_history(written(tmp_path, tick(0, arrival("b"), arrival("a"), arrival(""), arrival("b")))).arrivals

    assert {domain: len(ones) for domain, ones in by_domain(arrivals).items()} == {"a": 1, "b": 2, "—": 1}


def test_verdicts_follow_ticks_and_the_snapshots_after_them(tmp_path: Path):
    path = written(
        tmp_path,
        tick(0, arrival(), arrival()) | {"verdict": "early", "evidence": "few"},
        tick(1, arrival()) | {"verdict": "improving", "evidence": "fell"},
        snapshot(2) | {"verdict": "forgetting", "evidence": "rose"},
        tick(2, arrival()),
        snapshot(4) | {"verdict": "converged", "evidence": "the end"},
    )

    verdicts = read_history(path).verdicts

    assert [(one.n_arrivals, one.verdict, one.evidence) for one in verdicts] == [
        (2, "early", "few"),
        (3, "improving", "fell"),
        (3, "forgetting", "rose"),
        (4, "", ""),
        (4, "converged", "the end"),
    ]


def test_errors_of_parts_are_read_without_what_is_unknown(tmp_path: Path):
    errors = {"force_rmse_ev_per_angstrom": 0.2, "energy_rmse_ev_per_atom": None}
    line = snapshot(1) | {"newest": {"domains": {"water": errors}}, "held_out": {"elements": {"H": errors}}}

    read = read_history(written(tmp_path, tick(0, arrival()), line)).snapshots[0]

    assert read.newest == {"domains": {"water": {"force_rmse_ev_per_angstrom": 0.2}}}
    assert read.held_out == {"elements": {"H": {"force_rmse_ev_per_angstrom": 0.2}}}
