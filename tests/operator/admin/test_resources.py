"""Metrics of the resources in the inventory."""

from __future__ import annotations

import time
from typing import Any

import pytest
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


def endpoint_with_pods(inventory: Inventory, spec: dict[str, Any], *pods: dict[str, Any]) -> None:
    """Show an endpoint, its StatefulSet, and pods with these statuses."""
    endpoint = body("LLMEndpoint", "a", "assistant", replicas=len(pods), readyReplicas=1)
    endpoint["spec"] |= spec
    inventory.shows("LLMEndpoint", endpoint)
    owner = {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LLMEndpoint", "name": "assistant", "controller": True,
             "uid": endpoint["metadata"]["uid"]}  # fmt: skip
    labels = {"llmendpoint.dev/endpoint": "assistant"}
    metadata: dict[str, Any] = {"name": "assistant", "namespace": "a", "uid": "set", "resourceVersion": "8",
                                "ownerReferences": [owner]}  # fmt: skip
    inventory.shows("StatefulSet", {"kind": "StatefulSet", "metadata": metadata, "spec": {}})
    for index, status in enumerate(pods):
        parent = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "assistant", "controller": True, "uid": "set"}
        metadata = {"name": f"assistant-{index}", "namespace": "a", "uid": f"pod-{index}", "resourceVersion": "9",
                    "labels": labels, "ownerReferences": [parent]}  # fmt: skip
        inventory.shows("Pod", {"kind": "Pod", "metadata": metadata, "status": status})


def samples(inventory: Inventory, name: str) -> list[tuple[dict[str, str], float]]:
    families = text_string_to_metric_families(rendered(inventory, {"a"}))
    return [(item.labels, item.value) for family in families for item in family.samples if item.name == name]


SCHEDULED = {"phase": "Running", "conditions": [{"type": "PodScheduled", "status": "True"}]}
PENDING = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]}


def test_gpus_are_those_of_pods_that_have_a_node() -> None:
    inventory = Inventory()
    spec = {"gpu": {"count": 2, "resource": "nvidia.com/gpu", "products": ["NVIDIA-H200"]}}
    failed = {**SCHEDULED, "phase": "Failed"}
    endpoint_with_pods(inventory, spec, SCHEDULED, SCHEDULED, PENDING, failed)
    who = {"namespace": "a", "llmendpoint": "assistant"}
    assert samples(inventory, "llmendpoint_gpus") == [
        ({**who, "resource": "nvidia.com/gpu", "product": "NVIDIA-H200"}, 4)
    ]
    assert samples(inventory, "llmendpoint_status_replicas") == [(who, 4)]
    assert samples(inventory, "llmendpoint_status_replicas_ready") == [(who, 1)]


def test_without_gpu_in_the_spec_a_replica_has_one_and_its_product_is_unknown() -> None:
    inventory = Inventory()
    endpoint_with_pods(inventory, {}, SCHEDULED)
    ((labels, value),) = samples(inventory, "llmendpoint_gpus")
    assert (labels["resource"], labels["product"], value) == ("nvidia.com/gpu", "", 1)


def test_a_product_is_unknown_if_several_are_accepted() -> None:
    inventory = Inventory()
    endpoint_with_pods(inventory, {"gpu": {"products": ["NVIDIA-H100", "NVIDIA-H200"]}}, SCHEDULED)
    ((labels, _),) = samples(inventory, "llmendpoint_gpus")
    assert labels["product"] == ""


@pytest.mark.parametrize("gpu", [{"count": 0}, {"resourceClaims": [{"name": "gpu"}]}])
def test_no_gpus_are_reported_if_there_are_none_or_if_their_number_is_not_known(gpu: dict[str, Any]) -> None:
    inventory = Inventory()
    endpoint_with_pods(inventory, {"gpu": gpu}, SCHEDULED)
    assert samples(inventory, "llmendpoint_gpus") == []


def test_slots_of_a_replica() -> None:
    inventory = Inventory()
    endpoint_with_pods(inventory, {"ollama": {"numParallel": 4}})
    assert [value for _, value in samples(inventory, "llmendpoint_spec_num_parallel")] == [4]
    endpoint_with_pods(other := Inventory(), {})
    assert [value for _, value in samples(other, "llmendpoint_spec_num_parallel")] == [1]


def test_the_result_of_a_load_test_is_exposed_when_it_has_ended() -> None:
    inventory = Inventory()
    running = body("LoadTest", "a", "check", startTime="2026-01-01T00:00:00Z", progressPercent=40)
    inventory.shows("LoadTest", running)
    assert [value for _, value in samples(inventory, "llmendpoint_loadtest_start_timestamp_seconds")] == [1767225600]
    assert [value for _, value in samples(inventory, "llmendpoint_loadtest_progress_ratio")] == [0.4]
    assert samples(inventory, "llmendpoint_loadtest_completion_timestamp_seconds") == []
    assert samples(inventory, "llmendpoint_loadtest_requests") == []
    latency = {"p50": "212ms", "p95": "1.5s", "p99": "2m05s"}
    summary = {"requests": 120, "errors": 3, "requestsPerSecond": "1.95", "outputTokens": 9000, "ttft": latency}
    ended = body("LoadTest", "a", "check", completionTime="2026-01-01T00:01:00Z", summary=summary, verdict="Passed")
    ended["metadata"]["resourceVersion"] = "8"
    inventory.shows("LoadTest", ended)
    for name, value in (("requests", 120), ("errors", 3), ("requests_per_second", 1.95), ("output_tokens", 9000)):
        assert [found for _, found in samples(inventory, f"llmendpoint_loadtest_{name}")] == [value]
    who = {"namespace": "a", "loadtest": "check", "metric": "TTFT"}
    assert samples(inventory, "llmendpoint_loadtest_latency_seconds") == [
        ({**who, "quantile": "0.5"}, 0.212),
        ({**who, "quantile": "0.95"}, 1.5),
        ({**who, "quantile": "0.99"}, 125),
    ]
