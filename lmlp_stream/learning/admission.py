"""When a snapshot may be announced."""

from collections.abc import Mapping

import numpy as np

from lmlp_stream.config import EvaluationConfig
from lmlp_stream.learning.evaluation import HeldError, Withheld


def withheld(
    config: EvaluationConfig,
    *,
    labels_learned: int,
    finite: bool,
    held: Mapping[str, HeldError],
    announced: Mapping[str, HeldError],
) -> tuple[Withheld, ...]:
    """Why a snapshot is not admissible; empty where it is.

    Only structures that were also held at the announced snapshot count for a regression, so that new and harder
    chemistry never blocks.

    Args:
        config: `min_labels` and `max_regression`.
        labels_learned: Labels of the main level of theory that were learned so far.
        finite: Whether every weight is finite.
        held: Force errors on the hold-out now, by id.
        announced: Force errors on the hold-out at the last announced snapshot, by id.
    """
    common = [id_ for id_ in held if id_ in announced]
    now = sum(held[id_].force_squared for id_ in common)
    then = sum(announced[id_].force_squared for id_ in common)
    reasons = []
    if labels_learned < config.min_labels:
        reasons.append(Withheld.FEW_LABELS)
    if not finite or not np.isfinite(now):
        reasons.append(Withheld.NOT_FINITE)
    elif now > config.max_regression**2 * then:
        reasons.append(Withheld.REGRESSION)
    return tuple(reasons)
