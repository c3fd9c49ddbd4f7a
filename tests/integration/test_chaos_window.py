"""The chaos suite forgives a fenced learner one deed: the one it had asked for when it fell asleep."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.trial import Report

ROOT = Path(__file__).parents[2]
SAVED = {("store/checkpoints/chaos/0000000007/header.json", 1), ("store/checkpoints/chaos/0000000007/state", 1)}
TOLD = {("0", 3)}

STEPS = """
import json
import sys
from pathlib import Path

from lmlp_stream.broker.log import TopicSpec
from lmlp_stream.broker.sqlite import SqliteLog
from lmlp_stream.store import checkpoint
from lmlp_stream.store.lock import sole_owner
from tests.chaos.failpoints import wrap
from tests.chaos.window import Window

folder, window, seen = Path(sys.argv[1]), Window(), {}

def look(name):
    return lambda *_arguments, **_named: seen.setdefault(name, bool(window))

log = SqliteLog(folder / "log.db")
log.ensure([TopicSpec("t.v1")])
sink = log.sink()
window.watch()
wrap(checkpoint, "save_file", before=look("writing the state"))
wrap(Path, "rename", before=look("renaming"))
with sole_owner(folder / "checkpoints") as hold:
    look("in the beginning")()
    hold.confirm()
    look("asked")()
    checkpoint.Checkpoints(folder / "checkpoints", 3).save({}, {}, confirm=hold.confirm)
    look("saved")()
    hold.confirm()
    sink.send("t.v1", key=b"k", value=b"v")
    look("sent")()
    sink.flush()
    look("flushed")()
print(json.dumps(seen))
"""

SABOTAGE = """
import json
import signal
import sys
from pathlib import Path

from lmlp_stream.service.history import History
from lmlp_stream.service.loop import _Conductor
from tests.chaos.failpoints import POINTS, _around
from tests.chaos.nursery import Ambush
from tests.chaos.trial import Plan, Trial

_Conductor._confirm = lambda self: None
POINTS["learned"] = _around(History, "append", "after")
plan = Plan(url="", labels=160, kills=0, suspensions=1, partitions=1, ragged=False, seed=5)
trial = Trial(plan, Path(sys.argv[1]), {})
victim, learner = trial._victim, trial._victim.learner
victim.learner = lambda *arguments, **_ambush: learner(
    *arguments, ambush=None if arguments else Ambush("learned", 1, signal.SIGSTOP)
)
trial._feed_up_to(64)
trial._suspend_one("")
print(json.dumps(trial.report.named()))
"""


def run(script: str, folder: Path) -> dict[str, Any]:
    finished = subprocess.run(
        [sys.executable, "-c", script, str(folder)], cwd=ROOT, text=True, capture_output=True, check=False, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


def test_the_window_is_open_from_the_asking_to_the_deed_and_not_while_anything_else_is_done(tmp_path: Path) -> None:
    assert run(STEPS, tmp_path) == {
        "in the beginning": False,
        "asked": True,
        "writing the state": False,
        "renaming": True,
        "saved": False,
        "sent": True,
        "flushed": False,
    }


def test_a_fenced_learner_that_saves_without_asking_is_found_wherever_it_slept(tmp_path: Path) -> None:
    report = run(SABOTAGE, tmp_path)
    assert report["suspensions_by_place"] == {"any time": 1}
    assert report["late_deeds"] == []
    (mismatch,) = report["mismatches"]
    assert "a fenced learner (asleep at any time, in_window=False) wrote" in mismatch


@pytest.mark.parametrize(
    ("place", "in_window", "added", "forgiven"),
    [
        ("any time", True, SAVED, True),
        ("any time", True, TOLD, True),
        ("checkpoint.rename", True, SAVED, True),
        ("any time", False, SAVED, False),
        ("any time", True, SAVED | TOLD, False),
        ("announce.send", False, TOLD, False),
        ("fsync", True, SAVED, False),
        ("idle", True, SAVED, False),
    ],
)
def test_one_deed_that_was_asked_for_is_late_and_every_other_is_a_mismatch(
    place: str, in_window: bool, added: set[tuple[str, int]], forgiven: bool
) -> None:
    report = Report(log="sqlite", labels=0, records=0)
    report.note_woken(place, in_window=in_window, added=set())
    assert not report.late_deeds + report.mismatches
    report.note_woken(place, in_window=in_window, added=added)
    assert (len(report.late_deeds), len(report.mismatches)) == ((1, 0) if forgiven else (0, 1))
