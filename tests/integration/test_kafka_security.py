"""TLS, logins and grants, shown by a real Kafka that was secured the way deploy/kafka/README.md says."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from lmlp_stream.broker.kafka import connection
from lmlp_stream.broker.log import Log, Partition, TopicSpec
from lmlp_stream.broker.open import open_log
from lmlp_stream.broker.topics import topic_specs
from lmlp_stream.config import Config, load_config
from lmlp_stream.errors import BrokerError, ConfigError
from lmlp_stream.simulate.follower import Follower

pytestmark = pytest.mark.kafka

KAFKA = Path(__file__).parents[2] / "deploy" / "kafka"
ADMIN = "Ruritania-admin-4711"
ROLES = ("farm", "labeller", "learner", "simulator")
TOPICS = ("structures", "requests", "snapshots", "dead-letters")


class Site:
    """A secured broker, its administrator and one user of each role."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.config_path = folder / "lmlp.toml"

    @property
    def config(self) -> Config:
        return load_config(self.config_path)

    def environment(self, user: str, **changes: str) -> dict[str, str]:
        password = ADMIN if user == "admin" else password_of(user)
        login = {"LMLP_KAFKA_SASL_USERNAME": user, "LMLP_KAFKA_SASL_PASSWORD": password}
        return {"LMLP_KAFKA_TLS_CA": str(self.folder / "tls" / "ca.pem"), **login, **changes}

    def grant(self, role: str, user: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, KAFKA / "grant.py", role, user, self.config_path],
            env={**os.environ, **self.environment("admin"), **environment},
            capture_output=True,
            text=True,
            check=False,
        )


def password_of(user: str) -> str:
    return f"Ruritania-{user}-0815"


def certify(folder: Path) -> None:
    subprocess.run([KAFKA / "certify", folder], check=True, capture_output=True)


@pytest.fixture(scope="module")
def site(new_kafka: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("secured")
    certify(folder / "tls")
    certify(folder / "others")
    broker = new_kafka("--tls", str(folder / "tls"), LMLP_KAFKA_ADMIN_PASSWORD=ADMIN)
    broker.start()
    site = Site(folder, broker.url)
    site.config_path.write_text(f'[log]\nurl = "{broker.url}"\npartitions = 2\n')
    for role in ROLES:
        granted = site.grant(role, role, LMLP_KAFKA_NEW_PASSWORD=password_of(role))
        assert granted.returncode == 0, granted.stderr
    return site


@pytest.fixture
def enter(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Log]]:
    """Opens the log as a user, with changes to the environment."""
    opened: list[Log] = []

    def enter(user: str, **changes: str) -> Log:
        for name, value in site.environment(user, **changes).items():
            monkeypatch.setenv(name, value)
        opened.append(open_log(site.url, client=f"test-{user}"))
        return opened[-1]

    yield enter
    for log in opened:
        log.close()


@pytest.fixture
def topics(site: Site, enter: Callable[..., Log]) -> None:
    """The topics exist: the learner made them."""
    enter("learner").ensure(topic_specs(site.config.log, site.config.name))


def write(log: Log, topic: str) -> None:
    with closing(log.sink()) as sink:
        sink.send(topic, key=b"k", value=b"v")
        sink.flush()


def read(log: Log, topic: str) -> None:
    partition = log.partitions(topic)[0]
    with closing(log.source({partition: log.bounds(partition).begin})) as source:
        source.poll(1, 2.0)


