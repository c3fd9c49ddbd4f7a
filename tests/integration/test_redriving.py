"""Poison never holds a partition, and what was refused by mistake is learned in the end."""

import json
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from lmlp_stream.broker.log import Log
from lmlp_stream.broker.open import open_log
from lmlp_stream.cli.main import main
from lmlp_stream.config import Config
from lmlp_stream.potential.device import prepare_cpu
from lmlp_stream.service.balance import Balance
from lmlp_stream.service.loop import serve
from lmlp_stream.service.metrics import Metrics
from lmlp_stream.wire.dead_letter import MAX_KEPT_BYTES

Publish = Callable[[Config, Log, list[bytes]], None]

POISON = [
    b"",
    b"\xc1",
    b"\x81" * 3000,
    b"\xdd\xff\xff\xff\xff",
    b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94.",
    b"\x00" * (MAX_KEPT_BYTES + 1),
    b"\xff" * (5 * 2**20),
]


def learn(config: Config) -> Balance:
    prepare_cpu(config.potential.threads)
    metrics = Metrics(learner=config.name, version="test")
    with closing(open_log(config.log.url, client="test")) as log:
        return serve(config, log, metrics, until_end=True, stopped=lambda: False, observe=lambda _: None)


def fed(learning: Any, publish: Publish, records: list[bytes]) -> Any:
    with closing(open_log(learning.config.log.url, client="test")) as log:
        publish(learning.config, log, records)
    return learning


def answered(monkeypatch: pytest.MonkeyPatch, capsys: Any, *arguments: str) -> dict[str, Any]:
    monkeypatch.setattr(sys, "argv", ["lmlp-stream", *arguments, "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    figures: dict[str, Any] = json.loads(capsys.readouterr().out)
    return figures


def lag(config: Config) -> int:
    """Records behind the positions that the learner committed."""
    with closing(open_log(config.log.url, client="test")) as log:
        committed = log.committed[config.name]  # type: ignore[attr-defined]
        return sum(log.bounds(p).end - committed[p] for p in log.partitions(config.log.structures))


@pytest.mark.parametrize("n_partitions", [1, 4])
def test_poison_in_every_partition_holds_none_of_them(
    learning: Any, publish: Publish, records: list[bytes], tmp_path: Any, n_partitions: int
) -> None:
    made = learning(settings=(f"log.url=memory:{tmp_path}", f"log.partitions={n_partitions}"))
    mixed = [part for record, bad in zip(records[:35], POISON * 5, strict=True) for part in (bad, record)]
    learned = learn(fed(made, publish, [*mixed, *POISON]).config)

    assert learned.n_refused == 6 * len(POISON)
    assert learned.n_learned + learned.n_held_out == 35
    assert lag(made.config) == 0


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def test_what_a_wrong_limit_refused_is_learned_after_redriving_and_learned_once(
    learning: Any,
    publish: Publish,
    records: list[bytes],
    monkeypatch: Any,
    capsys: Any,
    request: pytest.FixtureRequest,
    backend: str,
) -> None:
    url = () if backend == "sqlite" else (f"log.url={request.getfixturevalue('kafka_url')}", "log.prefix=redriving")
    settings = [part for setting in url for part in ("--set", setting)]
    made = fed(learning(settings=(*url, "wire.max_force=8.3")), publish, [*records[:20], b"poison"])
    first = learn(made.config)
    n_wrongly_refused = first.n_refused - 1
    assert 0 < n_wrongly_refused < 20

    redrive = ("dead-letters", "redrive", str(made.path), *settings)
    assert answered(monkeypatch, capsys, *redrive)["n_redriven"] == first.n_refused
    assert answered(monkeypatch, capsys, *redrive)["n_redriven"] == 0
    repaired = learn(learning(settings=url).config)

    assert repaired.n_learned + repaired.n_held_out == n_wrongly_refused
    assert (repaired.n_duplicates, repaired.n_refused) == (0, 1)

    replayed = answered(monkeypatch, capsys, "replay", str(made.path), *settings, "--until", "latest")
    assert replayed["announced_id"] == repaired.snapshot_id
    assert replayed["identical"]
