"""The alerts and recording rules of the chart, evaluated by `promtool test rules` with the files in `rules/`."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmendpoint_common.contracts.sidecar import Operation, Outcome
from llmendpoint_common.wire.routes import WITH_MODEL
from support.documents.rendered import CHART, by_name, needs_helm, rendered

pytestmark = [
    needs_helm,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed"),
]

CASES = Path(__file__).parent / "rules"
DOCS = CHART.parents[1] / "docs"
RUNBOOKS = "https://github.com/llmendpoint/llmendpoint/blob/main/docs/runbooks/"
#: The prices that costs.yaml reckons with.
PRICES = ("--set-string", "gpuHourlyPrices.NVIDIA-H200=3.50", "--set-string", "gpuHourlyPrices.nvidia\\.com/gpu=2.00")
_FIRING = re.compile(r'ALERTS\{alertname="(\w+)", alertstate="firing"')


def groups(*flags: str) -> list[dict[str, Any]]:
    """Return the groups of the rendered PrometheusRule."""
    objects = by_name(rendered("--set", "monitoring.rules=Enabled", *flags))
    return list(objects["PrometheusRule/llmendpoint"]["spec"]["groups"])


def alerts() -> list[dict[str, Any]]:
    """Return the alerts in the sources. They are read without helm, because tests are named after them."""
    documents = (yaml.safe_load(path.read_text()) for path in sorted((CHART / "files/rules").glob("*.yaml")))
    return [rule for each in documents for group in each["groups"] for rule in group["rules"] if "alert" in rule]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rendered rules and the test files, because these name the rules by a relative path."""
    path = tmp_path_factory.mktemp("rules")
    (path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups(*PRICES)}))
    shutil.copytree(CASES, path, dirs_exist_ok=True)
    return path


def test_prometheus_accepts_the_rules(folder: Path) -> None:
    done = subprocess.run(["promtool", "check", "rules", "--lint-fatal", str(folder / "rules.yaml")],
                          check=False, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.glob("*.yaml")))
def test_rules_behave_as_written(folder: Path, name: str) -> None:
    done = subprocess.run(["promtool", "test", "rules", name], cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_seen_to_fire_and_not_to_fire() -> None:
    seen: dict[bool, set[str]] = {True: set(), False: set()}
    for path in CASES.glob("*.yaml"):
        for case in yaml.safe_load(path.read_text())["tests"]:
            for check in case["promql_expr_test"]:
                found = _FIRING.match(check["expr"])
                if found:
                    seen[bool(check["exp_samples"])].add(found[1])
    assert seen == {True: (names := {rule["alert"] for rule in alerts()}), False: names}


def test_the_chart_has_all_rules_of_the_sources() -> None:
    documents = [yaml.safe_load(path.read_text()) for path in sorted((CHART / "files/rules").glob("*.yaml"))]
    sources = [group for each in documents for group in each["groups"]]
    assert [group for group in groups(*PRICES) if group["name"] != "llmendpoint.prices"] == sources


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_names_its_object_and_has_a_runbook(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    annotations = rule["annotations"]
    assert annotations["summary"].endswith(".")
    texts = annotations["summary"], annotations["description"]
    if not rule["alert"].startswith("LLMEndpointOperator"):
        resource = "loadtest" if "LoadTest" in rule["alert"] else "llmendpoint"
        assert all(f"{{{{ $labels.namespace }}}}/{{{{ $labels.{resource} }}}}" in text for text in texts)
    name = rule["alert"]
    assert annotations["runbook_url"] == f"{RUNBOOKS}{name}.md"
    text = (DOCS / "runbooks" / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    for section in ("## Meaning", "## Impact", "## Diagnosis", "## Mitigation"):
        assert section in text


def test_no_runbook_is_about_an_alert_that_does_not_exist() -> None:
    names = {rule["alert"] for rule in alerts()}
    assert {path.stem for path in (DOCS / "runbooks").glob("*.md")} - {"README"} == names


def test_operations_and_outcomes_in_expressions_are_those_of_the_sidecar() -> None:
    text = (CHART / "files/rules/records.yaml").read_text()
    operations = set(re.findall(r'operation=~"([^"]+)"', text))
    (pattern,) = operations
    assert {item for item in Operation if re.fullmatch(pattern, item)} == WITH_MODEL
    (outcomes,) = set(re.findall(r'outcome=~"([^"]+)"', text))
    assert set(outcomes.split("|")) == {
        Outcome.STREAM_ERROR,
        Outcome.TRUNCATED,
        Outcome.UPSTREAM_5XX,
        Outcome.UPSTREAM_UNREACHABLE,
        Outcome.UPSTREAM_TIMEOUT,
        Outcome.REJECTED_QUEUE,
    }


def test_costs_are_computed_only_if_there_are_prices() -> None:
    assert not [group for group in groups() if group["name"] in ("llmendpoint.costs", "llmendpoint.prices")]
    (prices,) = [group for group in groups(*PRICES) if group["name"] == "llmendpoint.prices"]
    assert {rule["labels"]["gpu"]: rule["expr"] for rule in prices["rules"]} == {
        "NVIDIA-H200": "vector(3.50)",
        "nvidia.com/gpu": "vector(2.00)",
    }


@pytest.mark.parametrize("price", ["-1", "a lot", "3,50", "1e3"])
def test_a_price_is_a_decimal_number(price: str) -> None:
    command = ["helm", "template", "llmendpoint", str(CHART), "--kube-version", "1.29.0", "--set-json",
               f'gpuHourlyPrices={{"NVIDIA-H200": "{price}"}}']  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode
    assert "gpuHourlyPrices" in done.stderr


def test_rules_have_the_labels_that_a_prometheus_selects() -> None:
    flags = ("--set", "monitoring.rules=Enabled", "--set", "monitoring.labels.release=prometheus")
    assert by_name(rendered(*flags))["PrometheusRule/llmendpoint"]["metadata"]["labels"]["release"] == "prometheus"


def test_rules_exist_if_the_cluster_has_the_kind() -> None:
    api = ("--api-versions", "monitoring.coreos.com/v1/PrometheusRule")
    assert "PrometheusRule/llmendpoint" in by_name(rendered(*api))
    assert "PrometheusRule/llmendpoint" not in by_name(rendered())
    assert "PrometheusRule/llmendpoint" not in by_name(rendered(*api, "--set", "monitoring.rules=Disabled"))
