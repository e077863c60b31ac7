"""Alert rules and the dashboard ask for metrics that exist."""

from __future__ import annotations

import json
import re

import yaml

from tests.stack import PROJECT

DEPLOY = PROJECT / "deploy"


def metrics_there_are() -> set[str]:
    sources = [PROJECT / "hoopweb" / "metrics.py", PROJECT / "gateway" / "listeners" / "metrics.py"]
    names = {name for path in sources for name in re.findall(r'"(hoopweb_\w+)"', path.read_text(encoding="utf-8"))}
    return names | {f"{name}{suffix}" for name in names for suffix in ("_total", "_bucket")}


def test_alerts_and_dashboard_ask_for_metrics_there_are():
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
    dashboard = json.loads((DEPLOY / "grafana" / "hoopweb.json").read_text(encoding="utf-8"))
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    asked += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]

    named = {name for expression in asked for name in re.findall(r"\bhoopweb_\w+", expression)}

    assert len(named) > 12
    assert named - metrics_there_are() == set()
