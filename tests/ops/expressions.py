"""The expressions of the files for Prometheus and Grafana, as Prometheus can be asked for them."""

import json
import re

import yaml

from ops.prometheus import OPS

ALERTS = yaml.safe_load((OPS / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((OPS / "grafana.json").read_text())
CHOSEN = {"$__rate_interval": "1m", "$tenant": ".*", "$node": ".*"}


def of_alerts():
    """Return what each alert looks at, without its threshold: that is what has a value always."""
    found = [re.fullmatch(r"(.+) > [\d.]+", each["expr"]) for each in ALERTS]
    return [each[1] for each in found]


def of_dashboard():
    """Return what each panel shows, for all tenants and nodes."""
    expressions = [
        target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
    ]
    for name, value in CHOSEN.items():
        expressions = [each.replace(name, value) for each in expressions]
    return expressions


def of_choices():
    """Return metric and label of each of the dashboard's variables."""
    queries = [each.get("definition", "") for each in DASHBOARD["templating"]["list"]]
    return [
        re.fullmatch(r"label_values\((\w+), (\w+)\)", each).groups()
        for each in filter(None, queries)
    ]
