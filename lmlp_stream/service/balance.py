"""What one run of the learner did, and what it left."""

from dataclasses import dataclass

OUTCOMES = ("learned", "held_out", "unlearned", "duplicates", "refused", "condemned")
"""What can become of a record; a checkpoint says how many of each the learner met in its life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What one run of the learner did, and what it left.

    Attributes:
        n_learned: Labels learned in this run, replayed ones included.
        n_held_out: Records that went to the hold-out.
        n_duplicates: Records whose id was known.
        n_refused: Records that became dead letters at the door.
        n_unlearned: Records that were let in and never learned: they wait, or were condemned.
        n_condemned: Records that were let in and became dead letters later, some after they had been learned.
        n_waiting: Records in quarantine at the end.
        labels_learned: Labels learned in the learner's whole life.
        n_steps: Optimizer steps in its whole life.
        n_announced: Snapshots announced in this run.
        n_withheld: Due snapshots that were not announced.
        snapshot_id: The newest announced snapshot of its life; empty: none.
        checkpoint: Folder of the last checkpoint.
        state_sha256: Hash of the state in it.
        verdict: Whether it improves, has converged, drifts or forgets.
        evidence: Why one may say so.
    """

    n_learned: int
    n_held_out: int
    n_duplicates: int
    n_refused: int
    n_unlearned: int
    n_condemned: int
    n_waiting: int
    labels_learned: int
    n_steps: int
    n_announced: int
    n_withheld: int
    snapshot_id: str
    checkpoint: str
    state_sha256: str
    verdict: str
    evidence: str
