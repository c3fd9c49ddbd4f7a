"""Every Prometheus name of a learner, here and in `part_gauges`; nothing else imports prometheus_client.

The conductor maps reports to these calls with plain numbers. Units stand in the names: eV, Å, seconds. Counters
start at 0 for every label value; errors start at NaN, for an error of 0 would claim perfection. Timestamps are
exported, never ages. No label is open-ended: domains and sources are capped, and ids, snapshots, paths and texts
never appear.
"""

from collections.abc import Callable, Iterable
from math import nan
from time import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary, generate_latest
from prometheus_client.exposition import start_http_server

from lmlp_stream.errors import ConfigError
from lmlp_stream.learning.evaluation import Parts, Withheld
from lmlp_stream.learning.verdict import Verdict
from lmlp_stream.service.part_gauges import PartGauges
from lmlp_stream.wire.rejection import Reason

OUTCOMES = ("learned", "held_out", "duplicate", "refused")
"""What can become of a record; each record is counted once."""

WITHHOLDING_REASONS = (*Withheld, "store")
"""Why a due snapshot is not announced: the learner withholds it, or the store cannot be written."""

_STEP_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_CHECKPOINT_BUCKETS_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics:
    """The figures of one learner in a registry of their own.

    Args:
        learner: Name of the learner.
        version: Version of lmlp_stream.
    """

    def __init__(self, *, learner: str, version: str) -> None:
        self._registry = CollectorRegistry()
        self._info(learner, version)
        self._records = self._counters("lmlp_records", "Records by what became of them", "outcome", OUTCOMES)
        self._rejections = self._counters("lmlp_rejections", "Refused records", "reason", Reason)
        self._requests = self._counter("lmlp_label_requests", "Label requests seen on the log")
        self._lag = Gauge(
            "lmlp_lag_records",
            "Records of a partition that are not yet learned",
            ["partition"],
            registry=self._registry,
        )
        self._broker = self._gauge("lmlp_broker_up", "1 while the log answers, else 0", 0)
        self._step_time = Histogram(
            "lmlp_step_seconds", "Time of one optimizer step", registry=self._registry, buckets=_STEP_BUCKETS_S
        )
        self._steps = self._counter("lmlp_steps", "Optimizer steps")
        loss = Summary("lmlp_loss", "Weighted loss of a micro-batch by term", ["term"], registry=self._registry)
        self._energy_loss, self._force_loss = loss.labels("energy"), loss.labels("force")
        self._prequential = self._errors("prequential", "on arrivals before learning")
        self._retention = self._errors("retention", "on the hold-out of what came earlier")
        self._parts = {kind: PartGauges(self._registry, kind) for kind in ("prequential", "retention")}
        self._verdict = self._gauges("lmlp_verdict", "1 for the verdict that holds, else 0", "verdict", Verdict, 0.0)
        self._energy_disagreement = self._gauge(
            "lmlp_disagreement_energy_ev_per_atom",
            "Root mean square standard deviation of the members' energies on arrivals before learning",
        )
        self._force_disagreement = self._gauge(
            "lmlp_disagreement_force_ev_per_angstrom",
            "Root mean square standard deviation of the members' forces on arrivals before learning",
        )
        self._coverage = self._gauges(
            "lmlp_coverage_90_ratio",
            "Share of the newest labels inside the calibrated 90 % interval of when they came or left quarantine",
            "quantity",
            ("energy", "forces"),
        )
        self._raw_coverage = self._gauges(
            "lmlp_raw_coverage_90_ratio",
            "Share of labels inside the members' normal 90 % interval; 0.9 is calibrated, less is overconfident",
            "quantity",
            ("energy", "forces"),
        )
        self._labels_learned = self._gauge("lmlp_labels_learned", "Labels learned in the learner's whole life", 0)
        self._elements = self._gauge("lmlp_elements", "Elements the potential knows", 0)
        self._reservoir = self._gauge("lmlp_reservoir_structures", "Structures remembered for rehearsal", 0)
        self._holdout = self._gauge("lmlp_holdout_structures", "Structures held out", 0)
        self._quarantine = self._gauge("lmlp_quarantine_structures", "Structures that wait for their judgement", 0)
        self._store_metrics()

    def _store_metrics(self) -> None:
        self._checkpoint_time = self._gauge(
            "lmlp_checkpoint_timestamp_seconds", "Unix time of the newest checkpoint; 0: none yet", 0
        )
        self._checkpoint_duration = Histogram(
            "lmlp_checkpoint_seconds",
            "Time to save one checkpoint",
            registry=self._registry,
            buckets=_CHECKPOINT_BUCKETS_S,
        )
        self._snapshot_time = self._gauge(
            "lmlp_snapshot_timestamp_seconds", "Unix time of the newest announced snapshot; 0: none yet", 0
        )
        self._snapshot_labels = self._gauge(
            "lmlp_snapshot_labels", "Labels learned when the newest snapshot was announced", 0
        )
        self._announced = self._counter("lmlp_snapshots_announced", "Snapshots announced")
        self._withheld = self._counters(
            "lmlp_snapshots_withheld",
            "Due snapshots that were not announced, by each reason",
            "reason",
            WITHHOLDING_REASONS,
        )

    def learned(self, n_records: int) -> None:
        """Count records whose labels were learned."""
        self._records["learned"].inc(n_records)

    def held_out(self, n_records: int) -> None:
        """Count records that went to the hold-out."""
        self._records["held_out"].inc(n_records)

    def duplicates(self, n_records: int) -> None:
        """Count records whose id was known."""
        self._records["duplicate"].inc(n_records)

    def refused(self, reason: Reason) -> None:
        """Count one refused record by its reason."""
        self._records["refused"].inc()
        self._rejections[reason].inc()

    def request_seen(self, n_requests: int = 1) -> None:
        """Count label requests on the log."""
        self._requests.inc(n_requests)

    def lag(self, partition: int, n_records: int) -> None:
        """Set how many records of a partition wait to be learned."""
        self._lag.labels(str(partition)).set(n_records)

    def broker(self, up: bool) -> None:
        """Set whether the log answers."""
        self._broker.set(up)

    def stepped(self, *, seconds: float, energy_loss: float, force_loss: float) -> None:
        """Count one optimizer step: its duration in s and the weighted terms of its loss."""
        self._steps.inc()
        self._step_time.observe(seconds)
        self._energy_loss.observe(energy_loss)
        self._force_loss.observe(force_loss)

    def prequential(self, *, energy_rmse: float, energy_mae: float, force_rmse: float, force_mae: float) -> None:
        """Set the errors on arrivals before learning, eV/atom and eV/Å."""
        _set(self._prequential, energy_rmse, energy_mae, force_rmse, force_mae)

    def retention(self, *, energy_rmse: float, energy_mae: float, force_rmse: float, force_mae: float) -> None:
        """Set the errors on the hold-out, eV/atom and eV/Å."""
        _set(self._retention, energy_rmse, energy_mae, force_rmse, force_mae)

    def parts(self, kind: str, parts: Parts) -> None:
        """Set the errors of the kind `prequential` or `retention` by domain, source and element, eV/atom and eV/Å.

        `MAX_NAMES` domains and sources have series of their own and keep them while they occur; of the rest the largest
        error is reported as `other`. What left the window loses its series and gives its place to what comes.
        """
        self._parts[kind].set(parts)

    def verdict(self, verdict: Verdict) -> None:
        """Set which verdict holds now."""
        for name, gauge in self._verdict.items():
            gauge.set(float(name == verdict))

    def disagreement(self, *, energy: float, force: float) -> None:
        """Set the root mean square standard deviation of the members on arrivals before learning, eV/atom and eV/Å."""
        self._energy_disagreement.set(energy)
        self._force_disagreement.set(force)

    def coverage(self, *, energy: float, forces: float, raw_energy: float, raw_forces: float) -> None:
        """Set the shares of labels inside calibrated and inside raw 90 % intervals, from 0 to 1."""
        self._coverage["energy"].set(energy)
        self._coverage["forces"].set(forces)
        self._raw_coverage["energy"].set(raw_energy)
        self._raw_coverage["forces"].set(raw_forces)

    def state(self, *, labels_learned: int, elements: int, reservoir: int, holdout: int, quarantine: int) -> None:
        """Set the size of what the learner has learned and remembers."""
        self._labels_learned.set(labels_learned)
        self._elements.set(elements)
        self._reservoir.set(reservoir)
        self._holdout.set(holdout)
        self._quarantine.set(quarantine)

    def checkpoint_saved(self, *, timestamp_s: float, seconds: float) -> None:
        """Set when the newest checkpoint was saved, Unix s, and how long it took, s."""
        self._checkpoint_time.set(timestamp_s)
        self._checkpoint_duration.observe(seconds)

    def snapshot_announced(self, *, timestamp_s: float, labels_learned: int) -> None:
        """Count a snapshot and set when it was announced, Unix s, and how many labels it learned."""
        self._announced.inc()
        self._snapshot_time.set(timestamp_s)
        self._snapshot_labels.set(labels_learned)

    def snapshot_withheld(self, reason: str) -> None:
        """Count a due snapshot that was not announced; once for each of its `WITHHOLDING_REASONS`."""
        self._withheld[reason].inc()

    def resumed(self, *, checkpoint_timestamp_s: float, snapshot_timestamp_s: float, snapshot_labels: int) -> None:
        """Set what an earlier run left, Unix s and labels learned; 0 where it left nothing."""
        self._checkpoint_time.set(checkpoint_timestamp_s)
        self._snapshot_time.set(snapshot_timestamp_s)
        self._snapshot_labels.set(snapshot_labels)

    def exposition(self) -> str:
        """Every figure in the text format of Prometheus."""
        return generate_latest(self._registry).decode()

    def serve(self, host: str, port: int) -> tuple[str, Callable[[], None]]:
        """The address of an HTTP endpoint for Prometheus, and what closes it.

        A port that cannot be had, because it is busy or reserved, is replaced by a free one: read the address.

        Raises:
            ConfigError: The host is no address of this machine.
        """
        try:
            server, thread = start_http_server(port, addr=host, registry=self._registry)
        except OSError:
            try:
                server, thread = start_http_server(0, addr=host, registry=self._registry)
            except OSError as error:
                raise ConfigError(
                    f"service.metrics_host = {host!r} is no address of this machine ({error}); use '127.0.0.1'"
                ) from error

        def close() -> None:
            server.shutdown()
            thread.join()
            server.server_close()

        address = f"[{host}]" if ":" in host else host
        return f"http://{address}:{server.server_port}/metrics", close

    def _info(self, learner: str, version: str) -> None:
        Info("lmlp_build", "Which learner this is and which code it runs", registry=self._registry).info(
            {"learner": learner, "version": version}
        )
        self._gauge("lmlp_start_timestamp_seconds", "Unix time at which this learner started", time())

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, registry=self._registry)

    def _counters(self, name: str, text: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
        counter = Counter(name, text, [label], registry=self._registry)
        return {value: counter.labels(value) for value in values}

    def _gauge(self, name: str, text: str, value: float = nan) -> Gauge:
        gauge = Gauge(name, text, registry=self._registry)
        gauge.set(value)
        return gauge

    def _gauges(self, name: str, text: str, label: str, values: Iterable[str], start: float = nan) -> dict[str, Gauge]:
        gauge = Gauge(name, text, [label], registry=self._registry)
        children = {value: gauge.labels(value) for value in values}
        for child in children.values():
            child.set(start)
        return children

    def _errors(self, kind: str, where: str) -> tuple[Gauge, ...]:
        return (
            self._gauge(f"lmlp_{kind}_energy_rmse_ev_per_atom", f"Root mean square energy error {where}"),
            self._gauge(f"lmlp_{kind}_energy_mae_ev_per_atom", f"Mean absolute energy error {where}"),
            self._gauge(f"lmlp_{kind}_force_rmse_ev_per_angstrom", f"Root mean square force error {where}"),
            self._gauge(f"lmlp_{kind}_force_mae_ev_per_angstrom", f"Mean absolute force error {where}"),
        )


def _set(gauges: tuple[Gauge, ...], *values: float) -> None:
    for gauge, value in zip(gauges, values, strict=True):
        gauge.set(value)
