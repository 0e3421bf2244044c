"""The Grafana dashboards of the chart: their schema, their queries, and the metrics that these name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboards.reading import panels, queries, substituted
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from llmendpoint_operator.admin.endpoint_series import endpoint_families
from llmendpoint_operator.admin.loadtest_series import loadtest_families
from llmendpoint_sidecar.meter.families import COUNTERS, GAUGES, HISTOGRAMS
from support.documents.rendered import CHART, by_name, needs_helm, rendered

FILES = sorted((CHART / "files/dashboards").glob("*.json"))
OPERATOR_METRICS = CHART.parents[1] / "operator/llmendpoint_operator/admin/metrics.py"


def body(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def known_metrics() -> set[str]:
    """Return the names of all series that the sidecar, the operator and the recording rules have."""
    names = {family.name for family in (*endpoint_families(lambda _: 0), *loadtest_families())}
    names |= {f"llmendpoint_{name}_total" for name in COUNTERS} | {f"llmendpoint_{name}" for name in GAUGES}
    names |= {f"llmendpoint_{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum", "count")}
    for path in (CHART / "files/rules").glob("*.yaml"):
        names |= {
            rule.get("record", "") for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]
        }
    return names


def operator_metrics() -> set[str]:
    """Return the names of the operator's metrics about itself, as its source has them."""
    found = re.findall(r'(?:_PREFIX \+ |_gauge\(\s*|_histogram\(\s*)"([a-z_]+)"', OPERATOR_METRICS.read_text())
    suffixes = ("", "_total", "_bucket", "_sum", "_count")
    return {f"llmendpoint_operator_{name}{suffix}" for name in found for suffix in suffixes}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_grafanas_types_have_every_field(path: Path) -> None:
    text = path.read_text()
    again = json.dumps(Dashboard.from_json(json.loads(text)), cls=JSONEncoder, indent=1, sort_keys=True)
    assert again + "\n" == text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_panels_have_a_title_a_description_a_unit_and_the_chosen_data_source(path: Path) -> None:
    dashboard = body(path)
    assert dashboard["uid"] == f"llmendpoint-{path.stem}"
    assert dashboard["tags"] == ["llmendpoint"]
    found = panels(dashboard)
    assert len({panel["id"] for panel in found}) == len(found)
    for panel in found:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_panels_do_not_overlap(path: Path) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in panels(body(path)):
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        covered = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                   for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & covered, panel["title"]
        cells |= covered


def test_dashboards_of_endpoints_have_the_variables_of_the_other_ones() -> None:
    wanted = {
        "overview": ["datasource", "namespace", "llmendpoint"],
        "endpoint": ["datasource", "namespace", "llmendpoint", "model"],
        "tenants": ["datasource", "namespace", "llmendpoint", "tenant"],
        "load-tests": ["datasource", "namespace", "llmendpoint", "loadtest"],
        "operator": ["datasource"],
    }
    found = {path.stem: [item["name"] for item in body(path)["templating"]["list"]] for path in FILES}
    assert found == wanted


def test_queries_name_metrics_that_exist() -> None:
    known = known_metrics() | operator_metrics() | {"llmendpoint:gpu_hourly_price"}
    for path in FILES:
        dashboard = body(path)
        variables = [item["query"] for item in dashboard["templating"]["list"] if item["type"] == "query"]
        for query in (*(expr for _, expr in queries(dashboard)), *variables):
            without_strings = re.sub(r'"[^"]*"', '""', re.sub(r"\b(by|on) \([^)]*\)", "", query))
            names = set(re.findall(r"\bllmendpoint[a-z0-9_]*(?::[a-z0-9_:]+)?", without_strings)) - {"llmendpoint"}
            assert names <= known, (path.stem, names - known)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_can_parse_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"q{number}", "expr": substituted(expr, {})}
        for number, (_, expr) in enumerate(item for path in FILES for item in queries(body(path)))
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", str(tmp_path / "rules.yaml")],
                          check=False, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@needs_helm
def test_config_maps_hold_the_dashboards_unchanged() -> None:
    objects = by_name(rendered("--set", "monitoring.dashboards=Enabled"))
    for path in FILES:
        config_map = objects[f"ConfigMap/llmendpoint-dashboard-{path.stem}"]
        assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(config_map["data"][f"llmendpoint-{path.stem}.json"]) == body(path)


@needs_helm
def test_dashboards_exist_if_the_cluster_has_the_prometheus_operator() -> None:
    api = ("--api-versions", "monitoring.coreos.com/v1/PrometheusRule")
    name = "ConfigMap/llmendpoint-dashboard-overview"
    assert name in by_name(rendered(*api))
    assert name not in by_name(rendered())
    assert name not in by_name(rendered(*api, "--set", "monitoring.dashboards=Disabled"))
