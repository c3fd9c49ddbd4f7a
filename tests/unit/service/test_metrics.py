"""The figures of a learner, read back from the text that Prometheus scrapes."""

import math
import socket
from collections.abc import Iterator
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lmlp_stream.errors import ConfigError
from lmlp_stream.learning.evaluation import Errors, Parts
from lmlp_stream.learning.verdict import Verdict
from lmlp_stream.service.metrics import OUTCOMES, WITHHOLDING_REASONS, Metrics
from lmlp_stream.service.part_gauges import MAX_NAME_CHARACTERS, MAX_NAMES
from lmlp_stream.wire.rejection import Reason


def series(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Values by sample name and label values."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.exposition())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, *labels: str) -> float:
    return series(metrics)[name, labels]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(learner="lmlp", version="0.1.0")


def test_every_label_value_is_there_before_anything_happens(metrics: Metrics) -> None:
    found = series(metrics)
    for outcome in OUTCOMES:
        assert found["lmlp_records_total", (outcome,)] == 0
    for reason in Reason:
        assert found["lmlp_rejections_total", (reason,)] == 0
    for reason in WITHHOLDING_REASONS:
        assert found["lmlp_snapshots_withheld_total", (reason,)] == 0


def test_unknown_errors_are_not_reported_as_zero(metrics: Metrics) -> None:
    found = series(metrics)
    errors = [key for key in found if "rmse" in key[0] or "mae" in key[0] or "coverage" in key[0]]
    assert len(errors) == 12
    assert all(math.isnan(found[key]) for key in errors)


def test_a_refused_record_is_counted_once_with_its_reason(metrics: Metrics) -> None:
    metrics.refused(Reason.OVERLAPPING_ATOMS)
    assert value(metrics, "lmlp_records_total", "refused") == 1
    assert value(metrics, "lmlp_rejections_total", "overlapping_atoms") == 1
    assert sum(number for (name, _), number in series(metrics).items() if name == "lmlp_rejections_total") == 1


def test_records_are_counted_by_outcome(metrics: Metrics) -> None:
    metrics.learned(14)
    metrics.held_out(2)
    metrics.duplicates(3)
    assert [value(metrics, "lmlp_records_total", outcome) for outcome in OUTCOMES] == [14, 2, 3, 0]


def test_a_step_adds_its_time_and_its_losses(metrics: Metrics) -> None:
    metrics.stepped(seconds=0.3, energy_loss=2.0, force_loss=1.0)
    metrics.stepped(seconds=0.1, energy_loss=1.0, force_loss=0.5)
    assert value(metrics, "lmlp_steps_total") == 2
    assert value(metrics, "lmlp_step_seconds_sum") == pytest.approx(0.4)
    assert value(metrics, "lmlp_loss_sum", "energy") == 3.0
    assert value(metrics, "lmlp_loss_sum", "force") == 1.5
    assert value(metrics, "lmlp_loss_count", "force") == 2


@pytest.mark.parametrize("kind", ["prequential", "retention"])
def test_errors_stand_under_their_units(metrics: Metrics, kind: str) -> None:
    getattr(metrics, kind)(energy_rmse=0.004, energy_mae=0.003, force_rmse=0.2, force_mae=0.1)
    assert value(metrics, f"lmlp_{kind}_energy_rmse_ev_per_atom") == 0.004
    assert value(metrics, f"lmlp_{kind}_energy_mae_ev_per_atom") == 0.003
    assert value(metrics, f"lmlp_{kind}_force_rmse_ev_per_angstrom") == 0.2
    assert value(metrics, f"lmlp_{kind}_force_mae_ev_per_angstrom") == 0.1


def test_the_street_and_the_state_are_reported(metrics: Metrics) -> None:
    metrics.lag(0, 40)
    metrics.lag(1, 2)
    metrics.broker(True)
    metrics.request_seen()
    metrics.state(labels_learned=500, elements=6, reservoir=480, holdout=20, quarantine=3)
    metrics.disagreement(energy=0.001, force=0.05)
    metrics.coverage(energy=0.91, forces=0.88, raw_energy=0.5, raw_forces=0.6)
    assert [value(metrics, "lmlp_lag_records", partition) for partition in ("0", "1")] == [40, 2]
    assert value(metrics, "lmlp_broker_up") == 1
    assert value(metrics, "lmlp_label_requests_total") == 1
    assert value(metrics, "lmlp_labels_learned") == 500
    assert value(metrics, "lmlp_elements") == 6
    assert value(metrics, "lmlp_reservoir_structures") == 480
    assert value(metrics, "lmlp_holdout_structures") == 20
    assert value(metrics, "lmlp_quarantine_structures") == 3
    assert value(metrics, "lmlp_disagreement_energy_ev_per_atom") == 0.001
    assert value(metrics, "lmlp_disagreement_force_ev_per_angstrom") == 0.05
    assert value(metrics, "lmlp_coverage_90_ratio", "energy") == 0.91
    assert value(metrics, "lmlp_coverage_90_ratio", "forces") == 0.88
    assert value(metrics, "lmlp_raw_coverage_90_ratio", "energy") == 0.5
    assert value(metrics, "lmlp_raw_coverage_90_ratio", "forces") == 0.6


def test_checkpoints_and_snapshots_leave_timestamps(metrics: Metrics) -> None:
    metrics.checkpoint_saved(timestamp_s=1000.0, seconds=0.2)
    metrics.snapshot_announced(timestamp_s=1001.0, labels_learned=300)
    metrics.snapshot_withheld("regression")
    assert value(metrics, "lmlp_checkpoint_timestamp_seconds") == 1000
    assert value(metrics, "lmlp_checkpoint_seconds_count") == 1
    assert value(metrics, "lmlp_snapshot_timestamp_seconds") == 1001
    assert value(metrics, "lmlp_snapshot_labels") == 300
    assert value(metrics, "lmlp_snapshots_announced_total") == 1
    assert value(metrics, "lmlp_snapshots_withheld_total", "regression") == 1


def test_a_resumed_learner_keeps_its_timestamps_and_counts_nothing(metrics: Metrics) -> None:
    metrics.resumed(checkpoint_timestamp_s=1000.0, snapshot_timestamp_s=900.0, snapshot_labels=250)
    assert value(metrics, "lmlp_checkpoint_timestamp_seconds") == 1000
    assert value(metrics, "lmlp_snapshot_timestamp_seconds") == 900
    assert value(metrics, "lmlp_snapshot_labels") == 250
    assert value(metrics, "lmlp_snapshots_announced_total") == 0
    assert value(metrics, "lmlp_checkpoint_seconds_count") == 0


def errors_of(*places: int) -> dict[str, Errors]:
    """Names with errors that grow with their place."""
    return {f"name-{place}": Errors(1, energy_rmse=place / 1000, force_rmse=place / 100) for place in places}


def by_label(metrics: Metrics, name: str) -> dict[str, float]:
    return {labels[0]: number for (found, labels), number in series(metrics).items() if found == name}


@pytest.mark.parametrize("kind", ["prequential", "retention"])
@pytest.mark.parametrize("label", ["domain", "source"])
def test_however_many_names_arrive_the_series_stay_few_and_the_worst_is_seen(
    metrics: Metrics, kind: str, label: str
) -> None:
    force, energy = (
        f"lmlp_{label}_{kind}_{figure}" for figure in ("force_rmse_ev_per_angstrom", "energy_rmse_ev_per_atom")
    )
    for first in range(0, 200, 50):
        metrics.parts(kind, Parts(**{f"{label}s": errors_of(*range(first, first + 50))}))
        assert len(by_label(metrics, force)) == MAX_NAMES + 1
        assert value(metrics, force, f"name-{first}") == first / 100
        assert value(metrics, force, "other") == (first + 49) / 100
    metrics.parts(kind, Parts(**{f"{label}s": errors_of(*range(MAX_NAMES + 5))}))
    assert len(by_label(metrics, force)) == MAX_NAMES + 1
    assert value(metrics, force, "name-3") == 0.03
    assert value(metrics, energy, "other") == 0.024


def test_a_name_without_an_error_does_not_hide_the_worst(metrics: Metrics) -> None:
    metrics.parts("prequential", Parts(errors_of(*range(MAX_NAMES))))
    rest = {"a": Errors(1, force_rmse=0.1), "b": Errors(1, energy_rmse=0.002), "c": Errors(1, force_rmse=0.3)}
    metrics.parts("prequential", Parts(errors_of(*range(MAX_NAMES)) | rest))
    assert value(metrics, "lmlp_domain_prequential_energy_rmse_ev_per_atom", "other") == 0.002
    assert value(metrics, "lmlp_domain_prequential_force_rmse_ev_per_angstrom", "other") == 0.3


@pytest.mark.parametrize("label", ["domain", "source"])
def test_a_name_keeps_its_place_while_it_occurs_and_then_gives_it_to_one_that_waited(
    metrics: Metrics, label: str
) -> None:
    force = f"lmlp_{label}_retention_force_rmse_ev_per_angstrom"
    metrics.parts("retention", Parts(**{f"{label}s": errors_of(*range(MAX_NAMES + 2))}))
    assert set(by_label(metrics, force)) == {*errors_of(*range(MAX_NAMES)), "other"}
    metrics.parts("retention", Parts(**{f"{label}s": errors_of(*reversed(range(1, MAX_NAMES + 2)))}))
    assert set(by_label(metrics, force)) == {*errors_of(*range(1, MAX_NAMES), MAX_NAMES + 1), "other"}
    metrics.parts("retention", Parts(**{f"{label}s": errors_of(*range(2, MAX_NAMES + 2))}))
    assert set(by_label(metrics, force)) == set(errors_of(*range(2, MAX_NAMES + 2)))


def test_a_learner_that_visits_one_domain_after_the_other_shows_each(metrics: Metrics) -> None:
    for place in range(10 * MAX_NAMES):
        metrics.parts("prequential", Parts(errors_of(place, place + 1)))
        assert set(by_label(metrics, "lmlp_domain_prequential_energy_rmse_ev_per_atom")) == set(
            errors_of(place, place + 1)
        )


def test_every_element_has_a_series(metrics: Metrics) -> None:
    metrics.parts("retention", Parts({}, {}, {z: Errors(1, force_rmse=0.1) for z in range(1, 101)}))
    assert len(by_label(metrics, "lmlp_element_retention_force_rmse_ev_per_angstrom")) == 100


def test_what_left_the_window_loses_its_series(metrics: Metrics) -> None:
    metrics.parts(
        "prequential", Parts(errors_of(1, 2), {}, {1: Errors(1, force_rmse=0.1), 9: Errors(1, force_rmse=0.2)})
    )
    metrics.parts("prequential", Parts(errors_of(2), {}, {9: Errors(1, force_rmse=0.3)}))
    assert by_label(metrics, "lmlp_domain_prequential_force_rmse_ev_per_angstrom") == {"name-2": 0.02}
    assert by_label(metrics, "lmlp_element_prequential_force_rmse_ev_per_angstrom") == {"F": 0.3}


def test_a_name_from_outside_is_short_and_never_empty(metrics: Metrics) -> None:
    metrics.parts("retention", Parts({"x" * 1000: Errors(1, force_rmse=0.1), "": Errors(1, force_rmse=0.2)}))
    found = by_label(metrics, "lmlp_domain_retention_force_rmse_ev_per_angstrom")
    assert found == {"x" * MAX_NAME_CHARACTERS: 0.1, "unnamed": 0.2}


def test_one_verdict_holds_at_a_time(metrics: Metrics) -> None:
    assert by_label(metrics, "lmlp_verdict") == dict.fromkeys(Verdict, 0.0)
    for verdict in Verdict:
        metrics.verdict(verdict)
        assert by_label(metrics, "lmlp_verdict") == {other: float(other == verdict) for other in Verdict}


def test_two_learners_in_one_process_share_no_figure(metrics: Metrics) -> None:
    other = Metrics(learner="other", version="0.1.0")
    other.learned(5)
    assert value(metrics, "lmlp_records_total", "learned") == 0


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield int(taken.getsockname()[1])


def test_the_endpoint_serves_the_exposition_on_loopback(metrics: Metrics) -> None:
    metrics.learned(7)
    url, close = metrics.serve("127.0.0.1", 0)
    try:
        with urlopen(url) as answer:
            assert 'lmlp_records_total{outcome="learned"} 7.0' in answer.read().decode()
    finally:
        close()


def test_a_busy_port_is_replaced_by_a_free_one_that_the_address_names(metrics: Metrics, busy_port: int) -> None:
    url, close = metrics.serve("127.0.0.1", busy_port)
    try:
        assert f":{busy_port}/" not in url
        with urlopen(url) as answer:
            assert answer.status == 200
    finally:
        close()


def test_a_foreign_host_is_refused_with_the_key_to_change(metrics: Metrics) -> None:
    with pytest.raises(ConfigError, match=r"service\.metrics_host = .203\.0\.113\.1."):
        metrics.serve("203.0.113.1", 0)
