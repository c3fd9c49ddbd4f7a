"""A setting that nobody reads promises what it does not do."""

import re
from pathlib import Path

import pytest

import lmlp_stream
from lmlp_stream.config import Config, Section

PACKAGE = Path(lmlp_stream.__file__).parent
CODE = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if path.name != "config.py")
SETTINGS = [
    f"{name}.{key}" for name, section in Config() if isinstance(section, Section) for key in type(section).model_fields
]


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_is_read(setting: str) -> None:
    assert re.search(rf"\.{setting.partition('.')[2]}\b", CODE)
