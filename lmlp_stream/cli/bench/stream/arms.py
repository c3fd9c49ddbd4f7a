"""The arms of the comparison: each is the configuration with a few settings laid over it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lmlp_stream.cli.bench.configured import SEED
from lmlp_stream.config import Config, overlaid
from lmlp_stream.errors import UsageError

REFERENCE = "stationary"
GOVERNED = SEED | {"rehearsal.capacity": "--memory"}
"""Settings that each arm chooses, with the option that says them."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to learn the same labels.

    Attributes:
        name: What tables call it.
        meaning: One line.
        settings: `section.key=value`, laid over the configuration.
        memory: Share of the stream that is remembered; None: as asked.
        together: Whether everything is there from the start.
    """

    name: str
    meaning: str
    settings: tuple[str, ...] = ()
    memory: float | None = None
    together: bool = False

    def config(self, base: Config, *, seed: int, n_labels: int, memory: float) -> Config:
        """The configuration of one run."""
        share = memory if self.memory is None else self.memory
        steps = max(1, round(base.learning.steps_per_record * n_labels))
        settings = [
            f"seed={seed}",
            f"rehearsal.capacity={round(share * n_labels)}",
            *([f"learning.max_steps_per_tick={steps}"] if self.together else []),
        ]
        return overlaid(base, [*settings, *self.settings])


MAIN_ARMS = (
    Arm(REFERENCE, "everything present from the start, the same number of steps", memory=1.0, together=True),
    Arm("stream", "seen once, in this order, with the memory that was asked for"),
    Arm(
        "no-rehearsal",
        "seen once, no label remembered but in the sums of the linear part",
        ("learning.fresh_share=1.0",),
        memory=0.0,
    ),
    Arm("unlimited", "seen once, everything remembered", memory=1.0),
)

INGREDIENT_ARMS = (
    Arm("no-averaging", "the newest weights instead of averaged ones", ("learning.averaged_steps=1",)),
    Arm("no-fresh-share", "newest labels drawn no more often than remembered ones", ("learning.fresh_share=0.0",)),
    Arm("uniform-memory", "a uniform sample of the stream is remembered", ("rehearsal.selection=uniform",)),
    Arm("no-quarantine", "labels that do not fit are learned at once", ("quarantine.enabled=false",)),
    Arm("no-linear-part", "networks alone, without the linear part", ("potential.linear_features=0",)),
)


def chosen_arms(names: Sequence[str], variations: Iterable[str]) -> tuple[Arm, ...]:
    """The arms of these names (`all`: every one, empty: none), and one for each variation, `section.key=value ...`.

    Raises:
        UsageError: There is no arm of a name, or none at all is wanted.
    """
    known = {arm.name: arm for arm in (*MAIN_ARMS, *INGREDIENT_ARMS)}
    wanted = list(known) if "all" in names else list(dict.fromkeys(filter(None, names)))
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UsageError(f"there is no arm {unknown[0]!r}; say all, or some of {', '.join(known)}")
    varied = [Arm(text, "the stream with these settings", tuple(text.split())) for text in variations]
    if not wanted and not varied:
        raise UsageError(f"no arm is named; give --arms all, or some of {', '.join(known)}")
    return (*(known[name] for name in wanted), *varied)
