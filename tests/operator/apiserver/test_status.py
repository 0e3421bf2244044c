"""The status tells the truth about the last thing that happened, on a real API server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from support.api_server.manifests import endpoint, loadtest, pod
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("operator")

#: Accepted by the schema of an LLMEndpoint, and refused on a StatefulSet.
BAD_RESOURCE = {"resources": {"limits": {"a.example/b/c": 1}}}
STATEFULSET = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "assistant"}}


def status(api: Any) -> dict[str, Any]:
    return dict((api.get(LLMENDPOINT, "assistant") or {}).get("status") or {})


def row(api: Any, kind: str) -> dict[str, Any]:
    return next((dict(row) for row in status(api).get("conditions", []) if row["type"] == kind), {})


def reason(api: Any, kind: str) -> str:
    return str(row(api, kind).get("reason", ""))


def make_ready(api: Any, **spec: Any) -> None:
    """Apply an endpoint and play the StatefulSet controller until it is Ready and settled."""
    api.apply(endpoint("assistant", **spec))
    made = wait_until(lambda: api.get("StatefulSet", "assistant"))
    settle(api, made["metadata"]["generation"])
    wait_until(lambda: (reason(api, "Ready"), reason(api, "Reconciling")) == ("ModelsAnswer", "Settled"))


def settle(api: Any, generation: int) -> None:
    replicas = api.get("StatefulSet", "assistant")["spec"]["replicas"]
    counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas"), replicas)
    api.apply_status({**STATEFULSET, "status": {**counts, "observedGeneration": generation}})


def warnings(api: Any, reason: str) -> list[str]:
    found = [event for event in api.events("assistant") if event["involvedObject"]["kind"] == LLMENDPOINT]
    return [event["message"] for event in found if (event["type"], event["reason"]) == ("Warning", reason)]


def test_a_refused_change_of_an_endpoint_that_runs(api: Any) -> None:
    make_ready(api)
    assert status(api)["observedGeneration"] == 1
    api.apply(endpoint("assistant", ollama=BAD_RESOURCE))
    wait_until(lambda: reason(api, "Stalled") == "Invalid")
    assert row(api, "Stalled")["status"] == row(api, "Degraded")["status"] == "True"
    # The sentence of the API server, which names the field of the StatefulSet.
    assert (
        'StatefulSet.apps "assistant" is invalid: [spec.template.spec.initContainers[0]'
        in row(api, "Degraded")["message"]
    )
    assert (row(api, "Reconciling")["status"], reason(api, "Reconciling")) == ("False", "Stalled")
    # The pods of generation 1 still serve.
    assert row(api, "Ready")["status"] == "True"
    assert status(api)["observedGeneration"] == 1
    assert row(api, "Ready")["observedGeneration"] == 1
    assert {each["observedGeneration"] for each in status(api)["conditions"] if each["type"] != "Ready"} == {2}
    # `kubectl scale` is not lost: it is applied with the corrected spec.
    api.patch(LLMENDPOINT, "assistant", {"spec": {"replicas": 2}})
    wait_until(lambda: row(api, "Stalled")["observedGeneration"] == 3)
    assert status(api)["observedGeneration"] == 1
    wait_until(lambda: len(warnings(api, "Invalid")) == 1)
    api.patch(LLMENDPOINT, "assistant", {"spec": {"ollama": None}})
    wait_until(lambda: status(api)["observedGeneration"] == 4)
    assert api.get("StatefulSet", "assistant")["spec"]["replicas"] == 2
    assert reason(api, "Stalled") == "NotStalled"
    assert reason(api, "Reconciling") == "RollingOut"


def test_an_endpoint_that_was_never_applied_has_no_observed_generation(api: Any) -> None:
    api.apply(endpoint("assistant", ollama=BAD_RESOURCE))
    wait_until(lambda: reason(api, "Ready") == "Invalid")
    assert status(api).get("observedGeneration", -1) == -1
    assert reason(api, "Stalled") == "Invalid"


def test_a_limit_below_the_default_request_is_applied(api: Any) -> None:
    api.apply(endpoint("assistant", ollama={"resources": {"limits": {"memory": "512Mi"}}}))
    made = wait_until(lambda: api.get("StatefulSet", "assistant"))
    (ollama,) = made["spec"]["template"]["spec"]["initContainers"]
    assert ollama["resources"]["requests"]["memory"] == ollama["resources"]["limits"]["memory"] == "512Mi"


def test_another_service_of_the_same_name_is_not_the_url_of_the_endpoint(api: Any) -> None:
    theirs = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "assistant"},
              "spec": {"ports": [{"port": 80, "protocol": "TCP"}]}}  # fmt: skip
    api.apply(theirs)
    api.apply(endpoint("assistant"))
    made = wait_until(lambda: api.get("StatefulSet", "assistant"))
    settle(api, made["metadata"]["generation"])
    wait_until(lambda: status(api).get("readyReplicas") == 1)
    assert (row(api, "Ready")["status"], reason(api, "Ready")) == ("False", "NameConflict")
    assert reason(api, "Stalled") == reason(api, "Degraded") == "NameConflict"
    assert "url" not in status(api)
    assert status(api).get("observedGeneration", -1) == -1
    wait_until(lambda: len(warnings(api, "NameConflict")) == 1)
    api.apply(loadtest("smoke"))
    wait_until(lambda: api.conditions("LoadTest", "smoke").get("Passed") == ("Unknown", "Pending"))
    assert api.get("Job", "smoke") is None
    api.delete("Service", "assistant")
    wait_until(lambda: status(api).get("url") == f"http://assistant.{api.namespace}.svc:11434")
    assert row(api, "Ready")["status"] == "True"
    assert status(api)["observedGeneration"] == 1


def test_a_service_that_is_taken_over_is_no_longer_the_url(api: Any) -> None:
    make_ready(api)
    assert "url" in status(api)
    api.patch("Service", "assistant", {"metadata": {"ownerReferences": None}})
    wait_until(lambda: "url" not in status(api))
    assert reason(api, "Ready") == "NameConflict"


def test_replicas_that_cannot_share_their_claim(api: Any) -> None:
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"},
             "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}  # fmt: skip
    api.apply(claim)
    make_ready(api, storage={"type": "ExistingClaim", "claimName": "models"})
    api.patch(LLMENDPOINT, "assistant", {"spec": {"replicas": 2}})
    wait_until(lambda: reason(api, "Stalled") == "InvalidSpec")
    assert row(api, "Stalled")["message"].startswith(
        "spec.replicas: 2 replicas cannot share PersistentVolumeClaim models"
    )
    assert api.get("StatefulSet", "assistant")["spec"]["replicas"] == 1
    assert row(api, "Ready")["status"] == "True"
    assert status(api)["observedGeneration"] == 1
    assert len(wait_until(lambda: warnings(api, "InvalidSpec"))) == 1


def test_a_child_that_is_being_deleted_is_not_applied_yet(api: Any) -> None:
    make_ready(api)
    api.patch("ConfigMap", "assistant", {"metadata": {"finalizers": ["example.com/wait"]}})
    api.delete("ConfigMap", "assistant")
    api.apply(endpoint("assistant", models=[{"name": "other:1b"}]))
    wait_until(lambda: reason(api, "Reconciling") == "NotApplied")
    assert "ConfigMap/assistant is being deleted" in row(api, "Reconciling")["message"]
    assert status(api)["observedGeneration"] == 1
    api.patch("ConfigMap", "assistant", {"metadata": {"finalizers": None}})
    wait_until(lambda: status(api)["observedGeneration"] == 2)
    assert "other:1b" in api.get("ConfigMap", "assistant")["data"]["models.json"]


def tell_mount(api: Any, first: str) -> None:
    """Write the Event of a mount that kubelet repeats, whose first attempt failed at a time."""
    about = {"kind": "Pod", "name": "assistant-0", "namespace": api.namespace,
             "uid": api.get("Pod", "assistant-0")["metadata"]["uid"]}  # fmt: skip
    api.apply({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": f"assistant-0.{first[:4]}"}, "involvedObject": about,
        "type": "Warning", "reason": "FailedMount", "count": 1, "firstTimestamp": first, "lastTimestamp": now(),
        "message": "failed to sync configmap cache: timed out waiting for the condition",
    })  # fmt: skip


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_an_obstacle_of_a_normal_start_is_no_warning_until_it_lasts(api: Any) -> None:
    api.apply(endpoint("assistant"))
    made = wait_until(lambda: api.get("StatefulSet", "assistant"))
    api.apply(pod("assistant-0", "assistant", made["metadata"]["uid"]))
    starting = {"name": "ollama", "image": "i", "imageID": "", "ready": False, "restartCount": 0,
                "state": {"waiting": {"reason": "PodInitializing"}}}  # fmt: skip
    body = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}],
            "initContainerStatuses": [starting]}  # fmt: skip
    api.apply_status({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "assistant-0"}, "status": body})
    wait_until(lambda: reason(api, "Ready") == "Starting")
    tell_mount(api, now())
    api.patch(LLMENDPOINT, "assistant", {"spec": {"metering": {"maxWaiting": 9}}})
    wait_until(lambda: status(api)["observedGeneration"] == 2)
    assert reason(api, "Ready") == "Starting"
    assert api.events("assistant") == []
    tell_mount(api, "2026-01-02T03:04:05Z")
    wait_until(lambda: reason(api, "Ready") == "VolumeNotReady")
    wait_until(lambda: len(warnings(api, "VolumeNotReady")) == 1)
