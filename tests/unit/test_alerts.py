"""Alerts and dashboard name only series that exist, and every alert has its paragraph."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.declared_metrics import declared_metrics, series_names

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "docker" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARDS = sorted((ROOT / "docker" / "grafana" / "dashboards").glob("*.json"))
OTHERS = {"up", "ALERTS", "process_start_time_seconds"}
OTHERS |= {"process_cpu_seconds_total", "process_resident_memory_bytes"}
GROUPED = re.compile(r"\b(?:by|on|unless on|without)\s*\(([^)]*)\)")
SELECTED = re.compile(r"([a-zA-Z_]\w*)\{([^}]*)\}")


def expressions(dashboard: Path) -> Iterator[tuple[str, str]]:
    """Title and expression of each panel's targets, and of what the dashboard asks besides."""
    found = json.loads(dashboard.read_text())
    for panel in found["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for annotation in found["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


ASKED = [(rule["alert"], rule["expr"]) for rule in RULES]
ASKED += [pair for path in DASHBOARDS for pair in expressions(path)]


@pytest.mark.parametrize(("name", "expr"), ASKED, ids=[name for name, _ in ASKED])
def test_an_expression_names_series_and_labels_that_exist(name: str, expr: str) -> None:
    series = set(re.findall(r"\btidemark_\w+", expr))
    assert series <= series_names(), series - series_names()
    bare = set(re.findall(r"\b(?:up|process_\w+)\b", expr))
    assert bare <= OTHERS
    assert series or bare or "ALERTS" in expr
    known = {"le", "instance", "job", "alertname", "alertstate"}
    for metric, (kind, labels) in declared_metrics().items():
        ends = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        if series & {metric + end for end in ends}:
            known |= set(labels)
    used = {label.strip() for labels in GROUPED.findall(expr) for label in labels.split(",")}
    for _, selectors in SELECTED.findall(expr):
        used |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selectors))
    assert used <= known, used - known


def test_a_variable_of_a_dashboard_asks_for_what_exists() -> None:
    for path in DASHBOARDS:
        for variable in json.loads(path.read_text())["templating"]["list"]:
            assert set(re.findall(r"tidemark_\w+", variable["definition"])) <= series_names()


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_says_what_it_is_and_leads_to_its_paragraph(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
    page = (ROOT / "docs" / "runbook.md").read_text()
    paragraph = re.search(rf"^## {rule['alert']}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert paragraph is not None
    for part in ("**Means.**", "**Look.**", "**Do.**"):
        assert part in paragraph[1]


def test_the_runbook_has_no_other_paragraph() -> None:
    page = (ROOT / "docs" / "runbook.md").read_text()
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_prometheus_loads_the_rules() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert all((PROMETHEUS / name).exists() for name in config["rule_files"])
    assert "alerts.yml" in config["rule_files"]


def test_every_alert_has_a_case() -> None:
    text = (PROMETHEUS / "alerts_test.yml").read_text()
    for pattern in re.findall(r'alertname=~?\\?"([^"]+)"', text):
        assert any(re.fullmatch(pattern, rule["alert"]) for rule in RULES), pattern
    for rule in RULES:
        patterns = re.findall(r'alertname=~?"([^"]+)", alertstate="firing"', text)
        assert any(re.fullmatch(pattern, rule["alert"]) for pattern in patterns), rule["alert"]


@pytest.mark.prometheus
@pytest.mark.parametrize(
    "command", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")]
)
def test_promtool_agrees(command: tuple[str, ...]) -> None:
    subprocess.run(["promtool", *command], cwd=PROMETHEUS, check=True, timeout=60)


def test_panels_do_not_overlap() -> None:
    for path in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(path.read_text())["panels"]:
            at = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(at["x"], at["x"] + at["w"])
                for y in range(at["y"], at["y"] + at["h"])
            }
            assert not cells & taken, panel["title"]
            assert at["x"] + at["w"] <= 24
            taken |= cells
