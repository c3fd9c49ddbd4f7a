"""What the learner's process does when its log, its disk or its farm fail: it goes on, or it says why not."""

import json
import resource
import shutil
import sqlite3
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from lmlp_stream.broker.log import Log
from lmlp_stream.broker.open import open_log
from lmlp_stream.config import Config
from lmlp_stream.store.checkpoint import checkpoints_folder

Publish = Callable[[Config, Log, list[bytes]], None]


@pytest.fixture
def admin(kafka_url: str) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(bootstrap_servers=[kafka_url.removeprefix("kafka://")])
    yield admin
    admin.close()


def lose(run: Any, where: str) -> None:
    """Delete records of the stream from an SQLite log."""
    with closing(sqlite3.connect(run.config.log.url.removeprefix("sqlite:"))) as database, database:
        database.execute(
            f"DELETE FROM message WHERE {where} AND partition_id = (SELECT id FROM partition WHERE topic = ?)",
            (run.config.log.structures,),
        )


def fed(run: Any, publish: Publish, records: list[bytes]) -> Any:
    with closing(open_log(run.config.log.url, client="test")) as log:
        publish(run.config, log, records)
    return run


def balance(finished: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert finished.returncode == 0, finished.stderr
    result: dict[str, Any] = json.loads(finished.stdout)
    return result


def on_kafka(kafka_url: str) -> tuple[str, ...]:
    return (f"log.url={kafka_url}", f"log.prefix=t{uuid.uuid4().hex[:12]}")


def test_an_sqlite_log_whose_oldest_records_are_gone_stops_the_learner(
    learning: Any, publish: Publish, records: list[bytes]
) -> None:
    run = fed(learning(), publish, records[:20])
    balance(run.learn("--until-end", "--json"))
    fed(run, publish, records[20:])
    lose(run, "offset < 30")
    stopped = run.learn("--until-end")
    assert stopped.returncode == 5
    assert "position 20" in stopped.stderr
    assert "messages were deleted" in stopped.stderr


@pytest.mark.parametrize("learned_before", [True, False])
def test_an_sqlite_log_that_lost_records_in_its_middle_stops_the_learner(
    learning: Any, publish: Publish, records: list[bytes], learned_before: bool
) -> None:
    run = fed(learning(), publish, records[:40])
    if learned_before:
        balance(run.learn("--until-end", "--json"))
        shutil.rmtree(checkpoints_folder(run.config))
    lose(run, "offset BETWEEN 10 AND 12")
    stopped = run.learn("--until-end")
    assert stopped.returncode == 5
    told = " ".join(stopped.stderr.split())
    assert f"{run.config.log.structures}[0] has lost the messages of offsets 10 to 12" in told


def test_a_new_learner_of_a_log_whose_oldest_records_are_gone_says_where_it_begins(
    learning: Any, publish: Publish, records: list[bytes]
) -> None:
    run = fed(learning(), publish, records[:20])
    lose(run, "offset < 5")
    first = run.learn("--until-end", "--json")
    assert sum(balance(first)[name] for name in ("n_learned", "n_held_out", "n_unlearned")) == 15
    warning = f"this new learner begins {run.config.log.structures}[0] at offset 5: what came before is no longer"
    assert " ".join(first.stderr.split()).count(warning) == 1
    fed(run, publish, records[20:30])
    again = run.learn("--until-end", "--json")
    assert balance(again)["n_learned"] > 0
    assert "begins" not in again.stderr


@pytest.mark.kafka
def test_a_kafka_log_whose_oldest_records_are_gone_stops_the_learner(
    learning: Any, publish: Publish, records: list[bytes], kafka_url: str, admin: KafkaAdminClient
) -> None:
    run = fed(learning(settings=on_kafka(kafka_url)), publish, records[:20])
    balance(run.learn("--until-end", "--json"))
    fed(run, publish, records[20:])
    admin.delete_records({TopicPartition(run.config.log.structures, 0): 30})
    stopped = run.learn("--until-end")
    assert stopped.returncode == 5
    assert "position 20" in stopped.stderr
    assert "messages were deleted" in stopped.stderr


def test_a_log_that_was_put_back_to_an_older_state_stops_the_learner(
    learning: Any, publish: Publish, records: list[bytes]
) -> None:
    run = fed(learning(), publish, records)
    balance(run.learn("--until-end", "--json"))
    for file in checkpoints_folder(run.config).parent.parent.parent.glob("log.db*"):
        file.unlink()
    fed(run, publish, records[:20])
    stopped = run.learn("--until-end")
    assert stopped.returncode == 5
    assert "position 90" in stopped.stderr


@pytest.mark.kafka
def test_labels_of_aborted_transactions_are_never_learned(
    learning: Any, records: list[bytes], kafka_url: str, publish: Publish
) -> None:
    run = fed(learning(settings=on_kafka(kafka_url)), publish, records[:10])
    producer = KafkaProducer(bootstrap_servers=[kafka_url.removeprefix("kafka://")], transactional_id=uuid.uuid4().hex)
    producer.init_transactions()
    for begin, kept in ((10, False), (20, True), (30, False)):
        producer.begin_transaction()
        for record in records[begin : begin + 10]:
            producer.send(run.config.log.structures, record, b"k", partition=0)
        producer.commit_transaction() if kept else producer.abort_transaction()
    producer.close()
    learned = balance(run.learn("--until-end", "--json"))
    assert learned["n_learned"] + learned["n_held_out"] == 20
    again = balance(run.learn("--until-end", "--json"))
    assert again["labels_learned"] == learned["labels_learned"]


def start_on_a_full_disk(run: Any, publish: Publish, records: list[bytes]) -> "subprocess.Popen[str]":
    """A learner with one checkpoint and more to learn, whose files may not grow to the size of another checkpoint."""
    first = balance(fed(run, publish, records[:40]).learn("--until-end", "--json"))
    size = (Path(first["checkpoint"]) / "state.safetensors").stat().st_size
    process: subprocess.Popen[str] = fed(run, publish, records[40:]).start("--until-end", "--json")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
    return process


def test_a_full_disk_stops_the_learner_with_its_last_checkpoint_whole(
    learning: Any, publish: Publish, records: list[bytes]
) -> None:
    undisturbed = balance(fed(learning("undisturbed"), publish, records).learn("--until-end", "--json"))

    run = learning("full")
    process = start_on_a_full_disk(run, publish, records)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 6
    assert "no checkpoint can be saved after" in said
    assert "make room and start again" in " ".join(said.split())
    assert balance(run.learn("--until-end", "--json"))["labels_learned"] == undisturbed["labels_learned"]


def test_a_disk_that_has_room_again_gets_the_checkpoint(learning: Any, publish: Publish, records: list[bytes]) -> None:
    run = learning()
    process = start_on_a_full_disk(run, publish, records)
    history = checkpoints_folder(run.config) / "history.jsonl"
    before = history.stat().st_size
    while process.poll() is None and history.stat().st_size == before:
        time.sleep(0.01)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    out, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    learned = json.loads(out)
    assert learned["n_learned"] + learned["n_held_out"] == 50
    assert learned["checkpoint"]


def test_a_snapshot_that_could_not_be_stored_is_announced_by_the_next_run(
    learning: Any, publish: Publish, records: list[bytes], tmp_path: Path
) -> None:
    in_the_way = tmp_path / "in the way"
    in_the_way.write_text("a file where the folder of the store should be")
    settings = (f"store.url={in_the_way}/store", f"store.checkpoints={tmp_path}/checkpoints")
    run = fed(learning(settings=settings), publish, records[:40])

    withheld = balance(run.learn("--until-end", "--json"))
    assert withheld["n_announced"] == 0
    assert withheld["n_withheld"] > 0
    assert json.loads((Path(withheld["checkpoint"]) / "checkpoint.json").read_text())["labels_told"] == 0

    in_the_way.unlink()
    announced = balance(run.learn("--until-end", "--json"))
    assert announced["n_announced"] == 1
    assert announced["labels_learned"] == withheld["labels_learned"]
    assert balance(run.learn("--until-end", "--json"))["n_announced"] == 0


def test_a_learner_goes_on_with_the_settings_it_was_started_with(
    learning: Any, publish: Publish, records: list[bytes]
) -> None:
    """Where it runs may change; what it is may not, and the old value is told."""
    run = fed(learning(), publish, records[:16])
    balance(run.learn("--until-end", "--json"))
    balance(run.learn("--until-end", "--json", "--set", "potential.threads=1"))
    refused = run.learn("--until-end", "--set", "symmetry.cutoff=4.0", "--set", "seed=77")
    assert refused.returncode == 3
    cutoff = run.config.symmetry.cutoff
    assert f"was started with seed = {run.config.seed}, symmetry.cutoff = {cutoff}; use" in " ".join(
        refused.stderr.split()
    )
