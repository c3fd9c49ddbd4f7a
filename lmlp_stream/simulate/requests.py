"""Label requests of a simulation: each geometry once, spaced, within a budget."""

import time
from math import isfinite, nan

from lmlp_stream.atoms.structure import Structure
from lmlp_stream.broker.log import Sink
from lmlp_stream.config import SimulateConfig
from lmlp_stream.wire.request import LabelRequest, encode_request, request_id

HIGHEST_PRIORITY = 1e6


class LabelRequests:
    """The desk where a simulation asks for labels.

    Args:
        sink: Where requests are sent.
        topic: Their topic.
        config: Budget, spacing and lifetime of requests.
        requester: Who asks; the labeller passes it on.
    """

    def __init__(self, sink: Sink, topic: str, config: SimulateConfig, requester: str) -> None:
        self._sink = sink
        self._topic = topic
        self._config = config
        self._requester = requester
        self._asked: set[str] = set()
        self._calls_since = config.min_calls_between_requests

    @property
    def n_sent(self) -> int:
        """Requests that were sent."""
        return len(self._asked)

    def count_call(self) -> None:
        """Note that the simulation evaluated a structure; requests are spaced by these calls."""
        self._calls_since += 1

    def ask(self, structure: Structure, *, uncertainty: float, priority: float, snapshot_id: str) -> bool:
        """Whether a request was sent: not for a geometry that was asked before, too soon, or beyond the budget.

        Nor where the uncertainty is no number: such a geometry has exploded.

        The request is durable when this returns.

        Args:
            structure: What should be labelled.
            uncertainty: Largest uncertainty of a force component, eV/Å.
            priority: How urgent it is, uncertainty over threshold; sent as at most `HIGHEST_PRIORITY`.
            snapshot_id: The snapshot that is uncertain.

        Raises:
            BrokerError: The log cannot be reached or did not accept the request.
        """
        if not isfinite(uncertainty) or self._calls_since <= self._config.min_calls_between_requests:
            return False
        return self._send(structure, uncertainty, min(priority, HIGHEST_PRIORITY), snapshot_id)

    def ask_for_unknown(self, structure: Structure, *, snapshot_id: str) -> bool:
        """Whether a request was sent for a structure with an element that the snapshot does not know.

        Of the highest priority and however short ago another one was sent: no simulation goes on with this structure.

        Raises:
            BrokerError: The log cannot be reached or did not accept the request.
        """
        return self._send(structure, nan, HIGHEST_PRIORITY, snapshot_id)

    def _send(self, structure: Structure, uncertainty: float, priority: float, snapshot_id: str) -> bool:
        identity = request_id(structure)
        if len(self._asked) >= self._config.max_requests or identity in self._asked:
            return False
        request = LabelRequest(
            id=identity,
            structure=structure,
            uncertainty=uncertainty,
            priority=priority,
            requester=self._requester,
            snapshot_id=snapshot_id,
            expires_at=time.time() + self._config.request_lifetime_s,
        )
        self._sink.send(self._topic, key=identity.encode(), value=encode_request(request))
        self._sink.flush()
        self._asked.add(identity)
        self._calls_since = 0
        return True
