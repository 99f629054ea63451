"""What ships for Grafana and Prometheus."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from plughost_metrics._dashboard import WIDTH, dashboard, expressions
from plughost_metrics.cli import metrics

PACKAGE = files("plughost_metrics")


def test_shipped_dashboard_is_the_built_one() -> None:
    """The file in the package is what the builder makes; `plughost metrics dashboard` prints it."""
    shipped = (PACKAGE / "dashboard.json").read_text("utf-8")
    assert shipped == json.dumps(dashboard(), indent=2) + "\n"
    assert CliRunner().invoke(metrics, ["dashboard"]).output == shipped


def test_rules_are_written_to_a_file(tmp_path: Path) -> None:
    """`plughost metrics rules -o FILE` writes the rules of the package."""
    target = tmp_path / "rules.yml"
    assert CliRunner().invoke(metrics, ["rules", "-o", str(target)]).exit_code == 0
    assert target.read_text("utf-8") == (PACKAGE / "rules.yml").read_text("utf-8")


def test_every_alert_has_a_runbook() -> None:
    """Each alert says how bad it is, what happened, and what to do."""
    rules = (PACKAGE / "rules.yml").read_text("utf-8").split("- alert: ")[1:]
    for rule in rules:
        assert re.search(r"severity: (critical|warning|info) ", rule), rule
        assert "summary: " in rule, rule
        assert "runbook: >-" in rule, rule


@pytest.fixture
def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard()["panels"]
    return found


def test_panels_do_not_overlap(panels: list[dict[str, Any]]) -> None:
    """Each panel has an id and a place of its own, within the grid of 24 columns."""
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < WIDTH
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_shape_is_grafanas(panels: list[dict[str, Any]]) -> None:
    """Every key that the classic dashboard schema demands is there, with its type; queries name the data source."""
    found = dashboard()
    assert {key: type(found[key]) for key in ("title", "uid", "schemaVersion", "panels", "templating", "time")} == {
        "title": str,
        "uid": str,
        "schemaVersion": int,
        "panels": list,
        "templating": dict,
        "time": dict,
    }
    variables = {variable["name"] for variable in found["templating"]["list"]}
    for panel in (panel for panel in panels if panel["type"] != "row"):
        assert panel["type"] in {"timeseries", "stat", "state-timeline"}
        assert set(panel) >= {"id", "type", "title", "gridPos", "datasource", "fieldConfig", "options", "targets"}
        for target in panel["targets"]:
            assert set(target) >= {"refId", "expr", "legendFormat", "datasource"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(found)))
    assert used - variables == {"__rate_interval", "__all"}


def test_every_query_minds_the_variables() -> None:
    """Each selector is narrowed to the chosen jobs and instances."""
    for expression in expressions():
        selectors = re.findall(r"\{([^}]*)\}", expression)
        assert selectors
        assert all(selector.startswith('job=~"$job",instance=~"$instance"') for selector in selectors), expression
