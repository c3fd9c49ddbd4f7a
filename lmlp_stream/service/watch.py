"""What the metrics say of a learner between its announcements: ticks, steps, lag, errors."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from lmlp_stream.broker.log import Log, Partition
from lmlp_stream.learning.learner import Learner
from lmlp_stream.learning.trainer import StepReport
from lmlp_stream.service.metrics import Metrics
from lmlp_stream.service.reader import Reader
from lmlp_stream.service.teller import figures


class Watch:
    """Looks at a learner and its log.

    Args:
        log: The log.
        requests: Topic of label requests, which are counted.
        metrics: Hears what is seen.
    """

    def __init__(self, log: Log, requests: str, metrics: Metrics) -> None:
        self._log = log
        self._metrics = metrics
        self._requests = Partition(requests, 0)
        self._n_requests = 0

    def look(self, learner: Learner, reader: Reader) -> int:
        """How many records wait; the figures say what the learner and its log are like now.

        Raises:
            BrokerError: The log cannot be reached.
        """
        metrics = self._metrics
        lag = reader.lag()
        for partition, n_records in lag.items():
            metrics.lag(partition, n_records)
        requests = self._log.bounds(self._requests)
        metrics.request_seen(requests.end - requests.begin - self._n_requests)
        self._n_requests = requests.end - requests.begin
        metrics.broker(up=True)
        metrics.prequential(**figures(learner.prequential))
        spread = learner.spread
        metrics.disagreement(energy=spread.energy_disagreement, force=spread.force_disagreement)
        metrics.verdict(learner.ruling.verdict)
        metrics.state(
            labels_learned=learner.labels_learned,
            elements=len(learner.elements),
            reservoir=learner.n_remembered,
            holdout=learner.n_held_out,
            quarantine=learner.n_quarantined,
        )
        return sum(lag.values())

    def stepwatch(self) -> Callable[[StepReport], None]:
        """An observer of steps that measures the time between them."""
        last = time.perf_counter()

        def observe(step: StepReport) -> None:
            nonlocal last
            now = time.perf_counter()
            self._metrics.stepped(seconds=now - last, energy_loss=step.energy_loss, force_loss=step.force_loss)
            last = now

        return observe

    def count(self, line: Mapping[str, Any]) -> None:
        """Count what one tick did, as its line of the history says."""
        metrics = self._metrics
        metrics.learned(line["n_learned"])
        metrics.held_out(line["n_held_out"])
        metrics.duplicates(line["n_duplicates"])
