"""The number of requests that the operator sends, from the API server's own metrics.

While a test counts, it sends no request except the one that it names. Watches are not counted. Events are counted
separately from the writes of children and statuses.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT, LOADTEST
from support.api_server.apiclient import Client
from support.api_server.manifests import endpoint, pod
from support.api_server.pod_processes import pod_processes
from support.api_server.requests import Counts, counted, counted_during, counted_when_quiet
from support.waiting import wait_until

FIRST_RECONCILE = {
    ("APPLY", "serviceaccounts"): 1,
    ("APPLY", "configmaps"): 1,
    ("APPLY", "services"): 2,
    ("APPLY", "statefulsets"): 1,
    ("APPLY", "networkpolicies"): 1,
    ("APPLY", "llmendpoints/status"): 1,
}


@pytest.fixture
def quiet(api: Any, operator: Any) -> Client:
    """An API server without the resources of other tests, which could still cause requests."""
    client: Client = api.client
    for namespace in json.loads(client.request("GET", "/api/v1/namespaces"))["items"]:
        for kind in (LLMENDPOINT, LOADTEST):
            for body in client.items(kind, namespace["metadata"]["name"]):
                client.delete(kind, namespace["metadata"]["name"], body["metadata"]["name"])
    counted_when_quiet(client)
    return client


@pytest.fixture
def failing_pod_address(tmp_path: Path) -> Iterator[str]:
    """A loopback address on which a real sidecar listens on port 8001 and reports a model that it cannot pull."""
    with pod_processes(tmp_path, "127.77.4.1") as address:
        yield address


def shown(name: str, counts: Counts) -> dict[tuple[str, str], int]:
    """Print counts, so that `pytest -s` shows them, and return them without those of the test's own action."""
    print(f"\n{name}: {sum(counts.values())} requests")
    for (verb, resource), number in sorted(counts.items()):
        print(f"  {number:4} {verb:6} {resource}")
    return {key: number for key, number in counts.items() if key not in {("APPLY", "llmendpoints"), ("APPLY", "pods")}}


def test_a_first_reconcile_is_one_write_per_child_and_one_of_the_status(api: Any, quiet: Client) -> None:
    counts = counted_during(quiet, lambda: api.apply(endpoint("assistant")))
    assert shown("first reconcile", counts) == FIRST_RECONCILE


def test_endpoints_at_rest_cause_no_request(api: Any, quiet: Client, operator: Any, failing_pod_address: str) -> None:
    """20 endpoints whose pods are polled every 2 s, and 20 that are scaled to zero."""
    for index in range(20):
        api.apply(endpoint(f"polled-{index}"))
        api.apply(endpoint(f"zero-{index}", replicas=0))
    wait_until(lambda: api.get("StatefulSet", "polled-19"))
    for index in range(20):
        name = f"polled-{index}"
        api.apply(pod(f"{name}-0", name, api.get("StatefulSet", name)["metadata"]["uid"]))
        api.apply_status({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{name}-0"},
                          "status": {"phase": "Running", "podIP": failing_pod_address,
                                     "podIPs": [{"ip": failing_pod_address}]}})  # fmt: skip
    wait_until(lambda: api.conditions(LLMENDPOINT, "polled-19").get("Ready") == ("False", "ModelNotFound"), 60)
    before, reconciles = counted_when_quiet(quiet), operator.metric("llmendpoint_operator_reconciles_total")
    wait_until(lambda: operator.metric("llmendpoint_operator_reconciles_total") >= reconciles + 5 * 20, 60)
    counts = counted(quiet) - before
    assert shown("40 endpoints during 5 polls of each of the 20 with pods", counts) == {}
    # An edit of one of them causes only the necessary writes.
    counts = counted_during(quiet, lambda: api.apply(endpoint("polled-7", models=[{"name": "other:1b"}])))
    assert shown("edit of a model", counts) == {("APPLY", "configmaps"): 1, ("APPLY", "llmendpoints/status"): 1}


def test_an_edit_costs_one_write_per_changed_child_and_one_of_the_status(api: Any, quiet: Client) -> None:
    api.apply(endpoint("assistant", service={"port": 80, "annotations": {"example.com/team": "a"}}))
    counts = counted_during(quiet, lambda: api.apply(endpoint("assistant", service={"port": 8080})))
    assert shown("edit of the port", counts) == {("APPLY", "services"): 1, ("APPLY", "llmendpoints/status"): 1}
    # The removed fields are gone, although the operator had written this child only once, when it created it.
    service = api.get("Service", "assistant")
    assert [port["port"] for port in service["spec"]["ports"]] == [8080]
    assert "example.com/team" not in service["metadata"]["annotations"]


