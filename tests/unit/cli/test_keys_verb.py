import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lmlp_stream.cli.main import main
from lmlp_stream.store.signing import KEY_FILE, check_signature, signer
from lmlp_stream.wire.examples import manifest


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lmlp-stream", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_the_private_key_goes_into_a_file_of_ones_own_and_the_public_one_is_printed(monkeypatch, capsys, tmp_path):
    file = tmp_path / "key"
    assert run(monkeypatch, "keys", file) == 0
    public = capsys.readouterr().out.strip()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().strip() != public
    sign = signer({KEY_FILE: str(file)})
    signed = replace(manifest(), signature=sign(manifest().id))
    check_signature(signed, (public,))


def test_no_key_is_overwritten(monkeypatch, capsys, tmp_path: Path):
    file = tmp_path / "key"
    assert run(monkeypatch, "keys", file, "--json") == 0
    before = file.read_text()
    assert json.loads(capsys.readouterr().out)["private_key_file"] == str(file)
    assert run(monkeypatch, "keys", file) == 2
    assert "name a new file" in capsys.readouterr().err
    assert file.read_text() == before
