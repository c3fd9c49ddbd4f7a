import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lmlp_stream.errors import ConfigError, UntrustedError, UsageError
from lmlp_stream.potential.ensemble import Ensemble
from lmlp_stream.store.signing import KEY, KEY_FILE, KeyPair, check_signature, new_key_pair, signer
from lmlp_stream.store.snapshot import Provenance, load, publish
from lmlp_stream.wire.announcement import SnapshotManifest
from lmlp_stream.wire.examples import manifest

OURS = new_key_pair()
THEIRS = new_key_pair()


def signed(by: KeyPair = OURS) -> SnapshotManifest:
    sign = signer({KEY: by.private})
    assert sign
    return replace(manifest(), signature=sign(manifest().id))


def test_what_the_key_signed_is_trusted() -> None:
    check_signature(signed(), (OURS.public,))
    check_signature(signed(), (THEIRS.public, OURS.public))


def test_the_signature_is_that_of_rfc_8032() -> None:
    """RFC 8032, 7.1, test 1, says which public key belongs to this private key; the signature follows from both."""
    private = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    check_signature(signed(KeyPair(private, public)), (public,))
    assert signed(KeyPair(private, public)) == signed(KeyPair(private, public))


def test_without_trusted_keys_nothing_is_asked() -> None:
    check_signature(manifest(), ())
    check_signature(signed(THEIRS), ())


def test_the_unsigned_is_not_trusted() -> None:
    with pytest.raises(UntrustedError, match="is not signed"):
        check_signature(manifest(), (OURS.public,))


@pytest.mark.parametrize(
    "wrong",
    [
        signed(THEIRS),
        replace(signed(), id=manifest(step=1).id),
        replace(signed(), signature="0" * 128),
        replace(signed(), signature="x" * 128),
        replace(signed(), signature=f"{int(signed().signature[:2], 16) ^ 1:02x}" + signed().signature[2:]),
    ],
    ids=["another key", "another snapshot", "zeros", "no digits", "changed"],
)
def test_another_signature_is_not_trusted(wrong: SnapshotManifest) -> None:
    with pytest.raises(UntrustedError, match=r"is of none of simulate\.trusted_keys"):
        check_signature(wrong, (OURS.public,))


@pytest.mark.parametrize("public", ["0" * 64, "f" * 64])
def test_a_public_key_that_is_no_good_trusts_nobody(public: str) -> None:
    with pytest.raises(UntrustedError):
        check_signature(signed(), (public,))


def test_the_key_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(OURS.private + "\n")
    (tmp_path / "key").chmod(0o600)
    sign = signer({KEY_FILE: str(tmp_path / "key")})
    assert sign
    assert sign(manifest().id) == signed().signature


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620], ids=oct)
def test_a_key_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "the key"
    file.write_text(OURS.private + "\n")
    file.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600") as caught:
        signer({KEY_FILE: str(file)})
    assert OURS.private not in str(caught.value)
    command = str(caught.value).partition("type: ")[2]
    subprocess.run(shlex.split(command), check=True)
    assert signer({KEY_FILE: str(file)}) is not None


def test_without_a_key_nobody_signs() -> None:
    assert signer({}) is None


@pytest.mark.parametrize("content", [b"", b"Ruritania", b"\xff\x00", ("f" * 65).encode()])
def test_a_key_that_is_none_is_not_repeated(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(ConfigError, match="KEY_FILE does not give 64 hexadecimal digits") as caught:
        signer({KEY_FILE: str(tmp_path / "key")})
    assert "Ruritania" not in str(caught.value)
    with pytest.raises(ConfigError, match="KEY does not give 64 hexadecimal digits") as caught:
        signer({KEY: "Ruritania"})
    assert "Ruritania" not in str(caught.value)


def test_a_key_file_that_is_not_there_and_two_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"cannot be read: No such file.*; name the file that `lmlp-stream keys FILE` made"
    ):
        signer({KEY_FILE: str(tmp_path / "nowhere")})
    with pytest.raises(ConfigError, match="set one of them"):
        signer({KEY: OURS.private, KEY_FILE: "key"})


def test_a_pair_does_not_show_its_private_key() -> None:
    assert OURS.private not in repr(OURS)


def test_without_cryptography_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    with pytest.raises(UsageError, match=r"lmlp-stream\[signing\]"):
        check_signature(signed(), (OURS.public,))


def test_a_signed_snapshot_is_loaded_only_with_its_key(
    ensemble: Ensemble, provenance: Provenance, tmp_path: Path
) -> None:
    published = publish(ensemble, provenance, tmp_path, signer({KEY: OURS.private}))
    for where in (published, tmp_path / published.id):
        assert load(where, trusted_keys=(OURS.public,))[0] == published
        assert load(where)[0] == published
        with pytest.raises(UntrustedError):
            load(where, trusted_keys=(THEIRS.public,))


def test_no_weight_is_read_before_the_signature_is_believed(
    ensemble: Ensemble, provenance: Provenance, tmp_path: Path
) -> None:
    published = publish(ensemble, provenance, tmp_path)
    (tmp_path / published.id / "weights.safetensors").unlink()
    with pytest.raises(UntrustedError):
        load(published, trusted_keys=(OURS.public,))


def test_a_snapshot_that_is_there_is_signed_later_under_the_same_id(
    ensemble: Ensemble, provenance: Provenance, tmp_path: Path
) -> None:
    unsigned = publish(ensemble, provenance, tmp_path)
    ours = publish(ensemble, provenance, tmp_path, signer({KEY: OURS.private}))
    assert ours.id == unsigned.id
    assert json.loads((tmp_path / ours.id / "manifest.json").read_text())["signature"] == ours.signature
    assert publish(ensemble, provenance, tmp_path) == ours
    theirs = publish(ensemble, provenance, tmp_path, signer({KEY: THEIRS.private}))
    check_signature(theirs, (THEIRS.public,))
