"""What a calculator does where its potential is unsure: nothing, ask for a label, or stop."""

from typing import Literal

from lmlp_stream.atoms.structure import Structure
from lmlp_stream.errors import LmlpStreamError, UsageError
from lmlp_stream.simulate.evaluator import Evaluation
from lmlp_stream.simulate.requests import LabelRequests

OnUncertain = Literal["ignore", "request", "stop"]


class UncertainError(LmlpStreamError):
    """The potential does not know this structure well enough, and the calculator was told to stop.

    Attributes:
        structure: The structure.
        evaluation: What the potential says of it all the same.
    """

    def __init__(self, message: str, structure: Structure, evaluation: Evaluation) -> None:
        super().__init__(message)
        self.structure = structure
        self.evaluation = evaluation


class Doubt:
    """What follows from an uncertain evaluation.

    Args:
        on_uncertain: Above the thresholds: `ignore`, `request` a label, or `stop` with `UncertainError`.
        requests: Where labels are asked for.

    Raises:
        UsageError: Labels are to be requested and there is no place to ask.
    """

    def __init__(self, on_uncertain: OnUncertain, requests: LabelRequests | None) -> None:
        if on_uncertain not in ("ignore", "request", "stop"):
            raise UsageError(f"on_uncertain = {on_uncertain!r} is none of ignore, request and stop")
        if on_uncertain == "request" and requests is None:
            raise UsageError("on_uncertain = 'request' needs a place to ask; use LmlpCalculator.follow(config)")
        self._requests = requests if on_uncertain == "request" else None
        self._stops = on_uncertain == "stop"

    @property
    def n_requests(self) -> int:
        """Label requests that were sent."""
        return self._requests.n_sent if self._requests else 0

    def act_on(self, structure: Structure, evaluation: Evaluation, snapshot_id: str) -> None:
        """Do what was chosen, where the evaluation is above a threshold.

        Raises:
            UncertainError: It is, and the calculator was told to stop.
            BrokerError: A label request could not be sent.
        """
        if self._requests:
            self._requests.count_call()
        if evaluation.excess <= 1.0:
            return
        if self._stops:
            raise UncertainError(
                f"snapshot {snapshot_id[:12]} is uncertain by {evaluation.excess:.3g} times its threshold (90 % "
                f"intervals: energy ± {evaluation.energy_uncertainty:.3g} eV, forces up to ± "
                f"{evaluation.max_forces_uncertainty:.3g} eV/Å); "
                "label this structure, or update() to a snapshot that knows it",
                structure,
                evaluation,
            )
        if self._requests:
            self._requests.ask(
                structure,
                uncertainty=evaluation.max_forces_uncertainty,
                priority=evaluation.excess,
                snapshot_id=snapshot_id,
            )

    def ask_for_unknown(self, structure: Structure, snapshot_id: str) -> bool:
        """Whether the label of a structure with an element that the snapshot does not know was asked for.

        Raises:
            BrokerError: The label request could not be sent.
        """
        return self._requests is not None and self._requests.ask_for_unknown(structure, snapshot_id=snapshot_id)
