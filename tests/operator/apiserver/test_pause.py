"""An endpoint with the annotation `llmendpoint.dev/paused` on a real API server: only its status is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT, MANAGED_BY, MANAGED_BY_LABEL, PAUSED_ANNOTATION
from support.api_server.claims import bound, claim, storage_class
from support.api_server.manifests import endpoint
from support.waiting import wait_until

STATEFULSET = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "assistant"}}


@pytest.fixture
def served(api: Any, operator: Any) -> Any:
    """A namespace with an endpoint whose replica is ready."""
    api.apply(endpoint("assistant"))
    wait_until(lambda: api.get("StatefulSet", "assistant"))
    count(api)
    wait_until(lambda: row(api, "Reconciling").get("reason") == "Settled")
    return api


def count(api: Any, ready: int = 1) -> None:
    counts = {"replicas": 1, "readyReplicas": ready, "updatedReplicas": 1}
    generation = api.get("StatefulSet", "assistant")["metadata"]["generation"]
    api.apply_status({**STATEFULSET, "status": {**counts, "observedGeneration": generation}})


def row(api: Any, kind: str) -> dict[str, Any]:
    status = (api.get(LLMENDPOINT, "assistant") or {}).get("status") or {}
    return next((dict(row) for row in status.get("conditions", []) if row["type"] == kind), {})


def pause(api: Any, value: str | None = "true") -> None:
    api.patch(LLMENDPOINT, "assistant", {"metadata": {"annotations": {PAUSED_ANNOTATION: value}}})


def is_paused(api: Any, status: str) -> bool:
    found = row(api, "Reconciling")
    return (found.get("status"), found.get("reason")) == (status, "Paused")


def test_a_change_waits_until_the_annotation_is_removed(served: Any) -> None:
    pause(served)
    wait_until(lambda: is_paused(served, "False"))
    before = served.children()
    served.patch(LLMENDPOINT, "assistant", {"spec": {"replicas": 3, "service": {"port": 80}}})
    wait_until(lambda: is_paused(served, "True"))
    message = row(served, "Reconciling")["message"]
    assert "Not written: Service/assistant, StatefulSet/assistant." in message
    assert "Remove the annotation to resume" in message
    assert PAUSED_ANNOTATION in message
    status = served.get(LLMENDPOINT, "assistant")["status"]
    assert status["observedGeneration"] == 1
    assert row(served, "Ready")["status"] == "True"
    assert served.children() == before
    pause(served, None)
    wait_until(lambda: served.get("StatefulSet", "assistant")["spec"]["replicas"] == 3)
    wait_until(lambda: row(served, "Reconciling")["reason"] == "RollingOut")


def test_what_others_change_is_kept_while_paused_and_repaired_afterwards(served: Any) -> None:
    pause(served)
    wait_until(lambda: is_paused(served, "False"))
    served.patch("StatefulSet", "assistant", {"spec": {"replicas": 0}})
    wait_until(lambda: "Not written: StatefulSet/assistant." in row(served, "Reconciling")["message"])
    served.delete("Service", "assistant-pods")
    assert served.get("StatefulSet", "assistant")["spec"]["replicas"] == 0
    pause(served, None)
    wait_until(lambda: served.get("StatefulSet", "assistant")["spec"]["replicas"] == 1)
    wait_until(lambda: served.get("Service", "assistant-pods"))


def test_the_status_goes_on_to_tell_the_truth(served: Any) -> None:
    pause(served)
    wait_until(lambda: is_paused(served, "False"))
    count(served, ready=0)
    wait_until(lambda: row(served, "Ready")["status"] == "False")
    assert row(served, "Degraded")["reason"] == "ReplicasUnavailable"


def test_an_endpoint_that_is_created_paused_has_no_objects(api: Any, operator: Any) -> None:
    made = endpoint("assistant")
    api.apply({**made, "metadata": {**made["metadata"], "annotations": {PAUSED_ANNOTATION: "true"}}})
    wait_until(lambda: is_paused(api, "True"))
    assert api.children() == {}


def test_objects_that_lost_their_label_while_paused_still_count(served: Any) -> None:
    """The endpoint serves as before. Only the operator's watches do not show these objects any more."""
    before = row(served, "Ready")
    pause(served)
    wait_until(lambda: is_paused(served, "False"))
    for kind in ("StatefulSet", "Service"):
        served.patch(kind, "assistant", {"metadata": {"labels": {MANAGED_BY_LABEL: "somebody"}}})
    names = "Not written: Service/assistant, StatefulSet/assistant."
    wait_until(lambda: names in row(served, "Reconciling").get("message", ""))
    status = served.get(LLMENDPOINT, "assistant")["status"]
    assert (status["replicas"], status["readyReplicas"]) == (1, 1)
    assert status["url"]
    assert row(served, "Ready") == before
    pause(served, None)
    labels = ("StatefulSet", "Service")
    wait_until(lambda: all(label(served, kind) == MANAGED_BY for kind in labels))
    assert row(served, "Ready")["lastTransitionTime"] == before["lastTransitionTime"]


