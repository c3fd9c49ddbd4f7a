"""What deploy/ asks of Prometheus, put to a real Prometheus that scrapes a learner's figures."""

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from lmlp_stream.config import Config
from lmlp_stream.learning.evaluation import Errors, Parts
from lmlp_stream.learning.verdict import Verdict
from lmlp_stream.service.metrics import WITHHOLDING_REASONS, Metrics
from lmlp_stream.wire.rejection import Reason

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
ALERTS = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
ALERT_TESTS = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())

RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PANEL_EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
NAME = re.compile(r"\blmlp_[a-z0-9_]+")
SELECTOR = re.compile(r"\blmlp_[a-z0-9_]+(?:\{[^}]*\})?")
READY_WITHIN_S = 60


def tool(name: str) -> str:
    """Path of a program of Debian's package `prometheus`; without it a failure in CI, a visible skip elsewhere."""
    path = shutil.which(name)
    if path is None:
        message = f"{name} is missing; `apt-get install prometheus` brings it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


def busy_learner() -> Metrics:
    """Figures of a learner to which everything has happened."""
    metrics = Metrics(learner="lmlp", version="0.1.0")
    work(metrics)
    metrics.held_out(5)
    metrics.duplicates(2)
    metrics.lag(0, 12)
    metrics.lag(1, 0)
    metrics.broker(True)
    metrics.prequential(energy_rmse=0.006, energy_mae=0.004, force_rmse=0.21, force_mae=0.12)
    metrics.retention(energy_rmse=0.004, energy_mae=0.003, force_rmse=0.15, force_mae=0.09)
    good, bad = Errors(90, energy_rmse=0.004, force_rmse=0.2), Errors(10, energy_rmse=0.008, force_rmse=0.3)
    for kind in ("prequential", "retention"):
        metrics.parts(kind, Parts({"3BPA": good, "SN2": bad}, {"cp2k": good, "orca": bad}, {1: good, 9: bad}))
    metrics.verdict(Verdict.IMPROVING)
    metrics.disagreement(energy=0.002, force=0.08)
    metrics.coverage(energy=0.91, forces=0.87, raw_energy=0.5, raw_forces=0.6)
    metrics.state(labels_learned=640, elements=7, reservoir=600, holdout=40, quarantine=3)
    return metrics


def work(metrics: Metrics) -> None:
    """One more turn of everything that is counted."""
    metrics.learned(16)
    metrics.request_seen()
    metrics.stepped(seconds=0.04, energy_loss=0.3, force_loss=1.2)
    metrics.checkpoint_saved(timestamp_s=time.time(), seconds=0.1)
    metrics.snapshot_announced(timestamp_s=time.time(), labels_learned=600)
    for reason in Reason:
        metrics.refused(reason)
    for cause in WITHHOLDING_REASONS:
        metrics.snapshot_withheld(cause)


def exported_names() -> set[str]:
    """Names of all series of a learner."""
    families = text_string_to_metric_families(busy_learner().exposition())
    return {sample.name for family in families for sample in family.samples if not sample.name.endswith("_created")}


def names_in(*texts: str) -> set[str]:
    return {name for text in texts for name in NAME.findall(text)}


def plain(expression: str) -> str:
    """A dashboard expression with Grafana's variables filled in."""
    return expression.replace("$instance", ".*").replace("$__rate_interval", "1m")


def test_every_name_in_rules_their_tests_and_the_dashboard_is_exported() -> None:
    tested = [series["series"] for test in ALERT_TESTS["tests"] for series in test["input_series"]]
    asked = names_in(*(rule["expr"] for rule in RULES), *PANEL_EXPRESSIONS, *tested)
    assert asked
    assert asked - exported_names() == set()


def test_every_figure_is_asked_for_by_a_panel_or_an_alert() -> None:
    parts = re.compile(r"_(bucket|count|sum)$")
    asked = {parts.sub("", name) for name in names_in(*(rule["expr"] for rule in RULES), *PANEL_EXPRESSIONS)}
    assert {parts.sub("", name) for name in exported_names()} - asked == set()


def test_every_alert_is_shown_where_it_fires_and_where_it_is_silent() -> None:
    shown: dict[bool, set[str]] = {True: set(), False: set()}
    for test in ALERT_TESTS["tests"]:
        for query in test["promql_expr_test"]:
            alert = re.search(r'alertname="(\w+)"', query["expr"])
            assert alert
            shown[bool(query["exp_samples"])].add(alert[1])
    alerts = {rule["alert"] for rule in RULES}
    assert shown == {True: alerts, False: alerts}


