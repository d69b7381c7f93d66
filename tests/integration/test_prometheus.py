"""A real Prometheus on a flow that runs: it reads the metrics, the rules and the dashboard."""

import json
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real.flows import FlowProcess
from tests.real.process import HOST, Child, free_port

pytestmark = pytest.mark.prometheus

DOCKER = Path(__file__).parents[2] / "docker"
PANELS = [
    panel
    for path in sorted((DOCKER / "grafana" / "dashboards").glob("*.json"))
    for panel in json.loads(path.read_text())["panels"]
]
# Grafana's own variables, as it would replace them here.
VARIABLES = {"$__rate_interval": "10s", "$flow": ".+"}
NOT_OF_CANDLES = ("tidemark_deribit_", "tidemark_source_rejected_total")
WAIT_S = 120.0


class Server:
    """Prometheus's HTTP interface."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer; nothing while it starts."""
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                told = json.load(answer)
        except ConnectionError:
            return {}
        except urllib.error.HTTPError as error:
            raise AssertionError((query, error.read())) from error
        except urllib.error.URLError:
            return {}
        assert told["status"] == "success", told
        return told["data"]

    def has(self, expression: str) -> bool:
        """Whether there is a value now."""
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        return bool(self.ask("query", query=expression).get("result"))

    def wait_for(self, expression: str) -> None:
        """Until there is a value."""
        deadline_s = time.monotonic() + WAIT_S
        while not self.has(expression):
            assert time.monotonic() < deadline_s, expression
            time.sleep(0.3)


@pytest.fixture(scope="module")
def server(scratch_dir: Path) -> Iterator[Server]:
    """One that reads the metrics of the candles flow as the one of Compose does."""
    directory = scratch_dir / "prometheus"
    directory.mkdir()
    metrics, own = free_port(), free_port()
    config = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DOCKER / "prometheus" / name) for name in config["rule_files"]]
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [f"{HOST}:{metrics}"]}]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    flow = FlowProcess(
        "dataflows.candles",
        log=directory / "flow.log",
        env={"DATA_DIR": str(directory / "data"), "METRICS_PORT": str(metrics), "INTERVALS": "1s"},
        recovery_dir=directory / "recovery",
    )
    program = shutil.which("prometheus")
    assert program is not None
    child = Child(
        [
            program,
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'series'}",
            f"--web.listen-address={HOST}:{own}",
        ],
        log=directory / "prometheus.log",
    )
    try:
        server = Server(f"http://{HOST}:{own}")
        server.wait_for("rate(tidemark_sink_rows_total[10s]) > 0")
        yield server
    finally:
        child.kill()
        flow.kill9()


def test_the_flow_is_up_and_counted(server: Server) -> None:
    assert server.has('up{job="tidemark"} == 1')
    assert server.has("rate(tidemark_source_records_total[10s]) > 0")


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_of_the_dashboard_shows_something(server: Server, panel: dict[str, Any]) -> None:
    for target in panel.get("targets", ()):
        expression = target["expr"]
        if any(name in expression for name in NOT_OF_CANDLES):
            server.has(expression)  # it can be read
        else:
            server.wait_for(expression)


def test_the_rules_are_evaluated_without_errors(server: Server) -> None:
    deadline_s = time.monotonic() + WAIT_S
    rules: list[dict[str, Any]] = []
    while not rules or any(rule["health"] == "unknown" for rule in rules):
        assert time.monotonic() < deadline_s, rules
        time.sleep(0.3)
        rules = [rule for group in server.ask("rules")["groups"] for rule in group["rules"]]
    named = {
        rule["alert"]
        for group in yaml.safe_load((DOCKER / "prometheus" / "alerts.yml").read_text())["groups"]
        for rule in group["rules"]
    }
    assert {rule["name"] for rule in rules} == named
    assert [rule for rule in rules if rule["health"] != "ok"] == []
    # A flow that has just begun may be slow or behind, and no more.
    assert {rule["name"] for rule in rules if rule["state"] == "firing"} == set()