def test_a_right_login_over_tls_reads_and_writes(site: Site, enter: Callable[..., Log]) -> None:
    log = enter("admin")
    log.ensure([TopicSpec("other.v1")])
    write(log, "other.v1")
    with closing(log.source({Partition("other.v1", 0): 0})) as source:
        assert [message.value for message in source.poll(1, 30.0)] == [b"v"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"LMLP_KAFKA_SASL_PASSWORD": "Ruritania-wrong"}, r"refuses the login of farm; check LMLP_KAFKA_SASL_USERNAME"),
        ({"LMLP_KAFKA_SASL_USERNAME": "nobody"}, "refuses the login of nobody"),
        ({"LMLP_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"}, "does not offer SCRAM-SHA-256"),
        ({"LMLP_KAFKA_SASL_USERNAME": "", "LMLP_KAFKA_SASL_PASSWORD": ""}, "wants a login"),
        ({"LMLP_KAFKA_TLS_CA": ""}, "expects TLS; set LMLP_KAFKA_TLS_CA"),
        ({"LMLP_KAFKA_TLS_CA": "others/ca.pem"}, "is not believed: .*LMLP_KAFKA_TLS_CA must name the authority"),
    ],
)
def test_a_wrong_login_or_authority_is_one_sentence_without_the_secret(
    site: Site, enter: Callable[..., Log], changes: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(site.folder)
    with pytest.raises(BrokerError, match=sentence) as caught:
        enter("farm", **changes)
    assert "Ruritania" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_certificate_for_another_host_is_not_believed(
    site: Site, enter: Callable[..., Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any authority may sign a certificate; it counts only for the hosts it names."""
    port = site.url.rsplit(":", 1)[1]
    monkeypatch.setattr("socket.create_connection", _redirected_to(("127.0.0.1", int(port))))
    monkeypatch.setattr(site, "url", f"kafka://broker.example:{port}")
    with pytest.raises(BrokerError, match=r"broker\.example:\d+ is not believed: Hostname mismatch"):
        enter("farm")


def _redirected_to(address: tuple[str, int]) -> Callable[..., Any]:
    def connect(_address: tuple[str, int], timeout: float) -> socket.socket:
        plain = socket.socket()
        plain.settimeout(timeout)
        plain.connect(address)
        return plain

    return connect


def test_a_login_where_none_is_wanted_is_told(kafka_url: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in site.environment("farm", LMLP_KAFKA_TLS_CA="").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BrokerError, match="takes no login at this port"):
        open_log(kafka_url, client="test")


def test_tls_where_none_is_spoken_is_told(kafka_url: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_S", 0.5)
    for name, value in site.environment("farm").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BrokerError, match=r"does not answer .with TLS, because LMLP_KAFKA_TLS_CA is set"):
        open_log(kafka_url, client="test")


MAY = {
    "farm": {"write structures", "read requests"},
    "labeller": {"write structures", "read structures", "read requests", "read dead-letters", "write dead-letters"},
    "learner": {
        "read structures",
        "read requests",
        "read snapshots",
        "write snapshots",
        "read dead-letters",
        "write dead-letters",
    },
    "simulator": {"read snapshots", "write requests"},
}
DEEDS = sorted(f"{deed} {topic}" for deed in ("read", "write") for topic in TOPICS)


@pytest.mark.usefixtures("topics")
@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_it_needs_and_nothing_else(site: Site, enter: Callable[..., Log], role: str) -> None:
    admin = enter("admin")
    for topic in TOPICS:
        write(admin, f"lmlp.{topic}.v1")
    log = enter(role)
    log.ensure(topic_specs(site.config.log, site.config.name))
    refused = {}
    for deed in DEEDS:
        verb, topic = deed.split()
        try:
            (read if verb == "read" else write)(log, f"lmlp.{topic}.v1")
        except BrokerError as error:
            refused[deed] = str(error)
    assert refused.keys() == set(DEEDS) - MAY[role]
    assert all(re.search(rf"the user {role} .* was not granted that; deploy/kafka/grant", s) for s in refused.values())


@pytest.mark.usefixtures("topics")
@pytest.mark.parametrize("role", ["farm", "labeller", "simulator"])
def test_only_the_learner_makes_topics_and_commits_positions(site: Site, enter: Callable[..., Log], role: str) -> None:
    log = enter(role)
    with pytest.raises(BrokerError, match=f"create topics: .*the user {role} "):
        log.ensure([TopicSpec("lmlp.mine.v1")])
    with pytest.raises(BrokerError, match="commit the offsets of group lmlp"):
        log.commit("lmlp", {Partition(site.config.log.structures, 0): 0})


def test_a_user_that_was_sent_away_gets_in_no_more(site: Site, enter: Callable[..., Log]) -> None:
    assert site.grant("simulator", "guest", LMLP_KAFKA_NEW_PASSWORD=password_of("guest")).returncode == 0
    enter("guest")
    assert site.grant("none", "guest").returncode == 0
    with pytest.raises(BrokerError, match="refuses the login of guest"):
        enter("guest")


def test_only_the_administrator_grants(site: Site) -> None:
    refused = site.grant("learner", "farm", **site.environment("farm"))
    assert refused.returncode == 5
    assert "the user farm (LMLP_KAFKA_SASL_USERNAME) was not granted that" in refused.stderr


@pytest.mark.slow
def test_farm_learner_and_simulator_work_with_their_grants_and_no_secret_is_left_anywhere(
    site: Site, enter: Callable[..., Log], learning: Any, publish: Any, records: list[bytes]
) -> None:
    run = learning(
        "secured", settings=(f"log.url={site.url}", "log.prefix=run", "name=run", "service.snapshot_every=8")
    )
    site_of_run = Site(site.folder, site.url)
    site_of_run.config_path = run.path.with_name("granting.toml")
    site_of_run.config_path.write_text(f'name = "run"\n[log]\nurl = "{site.url}"\nprefix = "run"\n')
    for role in ROLES:
        assert (
            site_of_run.grant(role, f"run-{role}", LMLP_KAFKA_NEW_PASSWORD=password_of(f"run-{role}")).returncode == 0
        )

    enter("run-learner").ensure(topic_specs(run.config.log, run.config.name))
    publish(run.config, enter("run-farm"), records[:24])
    learner = subprocess.Popen(
        run.command("learn", "--json"),
        env={**os.environ, **site.environment("run-learner"), "COLUMNS": "300"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    follower = Follower(enter("run-simulator"), run.config.log.snapshots, "run")
    announced = follower.wait(120.0)
    follower.close()
    said = ""
    while "metrics: http" not in said:
        said += learner.stderr.readline()
    with urlopen(re.findall(r"metrics: (http\S+)", said)[0]) as page:
        metrics = page.read()
    learner.send_signal(signal.SIGTERM)
    out, rest = learner.communicate(timeout=60)

    assert learner.returncode == 0, said + rest
    assert json.loads(out)["labels_learned"] >= announced.labels_learned
    assert b"lmlp_" in metrics
    written = [path.read_bytes() for path in run.path.parent.rglob("*") if path.is_file()]
    assert any(b"state_sha256" in content for content in written)
    assert not any(b"Ruritania" in content for content in [(out + said + rest).encode(), metrics, *written])


def test_kafka_pythons_own_log_does_not_show_the_password(
    enter: Callable[..., Log], topics: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="kafka")
    write(enter("farm"), "lmlp.structures.v1")
    assert "sasl_plain_password" in caplog.text
    assert "Ruritania" not in caplog.text


def test_no_file_of_the_broker_holds_a_password(site: Site, new_kafka: Callable[..., Any]) -> None:
    """SCRAM keeps a salted hash. The broker's settings and what it says hold nothing."""
    data = next(path.parent for path in site.folder.parent.glob("*/server.properties") if _is_secured(path))
    for name in ("server.properties", "said.txt"):
        assert "Ruritania" not in (data / name).read_text()
    assert not any(b"Ruritania" in path.read_bytes() for path in data.rglob("*") if path.is_file())


def _is_secured(properties: Path) -> bool:
    return "SASL_SSL" in properties.read_text()


def test_a_file_that_is_no_authority_is_a_configuration_error(site: Site, enter: Callable[..., Log]) -> None:
    with pytest.raises(ConfigError, match="name a PEM file"):
        enter("farm", LMLP_KAFKA_TLS_CA=str(site.config_path))