def test_a_child_that_was_deleted_or_edited_costs_one_write(api: Any, quiet: Client) -> None:
    counted_during(quiet, lambda: api.apply(endpoint("assistant")))
    counts = counted_during(quiet, lambda: api.delete("Service", "assistant"))
    # It is read, because the watch would report a Service that lost our label in the same way.
    assert shown("deletion of a Service", counts) == {
        ("DELETE", "services"): 1,
        ("GET", "services"): 1,
        ("APPLY", "services"): 1,
    }
    counts = counted_during(quiet, lambda: api.patch("ConfigMap", "assistant", {"data": {"models.json": "{}"}}))
    assert shown("edit of a ConfigMap", counts) == {("PATCH", "configmaps"): 1, ("APPLY", "configmaps"): 1}
    assert "tiny" in api.get("ConfigMap", "assistant")["data"]["models.json"]
    # A selector is an atomic map: with another entry, the Service would select no pod.
    added = {"spec": {"selector": {"example.com/extra": "x"}}}
    counts = counted_during(quiet, lambda: api.patch("Service", "assistant", added))
    assert shown("a selector with another entry", counts) == {("PATCH", "services"): 1, ("APPLY", "services"): 1}
    assert "example.com/extra" not in api.get("Service", "assistant")["spec"]["selector"]


def test_what_others_add_to_a_child_and_a_status_of_a_child_cost_nothing(api: Any, quiet: Client) -> None:
    counted_during(quiet, lambda: api.apply(endpoint("assistant", replicas=0)))
    added = {"metadata": {"annotations": {"example.com/note": "x"}}}
    counts = counted_during(quiet, lambda: api.patch("Service", "assistant", added))
    assert shown("somebody's annotation", counts) == {("PATCH", "services"): 1}
    observed = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "assistant"},
                "status": {"replicas": 0, "observedGeneration": 1}}  # fmt: skip
    counts = counted_during(quiet, lambda: api.apply_status(observed))
    # The condition Reconciling changes when all replicas are known to have the latest template.
    assert shown("a StatefulSet's status", counts) == {
        ("APPLY", "statefulsets/status"): 1, ("APPLY", "llmendpoints/status"): 1,
    }  # fmt: skip


def test_an_operator_that_starts_writes_nothing(api: Any, quiet: Client, start_operator: Callable[[], Any]) -> None:
    for index in range(5):
        api.apply(endpoint(f"known-{index}", ollama={"numParallel": 2}, gpu={"count": 2}, replicas=2))
    before = counted_when_quiet(quiet)
    second = start_operator()
    try:
        wait_until(lambda: second.metric("llmendpoint_operator_reconciles_total") >= 5)
        counts = counted_when_quiet(quiet) - before
        assert {verb for verb, _ in shown("start of an operator with 5 endpoints", counts)} == {"LIST"}
    finally:
        second.terminate()
        assert second.wait(20) == 0


def test_a_child_that_was_edited_while_no_operator_ran_heals(
    api: Any, quiet: Client, operator: Any, start_operator: Callable[[], Any]
) -> None:
    counted_during(quiet, lambda: api.apply(endpoint("assistant")))
    before = counted(quiet)
    operator.send_signal(signal.SIGSTOP)
    try:
        api.patch("Service", "assistant", {"spec": {"ports": [{"name": "http", "port": 11434, "targetPort": 1}]}})
        api.delete("ConfigMap", "assistant")
        second = start_operator()
        try:
            wait_until(lambda: api.get("Service", "assistant")["spec"]["ports"][0]["targetPort"] == "proxy")
            wait_until(lambda: api.get("ConfigMap", "assistant"))
        finally:
            second.terminate()
            assert second.wait(20) == 0
        counts = counted_when_quiet(quiet) - before
    finally:
        operator.send_signal(signal.SIGCONT)
    writes = {key: number for key, number in shown("start after edits", counts).items() if key[0] == "APPLY"}
    assert writes == {("APPLY", "services"): 1, ("APPLY", "configmaps"): 1}
