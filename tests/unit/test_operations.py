"""The operations guide, the alerts and the dashboard, held against the code and the manifests."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from services.common import metrics
from services.common.settings import CommonSettings
from services.common.topics import _SPECS, Topic
from tests.support.schemastore import stored_schema
from tests.support.secure_kafka import production_rules

_ROOT = Path(__file__).parents[2]
_GUIDE = _ROOT / "docs/operations/README.md"
_RUNBOOK = _ROOT / "docs/operations/runbook.md"
_ALERTS = _ROOT / "deploy/alerts/vexstream.yaml"
_DASHBOARD = _ROOT / "deploy/grafana/vexstream.json"
_FOREIGN = {"up", "kafka_consumergroup_lag"}
"""Of Prometheus itself, and of Kafka's exporter."""
_READ, _WRITE = 3, 4


def _metrics() -> dict[str, MetricWrapperBase]:
    """Name as exported -> the metric."""
    found = [m for m in vars(metrics).values() if isinstance(m, MetricWrapperBase)]
    return {m._name + ("_total" if m._type == "counter" else ""): m for m in found}


def _series() -> dict[str, set[str]]:
    """Name of every series that Prometheus stores -> its labels."""
    series: dict[str, set[str]] = {}
    for name, metric in _metrics().items():
        labels = {"job", "instance", *metric._labelnames}
        if metric._type == "histogram":
            series |= {f"{name}_bucket": labels | {"le"}, f"{name}_count": labels}
            series |= {f"{name}_sum": labels}
        else:
            series[name] = labels
    return series


def _check_expression(expression: str) -> None:
    """Metrics and labels exist. ``promtool`` checks the syntax."""
    series = _series()
    names = set(re.findall(r"\b(?:vexstream|kafka)_[a-z_]+\b(?!-)", expression))
    assert names or re.search(r"\bup\b", expression), expression
    assert names - _FOREIGN <= set(series), expression
    labels = set().union(*(series[name] for name in names - _FOREIGN))
    if names & _FOREIGN:
        labels |= {"topic", "consumergroup", "partition"}
    grouped = {
        label.strip()
        for group in re.findall(r"\bby \(([^)]*)\)", expression)
        for label in group.split(",")
    }
    matched = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", expression))
    assert (grouped | matched) - {"job"} <= labels, expression


def _alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(_ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(_DASHBOARD.read_text())["panels"]
    return panels


def _queries() -> Iterator[str]:
    for panel in _panels():
        for target in panel.get("targets", []):
            yield target["expr"]


def test_alerts_are_rules_of_prometheus_on_metrics_that_exist() -> None:
    jsonschema.validate(
        yaml.safe_load(_ALERTS.read_text()), stored_schema(b"prometheus.rules.json")
    )
    for alert in _alerts():
        _check_expression(alert["expr"])
        assert alert["labels"]["severity"] in ("critical", "warning", "info")


def test_every_alert_has_its_section_of_the_runbook_and_every_section_its_alert() -> None:
    headings = re.findall(r"^## (\w+)$", _RUNBOOK.read_text(), re.M)
    assert sorted(headings) == sorted(alert["alert"] for alert in _alerts())
    for alert in _alerts():
        url = alert["annotations"]["runbook_url"]
        path = f"/blob/main/docs/operations/runbook.md#{alert['alert'].lower()}"
        assert url.endswith(path)


def test_the_rules_fire_when_they_should_and_not_before() -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: apt-get install prometheus")
    tests = _ALERTS.with_name("vexstream.test.yaml")
    done = subprocess.run(
        ["promtool", "test", "rules", str(tests)], capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    fired = {
        case["alertname"]
        for test in yaml.safe_load(tests.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fired == {alert["alert"] for alert in _alerts()}


def test_the_dashboard_asks_for_metrics_that_exist_and_for_all_of_them() -> None:
    queries = list(_queries())
    for query in queries:
        _check_expression(query)
    asked = " ".join(queries)
    assert not [name for name in _metrics() if name not in asked]


def test_prometheus_understands_what_the_dashboard_asks(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: apt-get install prometheus")
    rules = [
        {"record": f"panel:{at}", "expr": query.replace("$__rate_interval", "5m")}
        for at, query in enumerate(_queries())
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_have_a_place_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    identifiers = [panel["id"] for panel in _panels()]
    assert len(identifiers) == len(set(identifiers))
    for panel in _panels():
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_guide_lists_every_metric_as_it_is() -> None:
    rows = _table("## Metrics", "metric")
    assert {row[0].strip("`"): row[1] for row in rows} == {
        name: metric._type for name, metric in _metrics().items()
    }
    for name, _, labels, meaning in rows:
        metric = _metrics()[name.strip("`")]
        assert meaning == metric._documentation
        assert set(metric._labelnames) <= set(re.findall(r"`(\w+)`", labels)), name


def test_the_guide_has_the_topics_and_who_may_do_what_with_them() -> None:
    settings = CommonSettings()
    rows = {row[0].strip("`"): row[1:] for row in _table("## Topics and rights", "topic")}
    assert set(rows) == {topic.name_in(settings) for topic in Topic}
    for topic, spec in _SPECS.items():
        name = topic.name_in(settings)
        cleanup, partitions, writers, readers = rows[name]
        assert cleanup.split(",")[0] == spec.config["cleanup.policy"]
        if "retention.ms" in spec.config:
            days = int(spec.config["retention.ms"]) // 86_400_000
            assert cleanup.endswith(f"{days} days")
        assert partitions == ("1" if spec.one_partition else "`VEXSTREAM_PARTITIONS`")
        assert _names(writers) == _who(name, _WRITE)
        assert _names(readers) == _who(name, _READ)


def test_the_guide_links_to_what_exists() -> None:
    for page in _GUIDE.parent.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).resolve().exists(), f"{page.name}: {target}"


def _who(topic: str, operation: int) -> set[str]:
    return {
        account.removeprefix("vexstream-")
        for account, rules in production_rules().items()
        if any(rule.name == topic and rule.operation == operation for rule in rules)
    }


def _names(cell: str) -> set[str]:
    return {name.strip() for name in cell.split(",") if name.strip()}


def _table(heading: str, first: str) -> list[list[str]]:
    """The rows of the table under a heading whose first column has this name."""
    section = _GUIDE.read_text().split(f"\n{heading}\n")[1].split("\n## ")[0]
    lines = section.split("\n")
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows
