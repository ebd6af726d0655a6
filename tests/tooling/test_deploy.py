"""What is shipped for Prometheus and Grafana fits the metrics that the gateway tells."""

import json
import re
import shutil
import subprocess

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from fleet.api.metrics import GaugesCollector, PictureCollector
from routing.gateway.tally import Tally
from tests.fleet.scraped import MODEL, families, gauges, record, view
from tests.tooling.stack import ROOT

DASHBOARD = ROOT / "deploy" / "grafana" / "sollol.json"
ALERTS = ROOT / "deploy" / "prometheus" / "sollol-alerts.yml"
SCRAPE = ROOT / "deploy" / "prometheus" / "scrape.yml"
DOCUMENT = ROOT / "docs" / "metrics.md"
NAME = re.compile(r"\bsollol_[a-z0-9_]+")


def exported() -> str:
    tally = Tally()
    tally.take(record(), MODEL, "Bees", "ant")
    registry = CollectorRegistry()
    registry.register(PictureCollector(view(tally)))
    registry.register(GaugesCollector(gauges(tally)))
    return generate_latest(registry).decode()


@pytest.fixture(scope="module")
def told():
    """Every sample with the labels that it has."""
    known = {}
    for family in families(exported()).values():
        for sample in family.samples:
            known.setdefault(sample.name, set()).update(sample.labels)
    return known


def panels():
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def rules():
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def expressions():
    return [target["expr"] for panel in panels() for target in panel["targets"]] + [rule["expr"] for rule in rules()]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_that_is_used_exists(told, expression):
    """Names and labels in dashboard and alerts are those that the gateway tells."""
    names = NAME.findall(expression)
    assert names or expression.startswith("up{")
    assert set(names) <= told.keys()
    scraped = {"instance", "job"}
    for name, chosen in re.findall(r"(sollol_[a-z0-9_]+)\{([^}]*)\}", expression):
        assert set(re.findall(r"(\w+)\s*(?:=|!)", chosen)) <= told[name] | scraped
    known = scraped.union(*(told[name] for name in names))
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {label.strip() for label in grouped.split(",")} <= known


def test_legends_and_texts_name_labels_that_exist(told):
    """What a legend or a text prints of labels exists."""
    known = {"instance", "job"}.union(*told.values())
    texts = [target["legendFormat"] for panel in panels() for target in panel["targets"]]
    printed = set(re.findall(r"\{\{(\w+)\}\}", " ".join(texts)))
    printed |= set(re.findall(r"\$labels\.(\w+)", ALERTS.read_text()))
    assert printed <= known


def test_the_dashboard_shows_every_metric(told):
    """No metric is told that nobody looks at."""
    used = set(NAME.findall(" ".join(expressions())))
    stems = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in told}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in used}
    assert stems - shown == {"sollol_node_breaker_open"}  # told by the breaker's state as well


def test_panels_do_not_overlap():
    """Each panel has a place and an id of its own."""
    taken = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells
    ids = [panel["id"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    assert len(ids) == len(set(ids))


def test_alerts_say_what_is_wrong():
    """Each alert has a name of its own, a severity, and texts for people."""
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) > 10
    for rule in rules():
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "description"}


def test_promtool_accepts_the_rules():
    """Prometheus' own checker finds no fault, where it is installed."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run([promtool, "check", "rules", str(ALERTS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_scrape_configuration_is_complete():
    """It names the alerts that lie beside it, and the path that the gateway has."""
    told = yaml.safe_load(SCRAPE.read_text())
    assert told["rule_files"] == [ALERTS.name]
    assert told["scrape_configs"][0]["metrics_path"] == "/metrics"
    assert told["scrape_configs"][0]["job_name"] == "sollol"


def test_the_document_lists_every_metric():
    """docs/metrics.md has one row for each metric, with its labels, and none for others."""
    rows = re.findall(r"^\| `(sollol_\w+)` \| (\w+) \| (.*?) \|", DOCUMENT.read_text(), re.MULTILINE)
    labels = {}
    for family in families(exported()).values():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        known = set().union(*(sample.labels for sample in family.samples)) - {"le"}
        labels[name, family.type] = known
    listed = {(name, kind): set(re.findall(r"`(\w+)`", text)) for name, kind, text in rows}
    assert listed == labels
