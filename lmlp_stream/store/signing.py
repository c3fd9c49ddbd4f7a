"""Ed25519 signatures of snapshots (RFC 8032): who announced this potential?

The learner signs the id of a snapshot, which is the hash of everything its manifest says and so of the weights; where
it lies, when it was made and by which version of the code is not signed. Keys and signatures travel as hexadecimal
digits.
"""

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lmlp_stream.errors import ConfigError, UntrustedError, UsageError
from lmlp_stream.wire.announcement import SnapshotManifest

if TYPE_CHECKING:
    from types import ModuleType

KEY = "LMLP_SNAPSHOT_SIGNING_KEY"
KEY_FILE = "LMLP_SNAPSHOT_SIGNING_KEY_FILE"
MAX_KEY_FILE_BYTES = 1024
OTHERS = 0o077
"""Permissions that a file with a private key gives nobody: those of its group and of everybody."""

_SIGNED_AS = b"lmlp-snapshot/1:"
_KEY = re.compile(r"[0-9a-f]{64}")

Sign = Callable[[str], str]
"""The signature of a snapshot's id."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A new pair of keys.

    Attributes:
        private: What signs; 64 hexadecimal digits that nobody else may know.
        public: What tells whether a signature is of this pair; 64 hexadecimal digits for everybody.
    """

    private: str = field(repr=False)
    public: str


def new_key_pair() -> KeyPair:
    """A pair of keys that never was.

    Raises:
        UsageError: `cryptography` is not installed.
    """
    key = _ed25519().Ed25519PrivateKey.generate()
    return KeyPair(key.private_bytes_raw().hex(), key.public_key().public_bytes_raw().hex())


def signer(environ: Mapping[str, str]) -> Sign | None:
    """Signs with the private key in the environment; None where there is none.

    LMLP_SNAPSHOT_SIGNING_KEY holds the key, or LMLP_SNAPSHOT_SIGNING_KEY_FILE names a file that does.

    Raises:
        ConfigError: What is there is not a private key, or others may read it; the message does not repeat it.
        UsageError: `cryptography` is not installed.
    """
    private, path = environ.get(KEY, ""), environ.get(KEY_FILE, "")
    if private and path:
        raise ConfigError(f"the environment has both {KEY} and {KEY_FILE}; set one of them")
    if not private and not path:
        return None
    if path:
        private = _read_key(path)
    if not _KEY.fullmatch(private):
        raise ConfigError(
            f"{KEY_FILE if path else KEY} does not give 64 hexadecimal digits; `lmlp-stream keys FILE` makes a key"
        )
    key = _ed25519().Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private))
    return lambda snapshot_id: bytes(key.sign(_signed(snapshot_id))).hex()


def check_signature(manifest: SnapshotManifest, trusted_keys: tuple[str, ...]) -> None:
    """Nothing, if one of the public keys says that its private key signed this manifest, or if there are no keys.

    The id must be verified besides: the signature is of the id alone.

    Raises:
        UntrustedError: It is not signed, or not by one of them.
        UsageError: `cryptography` is not installed.
    """
    if not trusted_keys:
        return
    if not manifest.signature:
        raise UntrustedError(
            f"snapshot {manifest.id[:12]} of {manifest.name} is not signed; simulate.trusted_keys asks for a signature"
        )
    if not any(_is_by(public, manifest) for public in trusted_keys):
        raise UntrustedError(
            f"the signature of snapshot {manifest.id[:12]} of {manifest.name} is of none of simulate.trusted_keys; "
            "add the learner's public key only if you trust it"
        )


def _is_by(public: str, manifest: SnapshotManifest) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key = _ed25519().Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(manifest.signature), _signed(manifest.id))
    except (InvalidSignature, ValueError):
        return False
    return True


def _signed(snapshot_id: str) -> bytes:
    return _SIGNED_AS + snapshot_id.encode()


def _read_key(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            if os.fstat(file.fileno()).st_mode & OTHERS:
                raise ConfigError(
                    f"{KEY_FILE} = {path!r} is open to others than its owner; type: chmod 600 {shlex.quote(path)}"
                )
            return file.read(MAX_KEY_FILE_BYTES).decode("ascii").strip()
    except OSError as error:
        raise ConfigError(
            f"{KEY_FILE} = {path!r} cannot be read: {error.strerror}; name the file that `lmlp-stream keys FILE` made"
        ) from error
    except UnicodeDecodeError:
        return ""


def _ed25519() -> "ModuleType":
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise UsageError(
            "signatures of snapshots need the package cryptography: pip install 'lmlp-stream[signing]'"
        ) from error
    return ed25519
