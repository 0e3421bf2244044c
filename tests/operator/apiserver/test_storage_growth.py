"""Claims grow on a real API server. The tests play the driver of the volumes and, in most tests, the controllers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT, MANAGED_BY, MANAGED_BY_LABEL, PAUSED_ANNOTATION
from support.api_server.claims import bound, claim, storage_class
from support.api_server.manifests import endpoint, pod
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("operator")

STATEFULSET = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "assistant"}}
READY = [{"type": "Ready", "status": "True"}]


@pytest.fixture(autouse=True)
def classes(api: Any) -> None:
    """Two StorageClasses: volumes of one can be resized."""
    api.client.apply(storage_class("expandable", expandable=True))
    api.client.apply(storage_class("fixed", expandable=False))


def rows(api: Any) -> dict[str, dict[str, Any]]:
    status = (api.get(LLMENDPOINT, "assistant") or {}).get("status") or {}
    return {row["type"]: row for row in status.get("conditions", [])}


def reason(api: Any, kind: str) -> str:
    return str(rows(api).get(kind, {}).get("reason", ""))


def size_of(api: Any, name: str) -> str:
    return str(api.get("PersistentVolumeClaim", name)["spec"]["resources"]["requests"]["storage"])


def template_size(api: Any) -> str:
    statefulset = api.get("StatefulSet", "assistant") or {"spec": {"volumeClaimTemplates": []}}
    return "".join(
        each["spec"]["resources"]["requests"]["storage"] for each in statefulset["spec"]["volumeClaimTemplates"]
    )


def serve(api: Any, storage: str = "expandable", size: str = "50Gi", replicas: int = 1) -> None:
    """Apply an endpoint, and play the controllers until it is Ready and settled."""
    api.apply(endpoint("assistant", replicas=replicas, storage={"size": size, "storageClassName": storage}))
    made = wait_until(lambda: api.get("StatefulSet", "assistant"))
    for number in range(replicas):
        name = f"assistant-{number}"
        api.apply(claim(f"models-{name}", storage, size))
        api.apply_status(bound(f"models-{name}", size))
        api.apply(pod(name, "assistant", made["metadata"]["uid"]))
        api.apply_status(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "status": {"conditions": READY}}
        )
    count(api)
    wait_until(lambda: (reason(api, "Ready"), reason(api, "Reconciling")) == ("ModelsAnswer", "Settled"))


def count(api: Any) -> None:
    """Let the StatefulSet controller count the pods."""
    made = api.get("StatefulSet", "assistant")
    counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas"), made["spec"]["replicas"])
    status = {**counts, "observedGeneration": made["metadata"]["generation"]}
    api.apply_status({**STATEFULSET, "status": status})


def collect_garbage(api: Any) -> None:
    """Do what the garbage collector does for a StatefulSet that is deleted without its pods."""
    deleted = wait_until(lambda: _if(api.get("StatefulSet", "assistant"), "deletionTimestamp"))
    assert deleted["metadata"]["finalizers"] == ["orphan"]
    for body in api.client.items("Pod", api.namespace):
        api.patch("Pod", body["metadata"]["name"], {"metadata": {"ownerReferences": None}})
    api.patch("StatefulSet", "assistant", {"metadata": {"finalizers": None}})
    wait_until(
        lambda: (api.get("StatefulSet", "assistant") or deleted)["metadata"]["uid"] != deleted["metadata"]["uid"]
    )


def _if(body: dict[str, Any] | None, field: str) -> dict[str, Any] | None:
    return body if body and field in body["metadata"] else None


def adopt(api: Any) -> None:
    """Let the StatefulSet controller adopt the pods."""
    uid = api.get("StatefulSet", "assistant")["metadata"]["uid"]
    for body in api.client.items("Pod", api.namespace):
        owned = pod(body["metadata"]["name"], "assistant", uid)["metadata"]["ownerReferences"]
        api.patch("Pod", body["metadata"]["name"], {"metadata": {"ownerReferences": owned}})
    count(api)


def grow(api: Any, size: str) -> None:
    api.patch(LLMENDPOINT, "assistant", {"spec": {"storage": {"size": size}}})


def test_claims_grow_and_the_statefulset_is_replaced_around_its_pods(api: Any) -> None:
    serve(api, replicas=2)
    before = {body["metadata"]["uid"] for body in api.client.items("Pod", api.namespace)}
    grow(api, "80Gi")
    collect_garbage(api)
    assert (size_of(api, "models-assistant-0"), size_of(api, "models-assistant-1")) == ("80Gi", "80Gi")
    assert template_size(api) == "80Gi"
    adopt(api)
    wait_until(lambda: reason(api, "Reconciling") == "Resizing")
    message = rows(api)["Reconciling"]["message"]
    assert "PersistentVolumeClaim models-assistant-0 is being resized from 50Gi to 80Gi." in message
    api.apply_status(bound("models-assistant-0", "80Gi"))
    api.apply_status(bound("models-assistant-1", "80Gi"))
    wait_until(lambda: reason(api, "Reconciling") == "Settled")
    assert {body["metadata"]["uid"] for body in api.client.items("Pod", api.namespace)} == before


def test_the_endpoint_is_ready_all_the_time(api: Any) -> None:
    serve(api)
    since = rows(api)["Ready"]["lastTransitionTime"]
    grow(api, "80Gi")
    collect_garbage(api)
    wait_until(lambda: reason(api, "Reconciling") == "Resizing")
    assert (rows(api)["Ready"]["status"], rows(api)["Ready"]["lastTransitionTime"]) == ("True", since)
    adopt(api)
    api.apply_status(bound("models-assistant-0", "80Gi"))
    wait_until(lambda: reason(api, "Reconciling") == "Settled")
    assert rows(api)["Ready"]["lastTransitionTime"] == since
    assert not [event for event in api.events("assistant") if event["type"] == "Warning"]


def test_a_class_that_does_not_allow_it_stalls_the_endpoint_and_nothing_is_replaced(api: Any) -> None:
    serve(api, "fixed")
    uid = api.get("StatefulSet", "assistant")["metadata"]["uid"]
    grow(api, "80Gi")
    wait_until(lambda: reason(api, "Stalled") == "StorageNotExpandable")
    message = rows(api)["Stalled"]["message"]
    assert 'persistentvolumeclaims "models-assistant-0" is forbidden' in message
    assert "allowVolumeExpansion: true" in message
    assert rows(api)["Ready"]["status"] == "True"
    # Other changes of the endpoint are written.
    api.patch(LLMENDPOINT, "assistant", {"spec": {"pod": {"labels": {"team": "a"}}}})
    wait_until(lambda: api.get("StatefulSet", "assistant")["spec"]["template"]["metadata"]["labels"].get("team"))
    assert api.get("StatefulSet", "assistant")["metadata"]["uid"] == uid
    assert (template_size(api), size_of(api, "models-assistant-0")) == ("50Gi", "50Gi")


def relabel(api: Any, kind: str = "StatefulSet") -> None:
    """Take the label by which the operator watches its objects from one of them."""
    api.patch(kind, "assistant", {"metadata": {"labels": {MANAGED_BY_LABEL: "somebody"}}})


def label_of(api: Any) -> str:
    return str(api.get("StatefulSet", "assistant")["metadata"]["labels"][MANAGED_BY_LABEL])


def test_a_statefulset_without_its_label_is_repaired_while_its_claims_may_not_grow(api: Any) -> None:
    serve(api, "fixed")
    uid = api.get("StatefulSet", "assistant")["metadata"]["uid"]
    grow(api, "80Gi")
    wait_until(lambda: reason(api, "Stalled") == "StorageNotExpandable")
    relabel(api)
    wait_until(lambda: label_of(api) == MANAGED_BY)
    relabel(api)
    api.patch("StatefulSet", "assistant", {"spec": {"replicas": 0}})
    wait_until(lambda: api.get("StatefulSet", "assistant")["spec"]["replicas"] == 1)
    assert (label_of(api), template_size(api)) == (MANAGED_BY, "50Gi")
    assert reason(api, "Stalled") == "StorageNotExpandable"
    assert api.get("StatefulSet", "assistant")["metadata"]["uid"] == uid


def test_a_statefulset_that_lost_its_label_before_the_operator_started_is_repaired(
    api: Any, start_operator: Callable[..., Any], operator: Any
) -> None:
    serve(api, "fixed")
    grow(api, "80Gi")
    wait_until(lambda: reason(api, "Stalled") == "StorageNotExpandable")
    api.patch(LLMENDPOINT, "assistant", {"metadata": {"annotations": {PAUSED_ANNOTATION: "true"}}})
    wait_until(lambda: "StatefulSet/assistant" not in rows(api)["Reconciling"]["message"])
    relabel(api)
    process = start_operator(f"--namespace={api.namespace}")
    try:
        api.patch(LLMENDPOINT, "assistant", {"metadata": {"annotations": {PAUSED_ANNOTATION: None}}})
        wait_until(lambda: label_of(api) == MANAGED_BY)
        assert template_size(api) == "50Gi"
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_a_statefulset_without_its_label_is_replaced_when_claims_grow(api: Any) -> None:
    """Nobody repairs the label before: the endpoint is paused when it is removed."""
    serve(api)
    api.patch(LLMENDPOINT, "assistant", {"metadata": {"annotations": {PAUSED_ANNOTATION: "true"}}})
    wait_until(lambda: reason(api, "Reconciling") == "Paused")
    relabel(api)
    wait_until(lambda: "StatefulSet/assistant" in rows(api)["Reconciling"]["message"])
    grow(api, "80Gi")
    api.patch(LLMENDPOINT, "assistant", {"metadata": {"annotations": {PAUSED_ANNOTATION: None}}})
    collect_garbage(api)
    assert (template_size(api), label_of(api)) == ("80Gi", MANAGED_BY)


def test_a_class_that_allows_it_later_is_noticed(api: Any) -> None:
    serve(api, "fixed")
    grow(api, "80Gi")
    wait_until(lambda: reason(api, "Stalled") == "StorageNotExpandable")
    api.client.apply(storage_class("fixed", expandable=True))
    wait_until(lambda: size_of(api, "models-assistant-0") == "80Gi")
    collect_garbage(api)
    wait_until(lambda: reason(api, "Stalled") == "NotStalled")


def test_a_claim_that_was_kept_from_earlier_grows_when_its_replica_is_back(api: Any) -> None:
    serve(api)
    for name, size in (("models-assistant-1", "50Gi"), ("models-assistant-2", "90Gi")):
        api.apply(claim(name, "expandable", size))
        api.apply_status(bound(name, size))
    grow(api, "80Gi")
    wait_until(lambda: size_of(api, "models-assistant-0") == "80Gi")
    collect_garbage(api)
    adopt(api)
    assert size_of(api, "models-assistant-1") == "50Gi"
    api.patch(LLMENDPOINT, "assistant", {"spec": {"replicas": 3}})
    wait_until(lambda: size_of(api, "models-assistant-1") == "80Gi")
    # It is larger, and stays so.
    assert size_of(api, "models-assistant-2") == "90Gi"


def test_a_claim_of_another_name_is_left_alone(api: Any) -> None:
    serve(api)
    for name in ("other", "models-assistant-x", "models-assistant-0-0"):
        api.apply(claim(name, "expandable"))
        api.apply_status(bound(name, "50Gi"))
    grow(api, "80Gi")
    wait_until(lambda: size_of(api, "models-assistant-0") == "80Gi")
    assert {size_of(api, name) for name in ("other", "models-assistant-x", "models-assistant-0-0")} == {"50Gi"}


def test_a_template_that_would_be_refused_keeps_the_statefulset(api: Any) -> None:
    """If it were deleted first, its pods would have no controller."""
    serve(api)
    uid = api.get("StatefulSet", "assistant")["metadata"]["uid"]
    wrong = {"resources": {"limits": {"a.example/b/c": 1}}}
    api.patch(LLMENDPOINT, "assistant", {"spec": {"storage": {"size": "80Gi"}, "ollama": wrong}})
    wait_until(lambda: reason(api, "Stalled") == "Invalid")
    assert size_of(api, "models-assistant-0") == "80Gi"
    now = api.get("StatefulSet", "assistant")["metadata"]
    assert now["uid"] == uid
    assert "deletionTimestamp" not in now
