"""The configuration: TOML, settings laid over it, and one clear sentence for what is wrong."""

import tomllib
from pathlib import Path

import pytest

from lmlp_stream.config import Config, config_template, load_config, parse_config
from lmlp_stream.errors import ConfigError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "lmlp.toml"
    file.write_text('name = "mine"\n[potential]\nmembers = 3\n')
    return file


def test_the_template_says_the_defaults() -> None:
    assert parse_config(tomllib.loads(config_template()), place="template") == Config()


def test_a_file_is_read_by_path_or_name(path: Path) -> None:
    assert load_config(path) == load_config(str(path))
    assert load_config(path).potential.members == 3


def test_settings_are_laid_over_the_file(path: Path) -> None:
    config = load_config(path, ["potential.members=5", "log.url=sqlite:/x y.db", "wire.level_of_theory=B3LYP/6-31G(d)"])
    assert config.potential.members == 5
    assert config.log.url == "sqlite:/x y.db"
    assert config.wire.level_of_theory == "B3LYP/6-31G(d)"
    assert config.name == "mine"


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("potential.members", "not of the form section.key=value"),
        ("=3", "not of the form section.key=value"),
        ("name.first=3", "name is not a section"),
        ("potential.members=0", r"potential\.members = 0: Input should be greater than 0"),
        ("potential.mebers=3", r"potential\.mebers = 3: there is no such setting, did you mean potential\.members\?"),
        ("potental.members=3", r"potental = .*: there is no such setting, did you mean potential\?"),
        ("potential.qqq=3", r"potential\.qqq = 3: there is no such setting;"),
        ("log=here", r"log = 'here': this is a section"),
        ("potential.device=gpu", r"potential\.device = 'gpu': String should match"),
        ("learning.ridge=inf", r"learning\.ridge = inf: Input should be a finite number"),
        ("symmetry.cutoff=1.9", r"symmetry\.cutoff = 1\.9: Input should be greater than or equal to 2"),
        ("core.weight_decay=nan", r"core\.weight_decay = nan: Input should be"),
        ("name=Not A Name", r"name = 'Not A Name': String should match"),
    ],
)
def test_a_wrong_setting_is_named(path: Path, setting: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        load_config(path, [setting])


def test_a_wrong_setting_is_not_blamed_on_the_file_alone(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lmlp\.toml with --set: "):
        load_config(path, ["potential.members=0"])


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name a TOML file"):
        load_config(tmp_path)


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="config template >"):
        load_config(tmp_path / "none.toml")


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(tmp_path / "bad.toml")


def test_the_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().seed = 3  # type: ignore[misc]
