import subprocess
from pathlib import Path

import pytest

from lmlp_stream.broker.kafka import connection
from lmlp_stream.broker.kafka.settings import creation, security
from lmlp_stream.broker.log import TopicSpec
from lmlp_stream.broker.memory import MemoryLog
from lmlp_stream.broker.open import kafka_servers, open_log, sqlite_path
from lmlp_stream.broker.sqlite import SqliteLog
from lmlp_stream.errors import BrokerError, ConfigError


def test_a_memory_url_names_one_log_of_the_process() -> None:
    assert open_log("memory:same", client="a") is open_log("memory:same", client="b")
    assert open_log("memory:same", client="a") is not open_log("memory:other", client="a")
    assert isinstance(open_log("memory:", client="a"), MemoryLog)


def test_a_sqlite_url_names_a_file_whose_folder_is_made_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_log(f"sqlite:{tmp_path}/log.db", client="a").close()
    assert caplog.messages == []
    log = open_log(f"sqlite:{tmp_path}/new/folder/log.db", client="a")
    assert isinstance(log, SqliteLog)
    assert (tmp_path / "new" / "folder" / "log.db").exists()
    assert caplog.messages == [f"made the folder {tmp_path}/new/folder, which was not there, for a new log (log.url)"]
    log.close()


@pytest.mark.parametrize(
    ("rest", "path"),
    [("log.db", "log.db"), ("/data/log.db", "/data/log.db"), ("///data/log.db", "/data/log.db"), ("a b.db", "a b.db")],
)
def test_a_sqlite_path_is_relative_or_absolute(rest: str, path: str) -> None:
    assert sqlite_path(rest) == Path(path)


def test_a_sqlite_path_may_begin_at_home() -> None:
    assert sqlite_path("~/log.db") == Path.home() / "log.db"


@pytest.mark.parametrize("rest", ["", "//host/log.db"])
def test_a_sqlite_url_without_a_file_is_refused(rest: str) -> None:
    with pytest.raises(ConfigError, match="names no file"):
        sqlite_path(rest)


@pytest.mark.parametrize(
    ("rest", "servers"),
    [
        ("//localhost:9092", ("localhost:9092",)),
        ("//a.example:9092,b-2.example:9093", ("a.example:9092", "b-2.example:9093")),
        ("//127.0.0.1/", ("127.0.0.1",)),
        ("//[::1]:9092", ("[::1]:9092",)),
    ],
)
def test_a_kafka_url_names_its_brokers(rest: str, servers: tuple[str, ...]) -> None:
    assert kafka_servers(rest) == servers


@pytest.mark.parametrize("rest", ["", "//", "localhost:9092", "//a:9092,,b:9092", "//a:port", "//a b:9092"])
def test_a_kafka_url_with_something_else_is_refused(rest: str) -> None:
    with pytest.raises(ConfigError, match=r"write kafka://HOST:PORT"):
        kafka_servers(rest)


@pytest.mark.parametrize("url", ["", "redis://localhost", "lmlp-stream.db"])
def test_another_scheme_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:PATH"):
        open_log(url, client="a")


def test_a_kafka_that_is_not_there_is_a_broker_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 0.5)
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1 .*deploy/kafka/start starts one"):
        open_log("kafka://127.0.0.1:1", client="a")


LOGIN = {"LMLP_KAFKA_SASL_USERNAME": "farm", "LMLP_KAFKA_SASL_PASSWORD": "Ruritania"}


def test_a_login_to_kafka_comes_from_the_environment() -> None:
    assert security({}) == {}
    expected = {
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "farm",
        "sasl_plain_password": "Ruritania",
        "security_protocol": "SASL_PLAINTEXT",
    }
    assert security(LOGIN) == expected
    assert security(LOGIN | {"LMLP_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"})["sasl_mechanism"] == "SCRAM-SHA-256"


def test_an_authority_makes_it_tls(tmp_path: Path) -> None:
    authority = str(tmp_path / "ca.pem")
    subprocess.run(
        f"openssl req -x509 -newkey ed25519 -nodes -subj /CN=a -keyout /dev/null -out {authority}".split(),
        check=True,
        capture_output=True,
    )
    tls = {"LMLP_KAFKA_TLS_CA": authority}
    assert security(tls) == {"ssl_cafile": authority, "security_protocol": "SSL"}
    assert security(LOGIN | tls)["security_protocol"] == "SASL_SSL"


def test_settings_do_not_show_the_password_when_they_are_printed() -> None:
    assert "Ruritania" not in repr(security(LOGIN))


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"LMLP_KAFKA_SASL_USERNAME": "farm"}, "no LMLP_KAFKA_SASL_PASSWORD"),
        ({"LMLP_KAFKA_SASL_PASSWORD": "Ruritania"}, "no LMLP_KAFKA_SASL_USERNAME"),
        (LOGIN | {"LMLP_KAFKA_SASL_MECHANISM": "PLAIN"}, "'PLAIN' is none of SCRAM"),
        ({"LMLP_KAFKA_TLS_CA": "/nowhere/ca.pem"}, r"'/nowhere/ca\.pem' cannot be used: No such file"),
        ({"LMLP_KAFKA_TLS_CA": __file__}, "name a PEM file"),
    ],
)
def test_half_a_login_is_a_configuration_error_without_the_secret(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        security(environ)
    assert "Ruritania" not in str(caught.value)


def test_a_login_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="a login never stands in a URL") as caught:
        open_log("kafka://farm:Ruritania@broker:9092", client="a")
    assert "Ruritania" not in str(caught.value)


def test_kafka_topics_are_kept_for_ever_or_compacted() -> None:
    kept = creation(TopicSpec("lmlp.structures.v1", n_partitions=4, replication_factor=3))
    assert (kept["num_partitions"], kept["replication_factor"]) == (4, 3)
    settings = {
        "cleanup.policy": "delete",
        "retention.ms": "-1",
        "retention.bytes": "-1",
        "max.message.bytes": "9437184",
        "min.insync.replicas": "2",
    }
    assert kept["configs"] == settings
    compacted = creation(TopicSpec("lmlp.snapshots.v1", compacted=True))
    assert compacted["configs"] == settings | {"cleanup.policy": "compact", "min.insync.replicas": "1"}


def test_a_reader_makes_no_file_of_a_mistyped_path(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"there is no log at .*mistyped\.db; `lmlp-stream feed`"):
        open_log(f"sqlite:{tmp_path}/mistyped.db", client="a", create=False)
    assert not list(tmp_path.iterdir())
