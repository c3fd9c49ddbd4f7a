"""Every figure of Prometheus is fed by a real run of the loop."""

import math
import re
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lmlp_stream.broker.log import Log
from lmlp_stream.broker.open import open_log
from lmlp_stream.config import Config
from lmlp_stream.service.loop import serve
from lmlp_stream.service.metrics import Metrics

Publish = Callable[[Config, Log, list[bytes]], None]


@pytest.fixture
def config(learning: Any, publish: Publish, records: list[bytes]) -> Config:
    """Of a log with sixty good records, two damaged ones and a duplicate."""
    config: Config = learning(settings=("service.checkpoint_every_s=0.01", "evaluation.window=20")).config
    with closing(open_log(config.log.url, client="test")) as log:
        publish(config, log, [*records[:60], b"damaged", records[0][:-9], records[0]])
    return config


@pytest.fixture
def exposed(config: Config) -> dict[str, list[Any]]:
    return samples_of_a_run(config)


def samples_of_a_run(config: Config) -> dict[str, list[Any]]:
    """Samples by name when the end of the log is reached."""
    metrics = Metrics(learner=config.name, version="test")
    with closing(open_log(config.log.url, client="test")) as log:
        serve(config, log, metrics, until_end=True, stopped=lambda: False, observe=lambda _: None)
    samples: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(metrics.exposition()):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample)
    return samples


def test_records_are_counted_by_what_became_of_them(exposed: dict[str, list[Any]]) -> None:
    outcomes = {sample.labels["outcome"]: sample.value for sample in exposed["lmlp_records_total"]}
    assert outcomes["learned"] + outcomes["held_out"] == 60
    assert outcomes["duplicate"] == 1
    assert outcomes["refused"] == 2
    assert sum(sample.value for sample in exposed["lmlp_rejections_total"]) == 2


@pytest.mark.parametrize(
    "name",
    [
        "lmlp_broker_up",
        "lmlp_steps_total",
        "lmlp_step_seconds_count",
        "lmlp_loss_count",
        "lmlp_labels_learned",
        "lmlp_elements",
        "lmlp_reservoir_structures",
        "lmlp_holdout_structures",
        "lmlp_checkpoint_timestamp_seconds",
        "lmlp_checkpoint_seconds_count",
        "lmlp_snapshot_timestamp_seconds",
        "lmlp_snapshots_announced_total",
        "lmlp_prequential_energy_rmse_ev_per_atom",
        "lmlp_prequential_force_rmse_ev_per_angstrom",
        "lmlp_retention_force_rmse_ev_per_angstrom",
        "lmlp_domain_prequential_force_rmse_ev_per_angstrom",
        "lmlp_source_prequential_energy_rmse_ev_per_atom",
        "lmlp_element_prequential_force_rmse_ev_per_angstrom",
        "lmlp_domain_retention_energy_rmse_ev_per_atom",
        "lmlp_source_retention_force_rmse_ev_per_angstrom",
        "lmlp_element_retention_force_rmse_ev_per_angstrom",
        "lmlp_disagreement_force_ev_per_angstrom",
        "lmlp_coverage_90_ratio",
        "lmlp_raw_coverage_90_ratio",
    ],
)
def test_a_figure_is_fed(exposed: dict[str, list[Any]], name: str) -> None:
    assert all(math.isfinite(sample.value) and sample.value > 0 for sample in exposed[name])


def test_one_verdict_holds(exposed: dict[str, list[Any]]) -> None:
    assert [s.labels["verdict"] for s in exposed["lmlp_verdict"] if s.value] == ["early"]


def test_nothing_waits_at_the_end_of_the_log(exposed: dict[str, list[Any]]) -> None:
    assert [sample.value for sample in exposed["lmlp_lag_records"]] == [0]


OF_ITS_STATE = re.compile(
    r"_ev_per_|_90_ratio$|_structures$|^lmlp_(verdict|lag_records|labels_learned|elements|snapshot_labels)$"
)


def test_a_learner_that_resumes_shows_its_figures_before_anything_arrives(
    config: Config, exposed: dict[str, list[Any]]
) -> None:
    resumed = samples_of_a_run(config)
    assert [sample.value for sample in resumed["lmlp_steps_total"]] == [0]
    names = list(filter(OF_ITS_STATE.search, exposed))
    assert len(names) == 30
    for name in names:
        before, now = ({tuple(s.labels.items()): s.value for s in some[name]} for some in (exposed, resumed))
        assert now == before, name
