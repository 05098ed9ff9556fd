"""The files for Prometheus and Grafana are right, and each alert has its test and its runbook."""

import re
from pathlib import Path

import pytest
import yaml

from docs.pages import page
from frontdesk.gateway.metrics.definitions import METRICS
from ops.expressions import ALERTS, DASHBOARD, of_alerts, of_choices, of_dashboard
from ops.prometheus import OPS, promtool

ROOT = Path(__file__).parents[2]
TESTS = yaml.safe_load((OPS / "alerts_test.yml").read_text())["tests"]


def test_promtool_takes_the_alerts_and_each_fires_when_it_is_to():
    assert "15 rules found" in promtool("check", "rules", OPS / "alerts.yml")
    promtool("test", "rules", OPS / "alerts_test.yml")


@pytest.mark.parametrize("alert", ALERTS, ids=[each["alert"] for each in ALERTS])
def test_each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not_yet(alert):
    tests = [
        test
        for group in TESTS
        for test in group["alert_rule_test"]
        if test["alertname"] == alert["alert"]
    ]
    assert {bool(each["exp_alerts"]) for each in tests} == {True, False}


@pytest.mark.parametrize("alert", ALERTS, ids=[each["alert"] for each in ALERTS])
def test_each_alert_leads_to_its_section_of_the_runbook(alert):
    address = alert["annotations"]["runbook_url"].removeprefix("{{ $externalLabels.docs }}")
    path, _, anchor = address.partition("#")
    headings = re.findall(r"^## (\w+)$", (ROOT / path).read_text(), re.MULTILINE)
    assert anchor in {each.lower() for each in headings}
    assert alert["alert"] in headings


def test_the_configuration_on_the_page_is_one_that_prometheus_takes(tmp_path):
    (block,) = [each for each in page("docs/how-to/metrics.md").blocks if each.language == "yaml"]
    file = tmp_path / "prometheus.yml"
    file.write_text(block.source)
    (tmp_path / "ops").symlink_to(OPS)
    promtool("check", "config", "--syntax-only", file)


def test_the_files_use_metrics_that_there_are_and_labels_that_they_have():
    for expression in (*of_alerts(), *of_dashboard()):
        used = re.findall(r"\b((?:frontdesk|process)_\w+)", expression)
        assert used, expression
        for name in used:
            assert name in METRICS or re.sub("_(bucket|sum|count)$", "", name) in METRICS, name
    for name, label in of_choices():
        assert label in (*METRICS[name].labels, "instance")


def test_the_dashboard_has_a_row_for_each_part_and_no_panel_twice():
    rows = [each["title"] for each in DASHBOARD["panels"] if each["type"] == "row"]
    assert rows == [
        "Sessions", "Conversations", "Turns", "Cost", "Streams", "HTTP", "Process", "Cluster",
    ]  # fmt: skip
    numbers = [each["id"] for each in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    places = [tuple(each["gridPos"].values()) for each in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
