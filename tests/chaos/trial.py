"""One trial: an undisturbed learner, a learner that is killed all its life, and what differs between the two."""

import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.ambushes import AMBUSH_SHARE, Ambushes
from tests.chaos.arena import RAGGED, RECORDS_PER_TICK, STEADY, Arena, Cadence
from tests.chaos.failpoints import ONLY_SQLITE, POINTS
from tests.chaos.nursery import Ambush, Child
from tests.chaos.stream import Stream, stream

PATIENCE_S = 180.0
DAMAGE_SHARE = 0.1
EARLY_SHARE = 0.2
LIFE_S = 0.4
BIRTH_S = 0.15
IDLE_TIMES = 40
BURST = 25
WINDOWS = ("announce.send", "announce.sent", "checkpoint.rename", "dead-letter.sent", "any time")
"""Where a learner may just have asked whether it is still the one writer, and does what it asked for when it wakes: no
log and no file system makes asking and doing one deed. Whether it had is known from its `Window`; a deed that it had
not asked for, or a second one, is a mismatch. A late deed is what the successor does too: the same snapshot under the
same id, a checkpoint of the same journal, the dead letter of the same record. The final comparison sees to that."""
SLEEPS = tuple(point for point in POINTS if point not in ONLY_SQLITE)
"""Where a learner is put to sleep."""
SAME = ("state_sha256", "labels_learned", "n_steps", "snapshot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is asked of a trial.

    Attributes:
        url: Log of the learner that is killed; empty: an SQLite file.
        labels: Different labels in the stream.
        kills: SIGKILLs at least.
        suspensions: SIGSTOPs after which another learner takes over.
        partitions: Of the structures topic.
        ragged: Ticks take what happens to be there; the undisturbed learner then follows the victim's journal.
        seed: Of the stream, the learner and the plan.
    """

    url: str
    labels: int
    kills: int
    suspensions: int
    partitions: int
    ragged: bool
    seed: int


@dataclass(slots=True)
class Report:
    """What happened, and what should not have."""

    log: str
    labels: int
    records: int
    kills: int = 0
    kills_by_place: Counter[str] = field(default_factory=Counter)
    suspensions: int = 0
    suspensions_by_place: Counter[str] = field(default_factory=Counter)
    damaged_checkpoints: int = 0
    broker_kills: int = 0
    broker_stalls: int = 0
    ticks: int = 0
    ticks_learned: int = 0
    state_sha256: str = ""
    late_deeds: list[str] = field(default_factory=list)
    mismatches: list[str] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0

    def note_woken(self, place: str, *, in_window: bool, added: set[tuple[str, int]]) -> None:
        """Judge what a fenced learner wrote after it woke: `Arena.possessions` that were not there before."""
        deeds = {Path(name).parent.name or name for name, _ in added}
        if len(deeds) == 1 and in_window and place in WINDOWS:
            self.late_deeds.append(f"asleep at {place}: {sorted(added)}")
        elif deeds:
            self.mismatches.append(f"a fenced learner (asleep at {place}, {in_window=}) wrote {sorted(added)}")

    def named(self) -> dict[str, Any]:
        places = {"kills_by_place": dict(self.kills_by_place), "suspensions_by_place": dict(self.suspensions_by_place)}
        return {**asdict(self), **places, "n_mismatches": len(self.mismatches)}


class Trial:
    """A victim and its fate."""

    def __init__(self, plan: Plan, folder: Path, harm: Mapping[str, Callable[[], None]]) -> None:
        self._plan = plan
        self._folder = folder
        self._random = Random(plan.seed)
        self._stream: Stream = stream(plan.labels, plan.seed)
        self._fed = 0
        self._due = 0
        self._damaged_at = 0
        self._harm = harm
        self._ambushes = Ambushes(self._random, [point for point in POINTS if not (plan.url and point in ONLY_SQLITE)])
        self._victim = self._arena("victim", plan.url, RAGGED if plan.ragged else STEADY)
        kind = (plan.url.partition(":")[0] or "sqlite") + (" ragged" if plan.ragged else "")
        self.report = Report(log=kind, labels=plan.labels, records=len(self._stream.records))

    def run(self, *, broker_kills: int = 0, broker_stalls: int = 0) -> Report:
        """Play the trial through."""
        began = time.monotonic()
        n_ambushes = round(AMBUSH_SHARE * self._plan.kills)
        fates = ["ambush"] * n_ambushes + ["kill"] * (self._plan.kills - n_ambushes)
        fates += ["suspend"] * self._plan.suspensions + ["break"] * broker_kills + ["stall"] * broker_stalls
        self._random.shuffle(fates)
        for number, fate in enumerate(fates):
            self._due = len(self._stream.records) * (number + 1) // (len(fates) + 1)
            if not self._plan.ragged:
                self._feed_up_to(self._due)
            if fate == "ambush":
                self._ambush_one()
            elif fate == "kill":
                self._kill_one()
            elif fate == "suspend":
                self._suspend_one(self._random.choice(SLEEPS) if self._random.random() < 0.7 else "")
            else:
                self._outlive_the_broker(fate)
            self._damage_sometimes()
        self._feed_up_to(len(self._stream.records))
        ended = self._victim.learn_to_the_end(timeout_s=PATIENCE_S)
        self._compare(ended)
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        self.report.cpu_s = round(sum(each.ru_utime + each.ru_stime for each in used), 1)
        self.report.wall_s = round(time.monotonic() - began, 1)
        return self.report

    def _arena(self, name: str, url: str, cadence: Cadence, like: Arena | None = None) -> Arena:
        return Arena(
            self._folder / name,
            url=url,
            prefix=like.config.log.prefix if like else f"chaos{self._plan.seed}-{time.time_ns() % 10**9}",
            partitions=self._plan.partitions,
            cadence=cadence,
            seed=self._plan.seed,
        )

    def _feed_up_to(self, end: int) -> None:
        if end > self._fed:
            self._victim.feed(self._stream.records[self._fed : end])
            self._fed = end

    def _drip(self, child: Child) -> None:
        """Feed what this life is to learn, burst by burst, each while the learner has nothing else to do."""
        while self._fed < self._due and child.alive() and not child.stopped():
            self._feed_up_to(min(self._due, self._fed + self._random.randint(1, BURST)))
            self._until(child, self._growth(child), lambda: False)
        self._feed_up_to(self._due)

    def _growth(self, child: Child) -> Callable[[], bool]:
        """Whether the learner learned something since now, or will not."""
        size, ended = self._victim.history_size, self._ended(child)
        return lambda: ended() or self._victim.history_size > size

    def _ambush_one(self) -> None:
        """A learner that is killed at a failpoint."""
        ambush = self._ambushes.next()
        child = self._victim.learner(*self._pace(), ambush=ambush)
        self._drip(child)
        reached = self._until(child, self._ended(child), self._idle)
        self._ambushes.happened(reached=reached)
        self._end(child, ambush.point if reached else "idle")

    def _kill_one(self) -> None:
        """A learner that is killed at any time."""
        child = self._victim.learner(*self._pace())
        self._drip(child)
        early = self._random.random() < EARLY_SHARE
        self._let_live(child, early=early)
        self._end(child, "birth" if early else "any time")

    def _pace(self) -> tuple[str, ...]:
        """With ragged ticks a life saves never or always, so that long replays are killed between two checkpoints."""
        if not self._plan.ragged:
            return ()
        return ("--set", f"service.checkpoint_every_s={self._random.choice((0.0001, 3600.0))}")

    def _end(self, child: Child, place: str) -> None:
        child.kill()
        if child.status == -signal.SIGKILL:
            self.report.kills += 1
            self.report.kills_by_place[place] += 1
        else:
            self.report.mismatches.append(f"a learner ended by itself ({child.status}): {child.said.read_text()}")

    def _let_live(self, child: Child, *, early: bool) -> None:
        if early:
            time.sleep(self._random.uniform(0.0, BIRTH_S))
            return
        if self._until(child, self._growth(child), self._idle):
            time.sleep(self._random.uniform(0.0, LIFE_S))

    def _idle(self) -> bool:
        return self._victim.idle(self._fed)

    def _until(self, child: Child, reached: Callable[[], bool], idle: Callable[[], bool]) -> bool:
        """Whether the condition was met before there was nothing to do for a while."""
        deadline = time.monotonic() + PATIENCE_S
        n_times = 0
        while not reached():
            n_times = n_times + 1 if idle() else 0
            if n_times > IDLE_TIMES:
                return False
            if time.monotonic() > deadline:
                self.report.mismatches.append(f"a learner did nothing for {PATIENCE_S} s: {child.said.read_text()}")
                return False
            time.sleep(0.01)
        return True

    @staticmethod
    def _ended(child: Child) -> Callable[[], bool]:
        return lambda: not child.alive() or child.stopped()

    def _suspend_one(self, point: str) -> None:
        """A learner that is suspended while another takes over: when it wakes it is fenced."""
        ambush = Ambush(point, self._random.randint(1, 4), signal.SIGSTOP) if point else None
        sleeper = self._victim.learner(ambush=ambush)
        self._drip(sleeper)
        place = point or "any time"
        if ambush is None:
            self._let_live(sleeper, early=False)
        elif not self._until(sleeper, self._ended(sleeper), self._idle):
            place = "idle"
        self._victim.put_to_sleep(sleeper)
        self._feed_up_to(min(len(self._stream.records), self._fed + 2 * RECORDS_PER_TICK))
        successor = self._victim.learner("--take-over")
        self._let_live(successor, early=False)
        self._end(successor, "after a takeover")
        before, in_window = self._victim.possessions(), bool(sleeper.window)
        sleeper.send(signal.SIGCONT)
        status = sleeper.wait(PATIENCE_S)
        self.report.suspensions += 1
        self.report.suspensions_by_place[place] += 1
        said = sleeper.said.read_text()
        if status != 5 or "taken over" not in said:
            self.report.mismatches.append(f"a fenced learner (asleep at {place}) ended with {status}: {said}")
        self.report.note_woken(place, in_window=in_window, added=self._victim.possessions() - before)

    def _outlive_the_broker(self, fate: str) -> None:
        """A learner whose broker is killed and started again, or stalls."""
        child = self._victim.learner()
        self._drip(child)
        self._let_live(child, early=False)
        self._harm[fate]()
        self.report.broker_kills += fate == "break"
        self.report.broker_stalls += fate == "stall"
        self._until(child, self._ended(child), self._idle)
        self._end(child, "after a broken broker" if fate == "break" else "after a stalled broker")

    def _damage_sometimes(self) -> None:
        saved = self._victim.checkpoints
        newest = int(saved[-1].name) if saved else 0
        if len(saved) >= 3 and newest >= self._damaged_at + 2 and self._random.random() < DAMAGE_SHARE:
            self._victim.damage(self._random.getrandbits(32))
            self._damaged_at = newest
            self.report.damaged_checkpoints += 1

    def _compare(self, ended: dict[str, Any]) -> None:
        """Note everything in which the victim differs from a learner that nobody disturbed."""
        if self._plan.ragged:
            calm = self._arena("calm", self._victim.config.log.url, RAGGED, like=self._victim)
        else:
            calm = self._arena("calm", "", STEADY)
            calm.feed(self._stream.records)
        undisturbed = calm.learn_to_the_end(timeout_s=PATIENCE_S)
        report = self.report
        report.state_sha256 = undisturbed["state_sha256"]
        for name in SAME:
            if ended[name] != undisturbed[name]:
                report.mismatches.append(f"{name} is {ended[name]}, undisturbed {undisturbed[name]}")
        seen, expected = self._victim.look(), calm.look()
        if seen["announced"] != expected["announced"]:
            report.mismatches.append(f"announced {seen['announced']}, undisturbed {expected['announced']}")
        refused = seen["refused"]
        if report.late_deeds:
            refused = [letter for place, letter in enumerate(refused) if letter not in refused[:place]]
        due = len(self._stream.damaged) + undisturbed["n_condemned"]
        if len(refused) != due or refused != expected["refused"]:
            report.mismatches.append(f"{len(refused)} dead letters of {due}")
        accepted = sum(undisturbed[name] for name in ("n_learned", "n_held_out", "n_unlearned"))
        if accepted != self._stream.n_labels:
            report.mismatches.append(f"{accepted} labels of {self._stream.n_labels} were accepted")
        report.ticks = _n_ticks(calm)
        report.ticks_learned = _n_ticks(self._victim)


def _n_ticks(arena: Arena) -> int:
    return sum(line.startswith('{"kind": "tick"') for line in arena.history.read_text().splitlines())
