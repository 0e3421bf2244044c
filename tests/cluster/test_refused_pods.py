"""Pods that a real cluster refuses, cannot run, or ends: the conditions of the endpoint name the cause.

All endpoints are created together, so that the tests wait at the same time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.on_cluster.cluster import Namespace, Parameters, kubectl, new_namespace
from support.on_cluster.refused_pods import BROKEN_RUNTIME, CASES, ONE_GPU_SHORT, POLICY, Case, small_pod, user_policy
from support.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

#: Kubelet looks for full volumes every 10 s, and an image or a sandbox that fails is told after some tries.
TOLD_WITHIN = 120


@pytest.fixture(scope="module")
def namespaces(chart: None, parameters: Parameters) -> Iterator[dict[str, Namespace]]:
    """The namespaces of the cases."""
    wanted = [case for case in CASES if parameters.gpu or not case.needs_gpu]
    found = {case.name: new_namespace(case.name) for case in wanted}
    try:
        _create(found, wanted, parameters)
        yield found
    finally:
        kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", POLICY, "--ignore-not-found")
        kubectl("delete", "namespaces", *(one.name for one in found.values()), "--wait=false")
        kubectl("delete", "runtimeclass", BROKEN_RUNTIME, "--ignore-not-found")


def _create(found: dict[str, Namespace], wanted: list[Case], parameters: Parameters) -> None:
    for manifest in user_policy(found["policy"].name):
        kubectl("apply", "-f", "-", stdin=manifest)
    for case in wanted:
        for manifest in case.objects:
            found[case.name].apply(manifest)
    # A new policy is in force about a second later.
    wait_until(lambda: _refuses(found["policy"]), 60, every=0.3)
    for case in wanted:
        found[case.name].apply(case.endpoint(parameters))


def _refuses(namespace: Namespace) -> bool:
    said = namespace.run("create", "--dry-run=server", "-f", "-", stdin=small_pod("probe"), check=False)
    return POLICY in said


def conditions(namespace: Namespace) -> dict[str, dict[str, Any]]:
    status = namespace.get("llmendpoint", "assistant").get("status") or {}
    return {row["type"]: row for row in status.get("conditions") or []}


def is_told(namespace: Namespace, case: Case) -> bool:
    """Return whether the conditions have the reason and all words."""
    rows = conditions(namespace)
    wanted = ("Ready", "Degraded") if case.unready else ("Degraded",)
    return all(
        (row := rows.get(name)) is not None
        and row["reason"] == case.reason
        and all(word in row["message"] for word in case.words)
        for name in wanted
    )


def events(namespace: Namespace, reason: str) -> int:
    """Return how often a Warning with this reason was written about the endpoint."""
    selector = f"involvedObject.kind=LLMEndpoint,type=Warning,reason={reason}"
    found = json.loads(namespace.run("get", "events", "--field-selector", selector, "-o", "json"))["items"]
    return sum(event.get("count") or 1 for event in found)


def starts(namespace: Namespace) -> int:
    """Return how often a container was started, or a pod was evicted."""
    found = json.loads(namespace.run("get", "events", "-o", "json"))["items"]
    return sum(event.get("count") or 1 for event in found if event["reason"] in ("Started", "Evicted"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_conditions_name_the_cause(namespaces: dict[str, Namespace], case: Case) -> None:
    if case.name not in namespaces:
        pytest.skip("THIS CLUSTER HAS NO GPU: a pod that waits for one was not looked at")
    namespace = namespaces[case.name]
    try:
        wait_until(lambda: is_told(namespace, case), TOLD_WITHIN, every=0.3)
    except AssertionError:
        pytest.fail(f"{case.reason} was not told: {json.dumps(conditions(namespace), indent=1)}")
    rows, manifest = conditions(namespace), namespace.get("llmendpoint", "assistant")
    assert (rows["Stalled"]["status"], rows["Stalled"]["reason"]) == ("False", "NotStalled")
    assert rows["Degraded"]["status"] == "True"
    assert rows["Ready"]["status"] == ("False" if case.unready else "True")
    assert manifest["status"]["observedGeneration"] == manifest["metadata"]["generation"] == 1
    told = wait_until(lambda: events(namespace, case.reason), 10)
    assert told <= (max(1, starts(namespace)) if case.loops else 1)


def test_one_ready_replica_serves_while_the_other_waits_for_a_gpu(namespaces: dict[str, Namespace]) -> None:
    if ONE_GPU_SHORT.name not in namespaces:
        pytest.skip("THIS CLUSTER HAS NO GPU: a replica that waits for one was not looked at")
    rows = conditions(namespaces[ONE_GPU_SHORT.name])
    assert (rows["Ready"]["status"], rows["Ready"]["reason"]) == ("True", "ModelsAnswer")
    assert rows["Reconciling"]["status"] == "True"


def test_a_refusal_is_still_told_without_its_event_and_ends_with_the_cause(namespaces: dict[str, Namespace]) -> None:
    namespace = namespaces["quota"]
    (case,) = (case for case in CASES if case.name == "quota")
    namespace.run("delete", "events", "--all")
    assert is_told(namespace, case)
    spec = {"ollama": {"resources": {"limits": {"memory": "2Gi"}}}}
    namespace.run("patch", "llmendpoint", "assistant", "--type=merge", "--patch", json.dumps({"spec": spec}))
    namespace.run("wait", "--for=condition=Ready", "--timeout=3m", "llmendpoint/assistant")
    wait_until(lambda: conditions(namespace)["Degraded"]["reason"] == "AsWanted", 60)
    assert not events(namespace, case.reason)