def test_every_configuration_key_an_operator_is_told_to_turn_exists() -> None:
    texts = [rule["annotations"]["description"] for rule in RULES]
    texts += [path.read_text() for path in [*DEPLOY.glob("*/*.yml"), DEPLOY / "README.md"]]
    keys = re.findall(rf"\b({'|'.join(Config.model_fields)})\.([a-z_]+)\b(?!\.)", " ".join(texts))
    assert keys
    for section, key in keys:
        assert key in type(getattr(Config(), section)).model_fields, f"{section}.{key}"


def test_the_scraped_address_is_the_default_of_the_configuration() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    service = Config().service
    targets = config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert targets == [f"{service.metrics_host}:{service.metrics_port}"]


def test_the_dashboard_has_a_row_for_each_question_and_no_panel_overlaps() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == [
        "Is it learning?",
        "Is it forgetting?",
        "Is it late?",
        "Can I trust it?",
        "What did it refuse?",
    ]
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(
    "arguments",
    [("config", "prometheus.yml"), ("rules", "alerts.yml")],
    ids=["configuration", "rules"],
)
def test_promtool_accepts(arguments: tuple[str, str]) -> None:
    kind, file = arguments
    subprocess.run([tool("promtool"), "check", kind, PROMETHEUS / file], check=True)


def test_promtool_passes_the_unit_tests_of_the_rules() -> None:
    subprocess.run([tool("promtool"), "test", "rules", PROMETHEUS / "alerts_test.yml"], check=True)


def test_promtool_finds_nothing_to_improve_in_the_exposition() -> None:
    answer = subprocess.run(
        [tool("promtool"), "check", "metrics"],
        input=busy_learner().exposition(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout + answer.stderr == ""


class Prometheus:
    """A running server that can be asked."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its HTTP interface."""
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}") as answer:
            body = json.load(answer)
        assert body["status"] == "success", body
        return body["data"]

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression selects now."""
        result: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return result


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def fast_configuration(target: str) -> str:
    """The configuration of deploy/, scraping `target` often."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"}
    config["rule_files"] = [str(PROMETHEUS / file) for file in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
    return yaml.safe_dump(config)


def is_watching(prometheus: Prometheus) -> bool:
    """True once rates can be computed and every rule has been evaluated."""
    try:
        scrapes = prometheus.ask("count_over_time(lmlp_steps_total[1m])")
        rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    except URLError:
        return False
    return bool(scrapes) and float(scrapes[0]["value"][1]) >= 4 and all(rule["health"] != "unknown" for rule in rules)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A real Prometheus that has scraped a busy learner for a while."""
    program = tool("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    metrics = busy_learner()
    url, close = metrics.serve("127.0.0.1", 0)
    (folder / "prometheus.yml").write_text(fast_configuration(url.split("/")[2]))
    address = f"127.0.0.1:{free_port()}"
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    log = folder / "log.txt"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr, stdout=stderr)
    try:
        server = Prometheus(f"http://{address}")
        deadline = time.monotonic() + READY_WITHIN_S
        while not is_watching(server):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            work(metrics)
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait()
        close()


@pytest.mark.parametrize("expression", PANEL_EXPRESSIONS)
def test_every_panel_shows_data(prometheus: Prometheus, expression: str) -> None:
    assert prometheus.ask(plain(expression))


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_every_alert_can_be_asked_and_each_of_its_series_exists(prometheus: Prometheus, rule: dict[str, Any]) -> None:
    prometheus.ask(rule["expr"])
    for selector in SELECTOR.findall(rule["expr"]):
        assert prometheus.ask(selector), selector


def test_prometheus_evaluates_every_rule_without_an_error(prometheus: Prometheus) -> None:
    evaluated = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: rule["health"] for rule in evaluated} == {rule["alert"]: "ok" for rule in RULES}


def test_variables_and_annotations_of_the_dashboard_find_something(prometheus: Prometheus) -> None:
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    label_values = re.fullmatch(r"label_values\((\w+), (\w+)\)", variables["instance"]["definition"])
    assert label_values
    assert all(label_values[2] in series["metric"] for series in prometheus.ask(label_values[1]))
    for annotation in DASHBOARD["annotations"]["list"]:
        prometheus.ask(annotation["expr"])
