"""The learner as a real process: it ends the same whatever happened to it on the way."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lmlp_stream.broker.log import Log, Message, Partition
from lmlp_stream.broker.open import open_log
from lmlp_stream.config import Config
from lmlp_stream.service.loop import serve
from lmlp_stream.service.metrics import Metrics
from lmlp_stream.store.checkpoint import checkpoints_folder
from lmlp_stream.wire.dead_letter import DeadLetter, decode_dead_letter

Publish = Callable[[Config, Log, list[bytes]], None]


def fed(learning: Any, publish: Publish, records: list[bytes]) -> Any:
    with closing(open_log(learning.config.log.url, client="test")) as log:
        publish(learning.config, log, records)
    return learning


def messages(config: Config, topic: str) -> list[Message]:
    with closing(open_log(config.log.url, client="test")) as log:
        partition = Partition(topic, 0)
        bounds = log.bounds(partition)
        return log.source({partition: bounds.begin}).poll(10_000, 1.0) if bounds.end > bounds.begin else []


def balance(finished: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert finished.returncode == 0, finished.stderr
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


def kill_somewhere(process: "subprocess.Popen[str]", config: Config, generator: random.Random) -> None:
    """Kill the learner a random while after it began to learn."""
    history = checkpoints_folder(config) / "history.jsonl"
    before = history.stat().st_size if history.exists() else 0
    while process.poll() is None and (not history.exists() or history.stat().st_size == before):
        time.sleep(0.01)
    time.sleep(generator.uniform(0.0, 0.4))
    process.kill()
    process.communicate()


def test_a_learner_killed_again_and_again_ends_like_one_that_never_was(
    learning: Any, publish: Publish, records: list[bytes]
) -> None:
    undisturbed = balance(fed(learning("undisturbed"), publish, records).learn("--until-end", "--json"))

    victim = fed(learning("victim"), publish, records)
    generator = random.Random(5)
    for _ in range(4):
        kill_somewhere(victim.start("--until-end"), victim.config, generator)
    survived = balance(victim.learn("--until-end", "--json"))

    assert survived["state_sha256"] == undisturbed["state_sha256"]
    assert survived["labels_learned"] == undisturbed["labels_learned"]
    assert survived["snapshot_id"] == undisturbed["snapshot_id"]


def test_sigterm_ends_with_a_checkpoint_and_the_next_start_goes_on(
    learning: Any, publish: Publish, records: list[bytes]
) -> None:
    undisturbed = balance(fed(learning("undisturbed"), publish, records).learn("--until-end", "--json"))

    stopped = fed(learning("stopped"), publish, records)
    process = stopped.start("--until-end", "--json")
    history = checkpoints_folder(stopped.config) / "history.jsonl"
    while not (history.exists() and history.stat().st_size) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["checkpoint"]

    assert balance(stopped.learn("--until-end", "--json"))["state_sha256"] == undisturbed["state_sha256"]


def test_a_second_learner_of_the_same_name_is_refused(learning: Any, publish: Publish, records: list[bytes]) -> None:
    first = fed(learning(), publish, records)
    process = first.start()
    lock = checkpoints_folder(first.config) / "lock"
    while not (lock.exists() and lock.read_text()) and process.poll() is None:
        time.sleep(0.01)
    refused = first.learn("--until-end")
    process.terminate()
    process.communicate(timeout=60)

    assert refused.returncode == 5
    assert "belongs to a running learner" in refused.stderr


def test_a_learner_of_the_same_name_with_another_store_is_refused_and_fences_off_the_first_if_told_to(
    learning: Any, publish: Publish, records: list[bytes]
) -> None:
    first = fed(learning(), publish, records[:20])
    process = first.start()
    history = checkpoints_folder(first.config) / "history.jsonl"
    while not (history.exists() and history.read_text()) and process.poll() is None:
        time.sleep(0.01)
    elsewhere = ("--until-end", "--set", f"store.url={first.path.parent / 'elsewhere'}")
    refused = first.learn(*elsewhere)
    balance(first.learn(*elsewhere, "--take-over", "--json"))
    _, said = process.communicate(timeout=60)

    assert refused.returncode == process.returncode == 5
    assert "checkpoints lie elsewhere" in refused.stderr
    assert "has taken over" in said


def test_another_configuration_is_refused(learning: Any, publish: Publish, records: list[bytes]) -> None:
    first = fed(learning(), publish, records[:8])
    assert first.learn("--until-end").returncode == 0
    other = learning(settings=("potential.members=3",)).learn("--until-end")
    assert other.returncode == 3
    assert "potential" in other.stderr


def test_exactly_the_good_records_are_learned_and_each_bad_one_is_a_dead_letter(
    learning: Any, publish: Publish, records: list[bytes]
) -> None:
    generator = random.Random(3)
    damaged = [bytearray(record) for record in records]
    for record in damaged:
        del record[generator.randrange(len(record)) :]
    mixed = [part for pair in zip(records, map(bytes, damaged), strict=True) for part in pair]
    run = fed(learning(), publish, mixed)
    learned = balance(run.learn("--until-end", "--json"))

    assert learned["n_learned"] + learned["n_held_out"] == len(records)
    assert learned["n_refused"] == len(damaged)
    letters = [decode_dead_letter(message.value) for message in messages(run.config, run.config.log.dead_letters)]
    assert all(isinstance(letter, DeadLetter) and letter.topic == run.config.log.structures for letter in letters)
    begin = messages(run.config, run.config.log.structures)[0].offset
    addresses = {(letter.offset - begin, letter.value) for letter in letters if isinstance(letter, DeadLetter)}
    assert addresses == {(2 * number + 1, bytes(record)) for number, record in enumerate(damaged)}


def test_a_label_published_twice_is_learned_once(learning: Any, publish: Publish, records: list[bytes]) -> None:
    learned = balance(fed(learning(), publish, [*records[:16], *records[:16]]).learn("--until-end", "--json"))
    assert learned["n_duplicates"] == 16
    assert learned["n_learned"] + learned["n_held_out"] == 16


@pytest.mark.parametrize("n_partitions", [1, 4])
def test_memory_and_sqlite_make_the_same_model(
    learning: Any, publish: Publish, records: list[bytes], n_partitions: int
) -> None:
    partitions = f"log.partitions={n_partitions}"
    in_a_file = fed(learning("sqlite", settings=(partitions,)), publish, records)
    ours = balance(in_a_file.learn("--until-end", "--json"))

    config = learning("memory", settings=(partitions, f"log.url=memory:same{n_partitions}")).config
    with closing(open_log(config.log.url, client="test")) as log:
        publish(config, log, records)
        metrics = Metrics(learner=config.name, version="test")
        theirs = serve(config, log, metrics, until_end=True, stopped=lambda: False, observe=lambda _: None)
    assert len(log.partitions(config.log.structures)) == n_partitions
    assert theirs.state_sha256 == ours["state_sha256"]
    assert theirs.snapshot_id == ours["snapshot_id"]


@pytest.mark.parametrize("n_partitions", [1, 4])
@pytest.mark.kafka
def test_kafka_and_sqlite_make_the_same_model(
    learning: Any, publish: Publish, records: list[bytes], kafka_url: str, n_partitions: int
) -> None:
    partitions = f"log.partitions={n_partitions}"
    embedded = fed(learning("sqlite", settings=(partitions,)), publish, records)
    distributed = fed(
        learning("kafka", settings=(partitions, f"log.url={kafka_url}", f"log.prefix=same{n_partitions}")),
        publish,
        records,
    )
    ours = balance(embedded.learn("--until-end", "--json"))
    theirs = balance(distributed.learn("--until-end", "--json"))
    assert ours["state_sha256"] == theirs["state_sha256"]
    assert ours["snapshot_id"] == theirs["snapshot_id"]


def test_the_verbs_agree_about_the_newest_snapshot(
    learning: Any, publish: Publish, records: list[bytes], tmp_path: Path
) -> None:
    run = fed(learning(), publish, records)
    learned = balance(run.learn("--until-end", "--json"))
    follow = subprocess.run(
        run.command("follow", "--once", "--json"), text=True, capture_output=True, check=True, timeout=120
    )
    announced = [json.loads(line) for line in follow.stdout.splitlines()]
    assert announced[-1]["id"] == learned["snapshot_id"]
    assert len(announced) == learned["n_announced"]

    inspect = [sys.executable, "-m", "lmlp_stream.cli.main", "inspect", learned["checkpoint"], "--json"]
    described = json.loads(subprocess.run(inspect, text=True, capture_output=True, check=True, timeout=60).stdout)
    assert described["state_sha256"] == learned["state_sha256"]
    assert described["labels_learned"] == learned["labels_learned"]
    assert described["records"] == {name: learned[f"n_{name}"] for name in described["records"]}
    assert sum(described["records"].values()) == len(records)
