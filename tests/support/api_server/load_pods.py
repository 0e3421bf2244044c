"""The parts of the Job controller and of kubelet in tests on an API server alone: load pods, their status and Events."""

from __future__ import annotations

import json
import uuid
from typing import Any

import msgspec

from llmendpoint_common.contracts.loadrun import MetricName, Objective, RunDocument, RunLoad, RunTarget
from llmendpoint_loadjob.result.timings import Sample
from support.load.outcomes import Outcome, summarize

RUNNING: dict[str, Any] = {
    "phase": "Running",
    "containerStatuses": [{"name": "load", "ready": True, "restartCount": 0, "image": "i", "imageID": "i",
                           "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}}}],
}  # fmt: skip
UNSCHEDULABLE: dict[str, Any] = {
    "phase": "Pending",
    "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available."}
    ],
}


def make_pod(api: Any, run: str, status: dict[str, Any]) -> dict[str, Any]:
    """Make the pod of a run's Job, or change its status, and return it."""
    job = api.get("Job", run)
    controller = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": run,
        "uid": job["metadata"]["uid"],
        "controller": True,
    }
    metadata = {"name": f"{run}-pod", "ownerReferences": [controller],
                "labels": job["spec"]["template"]["metadata"]["labels"]}  # fmt: skip
    # With a node, the API server waits for a kubelet before it removes a deleted pod.
    spec = {"nodeName": "none", "containers": [{"name": "load", "image": "none"}]}
    identity = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{run}-pod"}}
    if api.get("Pod", f"{run}-pod") is None:
        api.apply({**identity, "metadata": metadata, "spec": spec})
    api.apply_status({**identity, "status": status})
    return dict(api.get("Pod", f"{run}-pod"))


def end_pod(api: Any, run: str) -> None:
    """Remove a deleted pod at once, as kubelet does when its containers have ended."""
    path = f"/api/v1/namespaces/{api.namespace}/pods/{run}-pod"
    api.client.request("DELETE", path, body={"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})


def warn(api: Any, about: dict[str, Any], reason: str, message: str) -> None:
    """Write a Warning Event about an object."""
    metadata = about["metadata"]
    reference = {"kind": about["kind"], "name": metadata["name"], "namespace": api.namespace, "uid": metadata["uid"]}
    api.apply({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:8]}"},
        "involvedObject": reference, "type": "Warning", "reason": reason, "message": message, "count": 1,
        "lastTimestamp": "2026-01-02T03:04:05Z", "source": {"component": "test"},
    })  # fmt: skip


def summary(*, partial: bool = False) -> str:
    """Return the result of a run with 20 requests in 20 s, which meets its objective."""
    sample = Sample("id", "q", "Math", 0.0, 0.0, 0.1, 0.2, 0.2, 200, output_tokens=2)
    outcome = Outcome([sample] * 20, duration=20.0, offered=20, sent=20, interrupted=partial)
    objective = Objective(MetricName.ERROR_RATE, 0.5)
    document = RunDocument(RunTarget("http://x"), "tiny:latest", RunLoad(concurrency=1), objectives=(objective,))
    return msgspec.json.encode(summarize(outcome, document)).decode()


def publish(api: Any, run: str, text: str) -> None:
    """Write a result, as the load generator does."""
    api.patch("ConfigMap", f"{run}-result-0", {"data": {"summary.json": text}})


def words(api: Any, run: str) -> str:
    """Return the status of a run as text."""
    return json.dumps((api.get("LoadTest", run) or {}).get("status") or {})
