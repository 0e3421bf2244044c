"""The chart's alerts, recording rules and dashboards on a real Prometheus, after load on a real endpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from dashboards.reading import queries, substituted

from support.on_cluster.cluster import (
    GPU_HOURLY_PRICE,
    ROOT,
    Namespace,
    Parameters,
    fetch,
    kubectl,
    wait_for_prometheus,
)
from support.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

DASHBOARDS = sorted((ROOT / "charts/llmendpoint/files/dashboards").glob("*.json"))
_COSTS = ("gpu_cost", "llmendpoint_gpus")


@dataclass(frozen=True)
class Watched:
    """An endpoint with traffic, and the Prometheus that scrapes it."""

    namespace: Namespace
    prometheus: str
    ask: Callable[[], None]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the series of an instant query that have a number."""
        found = json.loads(fetch(f"{self.prometheus}/api/v1/query?query={quote(expr)}"))["data"]["result"]
        return [item for item in found if not math.isnan(float(item["value"][1]))]

    def value(self, expr: str) -> float | None:
        """Return the value of a query with one series, or None without any."""
        found = self.query(expr)
        return float(found[0]["value"][1]) if found else None


@pytest.fixture(scope="module")
def watched(assistant: Namespace, parameters: Parameters) -> Iterator[Watched]:
    """The sample endpoint after a load test that missed its objective."""
    if "prometheus-operated" not in kubectl("get", "services", "--all-namespaces"):
        pytest.skip("THIS CLUSTER HAS NO PROMETHEUS: alerts and dashboards were not looked at")
    assistant.run("wait", "--for=condition=Ready", "--timeout=5m", "llmendpoint/assistant")
    slo = [{"metric": "TTFT", "percentile": 50, "threshold": "1ms"}]
    spec = {
        "endpointRef": {"name": "assistant"},
        "load": {"concurrency": 1, "duration": "5s"},
        "request": {"maxTokens": 16},
        "slo": slo,
    }
    metadata = {"name": "missed"}
    assistant.apply({"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LoadTest", "metadata": metadata, "spec": spec})
    assistant.run("wait", "--for=condition=Complete", "--timeout=5m", "loadtest/missed")
    question = {"model": parameters.model, "messages": [{"role": "user", "content": "hello"}]}
    with (
        assistant.forward("service/assistant", 11434) as url,
        Namespace("monitoring").forward("service/prometheus-operated", 9090) as prometheus,
    ):

        def ask() -> None:
            fetch(f"{url}/api/chat", {**question, "options": {"num_predict": 16}})
            fetch(f"{url}/v1/chat/completions", {**question, "max_tokens": 5})

        watched = Watched(assistant, prometheus, ask)
        scraped = f'llmendpoint_upstream_up{{namespace="{assistant.name}", llmendpoint="assistant"}}'
        wait_for_prometheus(lambda: watched.query(scraped))
        yield watched


def test_prometheus_has_loaded_the_rules_of_the_chart(watched: Watched) -> None:
    def loaded() -> dict[str, str]:
        groups = json.loads(fetch(f"{watched.prometheus}/api/v1/rules"))["data"]["groups"]
        rules = [rule for group in groups if group["name"].startswith("llmendpoint.") for rule in group["rules"]]
        return {rule["name"]: rule.get("lastError", "") for rule in rules}

    rules = wait_for_prometheus(loaded)
    assert "LLMEndpointNotReady" in rules
    assert {name: error for name, error in rules.items() if error} == {}


def test_an_alert_fires(watched: Watched) -> None:
    selector = f'alertname="LLMEndpointLoadTestFailed", namespace="{watched.namespace.name}", loadtest="missed"'
    (alert,) = wait_until(lambda: watched.query(f'ALERTS{{{selector}, alertstate="firing"}}'), 180)
    assert alert["metric"]["verdict"] in ("Failed", "Invalid")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_query_of_a_dashboard_returns_data(watched: Watched, path: Any, parameters: Parameters) -> None:
    chosen = {"namespace": watched.namespace.name, "llmendpoint": "assistant", "loadtest": "missed"}
    wanted = [
        (title, substituted(expr, chosen))
        for title, expr in queries(json.loads(path.read_text()))
        if parameters.gpu or not any(name in expr for name in _COSTS)
    ]
    missing = wanted

    def is_complete() -> bool:
        nonlocal missing
        watched.ask()
        missing = [(title, expr) for title, expr in missing if not watched.query(expr)]
        return not missing

    try:
        wait_until(is_complete, 120, every=2)
    except AssertionError:
        pytest.fail("no data: " + "\n".join(f"{title}: {expr}" for title, expr in missing))


def test_the_cost_is_that_of_a_reckoning_by_hand(watched: Watched, parameters: Parameters) -> None:
    if not parameters.gpu:
        pytest.skip("THIS CLUSTER HAS NO GPU: costs were not looked at")
    chosen = f'namespace="{watched.namespace.name}", llmendpoint="assistant"'
    gpus = sum(
        int(container["resources"]["limits"].get("nvidia.com/gpu", 0))
        for container in watched.namespace.get("pod", "assistant-0")["spec"]["initContainers"]
    )
    per_hour = wait_until(lambda: watched.value(f"llmendpoint:gpu_cost_per_hour:sum{{{chosen}}}"), 120)
    assert per_hour == pytest.approx(gpus * float(GPU_HOURLY_PRICE))
    tenants = wait_until(lambda: watched.query(f"llmendpoint_tenant:gpu_cost:sum1h{{{chosen}}}"), 120)
    # All rules of a group are evaluated with the same time.
    at = tenants[0]["value"][0]
    whole = watched.value(f"llmendpoint:gpu_cost:sum1h{{{chosen}}} @ {at}")
    assert sum(float(item["value"][1]) for item in tenants) == pytest.approx(whole)
