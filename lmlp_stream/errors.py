"""The exceptions of lmlp_stream: one root, one child for each exit code of the command line.

Bad data is a value (`wire.Rejection`), bad state is one of these. A message is one sentence:
the offending value, its place, and what to do next.
"""

from typing import ClassVar


class LmlpStreamError(Exception):
    """Root of everything lmlp_stream raises on purpose."""

    exit_code: ClassVar[int] = 1


class UsageError(LmlpStreamError):
    """The caller asked for something that cannot be: a missing file, an ambiguous label key."""

    exit_code = 2


class ConfigError(LmlpStreamError):
    """The configuration is wrong, or differs from the one a checkpoint was made with."""

    exit_code = 3


class DivergedError(LmlpStreamError):
    """A loss or gradient was not finite; the optimizer step was not taken."""

    exit_code = 4


class BrokerError(LmlpStreamError):
    """The log cannot be reached, has lost records, or refused a message."""

    exit_code = 5


class FencedError(BrokerError):
    """Another learner of the same name is running or has taken over; this one stops and publishes nothing."""


class DamagedStoreError(LmlpStreamError):
    """A checkpoint or snapshot is missing, incomplete or not what its digest says."""

    exit_code = 6


class UntrustedError(DamagedStoreError):
    """A snapshot is not signed by a key that is trusted."""
