"""Metrics of the resources in the inventory."""

from __future__ import annotations

import time
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from llmendpoint_operator.admin.resources import ResourceSeries
from llmendpoint_operator.cluster.inventory import Inventory

TYPES = (
    "Ready",
    "Reconciling",
    "Stalled",
    "ModelsAvailable",
    "ModelsLoaded",
    "Degraded",
    "GPUOffloaded",
    "MonitoringReady",
)


def body(kind: str, namespace: str, name: str, **status: Any) -> dict[str, Any]:
    conditions = [{"type": kind_, "status": "False", "reason": "x"} for kind_ in TYPES]
    return {
        "apiVersion": "llmendpoint.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": f"{kind}-{namespace}-{name}", "resourceVersion": "7"},
        "spec": {"models": [{"name": "tiny:latest", "load": "Preload"}], "endpointRef": {"name": "assistant"}},
        "status": {"conditions": conditions, **status},
    }


def rendered(inventory: Inventory, served: set[str]) -> str:
    return b"".join(ResourceSeries(inventory, served.__contains__).render(openmetrics=False)).decode()


def test_only_served_namespaces_are_exposed() -> None:
    inventory = Inventory()
    for namespace in ("a", "b"):
        inventory.shows("LLMEndpoint", body("LLMEndpoint", namespace, "assistant", gpu="2 x H200", url="http://x"))
        inventory.shows("LoadTest", body("LoadTest", namespace, "check", verdict="Passed"))
    text = rendered(inventory, {"a"})
    assert 'llmendpoint_info{namespace="a",llmendpoint="assistant",gpu="2 x H200",url="http://x"} 1\n' in text
    assert (
        'llmendpoint_loadtest_info{namespace="a",loadtest="check",llmendpoint="assistant",verdict="Passed"} 1\n' in text
    )
    assert 'namespace="b"' not in text
    assert "namespace=" not in rendered(inventory, set())


def test_a_resource_without_status_and_special_characters_are_rendered() -> None:
    inventory = Inventory()
    new = body("LLMEndpoint", "a", "new")
    del new["status"]
    inventory.shows("LLMEndpoint", new)
    inventory.shows("LLMEndpoint", body("LLMEndpoint", "a", "odd", gpu='2 x "H\\200"\n'))
    text = rendered(inventory, {"a"})
    gpus = {sample.labels["llmendpoint"]: sample.labels["gpu"]
            for family in text_string_to_metric_families(text) for sample in family.samples
            if sample.name == "llmendpoint_info"}  # fmt: skip
    assert gpus == {"new": "", "odd": '2 x "H\\200"\n'}


def test_both_formats_can_be_parsed_and_a_thousand_endpoints_are_cheap() -> None:
    inventory = Inventory()
    for index in range(1000):
        inventory.shows("LLMEndpoint", body("LLMEndpoint", "a", f"endpoint-{index}"))
    series = ResourceSeries(inventory, lambda _: True)
    longest = 0.0
    last = begun = time.thread_time()
    pieces = []
    for piece in series.render(openmetrics=True):
        now = time.thread_time()
        longest, last = max(longest, now - last), now
        pieces.append(piece)
    total = time.thread_time() - begun
    print(f"\n1,000 endpoints: {total * 1000:.0f} ms in {len(pieces)} pieces, the longest {longest * 1000:.1f} ms")
    assert total < 0.5
    assert longest < 0.05
    text = b"".join(pieces).decode()
    families = openmetrics_families(text + "# EOF\n")  # type: ignore[no-untyped-call]
    conditions = next(one for one in families if one.name == "llmendpoint_condition")
    assert len(conditions.samples) == 1000 * len(TYPES) * 3
