"""What a checkpoint holds a learner to."""

import pytest

from lmlp_stream.config import parse_config
from lmlp_stream.errors import ConfigError
from lmlp_stream.service.saver import check_config


def header(**wire: object) -> dict[str, object]:
    """Of a checkpoint of an earlier version, which knew no further levels."""
    settings = parse_config({"wire": {"level_of_theory": "A"}}, place="test").model_dump(mode="json")
    del settings["wire"]["further_levels"]
    settings["wire"] |= wire
    return {"config": settings}


def test_a_checkpoint_from_before_there_were_further_levels_goes_on():
    config = parse_config({"wire": {"level_of_theory": "A"}}, place="test")
    check_config(config, header())
    check_config(config, header(forces_from=[]))
    with pytest.raises(ConfigError, match=r"was started with wire.further_levels = \[\]"):
        check_config(parse_config({"wire": {"level_of_theory": "A", "further_levels": ["B"]}}, place="test"), header())


def test_one_that_learned_forces_of_another_level_as_its_own_does_not():
    config = parse_config({"wire": {"level_of_theory": "A"}}, place="test")
    with pytest.raises(ConfigError, match=r"was started with wire.forces_from = \['B'\]"):
        check_config(config, header(forces_from=["B"]))
