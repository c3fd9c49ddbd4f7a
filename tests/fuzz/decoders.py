"""Every decoder of bytes from outside, with messages to start from and the answers it may give."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lmlp_stream.atoms.structure import LabelledStructure, Structure
from lmlp_stream.atoms.symmetry_spec import spec_of
from lmlp_stream.config import SymmetryConfig, WireConfig
from lmlp_stream.wire.announcement import SnapshotManifest, announce, read_announcement
from lmlp_stream.wire.dead_letter import DeadLetter, decode_dead_letter
from lmlp_stream.wire.examples import EXAMPLE_LIMITS, invalid_examples, manifest, valid_examples
from lmlp_stream.wire.journal import Claim, Range, Tell, Tick, decode_entry, encode_entry
from lmlp_stream.wire.limits import Limits
from lmlp_stream.wire.record import decode, encode
from lmlp_stream.wire.rejection import Rejection
from lmlp_stream.wire.request import LabelRequest, decode_request

MAX_DETAIL = 500
LIMITS = Limits.of(WireConfig(level_of_theory=EXAMPLE_LIMITS.level_of_theory))
"""The limits that are the default, with the level of theory of the examples."""


class WrongAnswerError(Exception):
    """A decoder answered what it must never answer."""


@dataclass(frozen=True, slots=True)
class Decoder:
    """A decoder and what it starts from.

    Attributes:
        judge: The reason of the refusal of some bytes, or "" where they are let in; raises where the decoder is broken.
        seeds: Messages that are mutated.
        resign: Whether a mutated message gets the id that its content now has.
    """

    judge: Callable[[bytes], str]
    seeds: tuple[bytes, ...]
    resign: bool = False


def decoders() -> dict[str, Decoder]:
    """Every decoder by name."""
    examples = valid_examples()
    refused = tuple(value for value in invalid_examples().values() if len(value) < 2048)
    large = tuple(encode(_crystal(n_atoms)) for n_atoms in (64, 216))
    return {
        "labelled-structure": Decoder(
            lambda value: _verdict(decode(value, LIMITS), LabelledStructure),
            4 * (*_of(examples, "labelled-structure"), *large) + refused,
        ),
        "label-request": Decoder(
            lambda value: _verdict(decode_request(value, LIMITS), LabelRequest), _of(examples, "label-request")
        ),
        "announcement": Decoder(
            lambda value: _verdict(read_announcement(value), SnapshotManifest), _announcements(), resign=True
        ),
        "dead-letter": Decoder(
            lambda value: _verdict(decode_dead_letter(value), DeadLetter), _of(examples, "dead-letter")
        ),
        "journal-entry": Decoder(_judge_entry, _entries()),
    }


def _verdict(answer: object, kind: type) -> str:
    if isinstance(answer, Rejection):
        if not 0 < len(answer.detail) < MAX_DETAIL or not answer.detail.isprintable():
            raise WrongAnswerError(f"the detail of a refusal is no sentence for people: {answer.detail[:MAX_DETAIL]!r}")
        return str(answer.reason)
    if not isinstance(answer, kind):
        raise WrongAnswerError(f"the answer is a {type(answer).__name__}")
    structure = answer.structure if isinstance(answer, LabelRequest) else answer
    if isinstance(structure, Structure | LabelledStructure):
        _check_computable(structure)
    return ""


def _check_computable(structure: Structure) -> None:
    finite = np.isfinite(structure.positions).all() and np.isfinite(structure.cell).all()
    if not finite or structure.atomic_numbers.min() < 1 or structure.atomic_numbers.max() > 54:
        raise WrongAnswerError("a structure was let in that cannot be computed with")


def _judge_entry(value: bytes) -> str:
    try:
        decode_entry(value)
    except ValueError:
        return "value_error"
    return ""


def _of(examples: dict[str, bytes], schema: str) -> tuple[bytes, ...]:
    return tuple(value for name, value in examples.items() if name.startswith(f"{schema}--"))


def _announcements() -> tuple[bytes, ...]:
    real = manifest(symmetry=spec_of(SymmetryConfig()).to_dict(), potential={"members": 8, "hidden": [102, 61, 44]})
    return announce(manifest()), announce(manifest(symmetry={}, potential={})), announce(real)


def _entries() -> tuple[bytes, ...]:
    ranges = tuple(Range(index, 16 * index, 16 * index + 16, 16) for index in range(4))
    entries = (Claim(1, "host:1:abc"), Tick(1, "host:1:abc", 7, ranges), Tell(2, "host:2:def", 8))
    return tuple(encode_entry(entry) for entry in entries)


def _crystal(n_atoms: int) -> LabelledStructure:
    side = round(n_atoms ** (1 / 3))
    grid = 2.0 * np.stack(np.meshgrid(*3 * [np.arange(side)], indexing="ij"), axis=-1).reshape(-1, 3)
    return LabelledStructure(
        id=f"crystal {n_atoms}",
        group="crystal",
        domain="crystal",
        atomic_numbers=np.full(n_atoms, 13),
        positions=grid,
        cell=2.0 * side * np.eye(3),
        pbc=np.ones(3, dtype=bool),
        energy=-3.5 * n_atoms,
        forces=np.zeros((n_atoms, 3)),
        level_of_theory=LIMITS.level_of_theory,
    )