def label(api: Any, kind: str) -> str:
    return str(api.get(kind, "assistant")["metadata"]["labels"][MANAGED_BY_LABEL])


def test_a_service_that_is_missing_while_paused_is_not_promised(served: Any) -> None:
    pause(served)
    wait_until(lambda: is_paused(served, "False"))
    served.delete("Service", "assistant")
    wait_until(lambda: row(served, "Ready")["status"] == "False")
    found = row(served, "Ready")
    assert found["reason"] == "Paused"
    assert found["message"] == (
        "The Service for clients does not exist. The operator does not write Service/assistant, because the annotation "
        f"{PAUSED_ANNOTATION} of this endpoint is true. Remove the annotation to resume."
    )


@pytest.mark.parametrize("value", ["false", "True", ""])
def test_only_the_value_true_pauses(served: Any, value: str) -> None:
    pause(served, value)
    served.patch(LLMENDPOINT, "assistant", {"spec": {"replicas": 2}})
    wait_until(lambda: served.get("StatefulSet", "assistant")["spec"]["replicas"] == 2)


def test_claims_do_not_grow_while_paused(api: Any, operator: Any) -> None:
    api.client.apply(storage_class("expandable", expandable=True))
    api.apply(endpoint("assistant", storage={"storageClassName": "expandable"}))
    wait_until(lambda: api.get("StatefulSet", "assistant"))
    api.apply(claim("models-assistant-0", "expandable"))
    api.apply_status(bound("models-assistant-0", "50Gi"))
    pause(api)
    wait_until(lambda: row(api, "Reconciling").get("reason") != "Pending")
    api.patch(LLMENDPOINT, "assistant", {"spec": {"storage": {"size": "80Gi"}}})
    names = "StatefulSet/assistant, PersistentVolumeClaim/models-assistant-0"
    wait_until(lambda: names in row(api, "Reconciling")["message"])
    requests = api.get("PersistentVolumeClaim", "models-assistant-0")["spec"]["resources"]["requests"]
    assert requests == {"storage": "50Gi"}


def test_an_operator_that_starts_writes_nothing_of_a_paused_endpoint(
    served: Any, start_operator: Callable[..., Any], control_plane: Any
) -> None:
    """So an upgrade of the operator does not replace its pods."""
    pause(served)
    wait_until(lambda: is_paused(served, "False"))
    before = served.children()
    flags = (f"--namespace={served.namespace}", "--sidecar-image=registry.example/sidecar:2")
    process = start_operator(*flags)
    wait_until(lambda: "StatefulSet/assistant" in row(served, "Reconciling")["message"], 60)
    process.terminate()
    assert process.wait(20) == 0
    assert served.children() == before
