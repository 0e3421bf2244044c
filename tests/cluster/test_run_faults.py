"""Load tests that cannot start, or that lose their pod, with the real Job controller and kubelet."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from support.on_cluster.cluster import Namespace, kubectl, new_namespace
from support.on_cluster.refused_pods import quota
from support.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

#: What keeps a run from starting is told within this time. Kubelet reports a missing Secret within a second or two.
TOLD_WITHIN = 20
LONG: dict[str, Any] = {"rate": "4", "duration": "5m"}


def run(name: str, **spec: Any) -> dict[str, Any]:
    """Return a LoadTest of the sample endpoint, with an objective."""
    body = {
        "endpointRef": {"name": "assistant"},
        "load": LONG,
        "request": {"maxTokens": 4},
        "slo": [{"metric": "ErrorRate", "threshold": "50%"}],
    }
    return {
        "apiVersion": "llmendpoint.dev/v1alpha1",
        "kind": "LoadTest",
        "metadata": {"name": name},
        "spec": {key: value for key, value in (body | spec).items() if value is not None},
    }


def told(namespace: Namespace, name: str, reason: str) -> str:
    """Return the message of the condition Complete when it has a reason."""

    def message() -> str:
        row = namespace.condition("loadtest", name, "Complete")
        return row["message"] if row["reason"] == reason else ""

    return str(wait_until(message, TOLD_WITHIN, every=0.2))


def pods(namespace: Namespace, name: str) -> list[str]:
    """Return the names of the pods of a run."""
    return namespace.run("get", "pods", "-l", f"llmendpoint.dev/loadtest={name}", "-o", "name").split()


def wait_for_requests(namespace: Namespace, name: str) -> str:
    """Wait until a run has sent requests, and return its pod."""
    wait_until(lambda: (namespace.get("loadtest", name).get("status") or {}).get("progressPercent"), 90, every=0.2)
    (pod,) = pods(namespace, name)
    return pod


def test_a_missing_secret_is_told_and_the_run_starts_when_it_exists(assistant: Namespace) -> None:
    request = {"maxTokens": 4, "apiKeySecretRef": {"name": "later", "key": "team"}}
    load = {"concurrency": 1, "maxRequests": 3, "duration": "30s"}
    assistant.apply(run("keyless", request=request, load=load))
    message = told(assistant, "keyless", "VolumeNotReady")
    assert 'secret "later" not found' in message
    status = assistant.get("loadtest", "keyless")["status"]
    assert status["startDeadline"]
    events = assistant.run("get", "events", "--field-selector", "involvedObject.kind=LoadTest,reason=VolumeNotReady")
    assert "later" in events
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "later"}, "stringData": {"team": "sk-1"}}
    assistant.apply(secret)
    # Kubelet tries to mount again after up to two minutes.
    assistant.run("wait", "--for=condition=Complete", "--timeout=4m", "loadtest/keyless")
    assert assistant.get("loadtest", "keyless")["status"]["summary"]["errors"] == 0


@pytest.mark.parametrize(
    ("resource", "words"),
    [("pods", "exceeded quota: quota, requested: pods=1"), ("count/jobs.batch", "exceeded quota: quota")],
)
def test_a_quota_that_refuses_the_pod_or_the_job_is_quoted(assistant: Namespace, resource: str, words: str) -> None:
    namespace = new_namespace("no-load")
    namespace.apply(quota(resource, "0"))
    target = {"url": f"http://assistant.{assistant.name}.svc:11434"}
    namespace.apply(run("refused", endpointRef=None, target=target, model="any:1"))
    assert words in told(namespace, "refused", "QuotaExceeded")
    assert namespace.get("loadtest", "refused")["status"]["startDeadline"]
    kubectl("delete", "namespace", namespace.name, "--wait=false")


def test_a_run_whose_pod_is_deleted_is_canceled_with_a_partial_result(assistant: Namespace) -> None:
    assistant.apply(run("robbed"))
    assistant.run("delete", wait_for_requests(assistant, "robbed"), "--wait=false")
    assistant.run("wait", "--for=condition=Complete", "--timeout=60s", "loadtest/robbed")
    status = assistant.get("loadtest", "robbed")["status"]
    assert (status["verdict"], assistant.condition("loadtest", "robbed", "Passed")["reason"]) == ("None", "Canceled")
    assert status["summary"]["partial"] is True
    assert status["summary"]["requests"] > 0
    assert status["progressPercent"] < 100
    assert assistant.condition("loadtest", "robbed", "Stalled")["status"] == "True"
    # The Job does not replace the pod.
    assert not [pod for pod in pods(assistant, "robbed") if _is_active(assistant, pod)]


def _is_active(namespace: Namespace, pod: str) -> bool:
    found = namespace.run("get", pod, "--ignore-not-found", "-o", "json")
    return bool(found) and json.loads(found)["status"]["phase"] in ("Pending", "Running")


def test_the_pod_of_a_deleted_run_ends_within_seconds(assistant: Namespace) -> None:
    assistant.apply(run("dropped"))
    wait_for_requests(assistant, "dropped")
    began = time.monotonic()
    assistant.run("delete", "loadtest", "dropped", "--wait=false")
    wait_until(lambda: not pods(assistant, "dropped"), 15, every=0.2)
    print(f"the pod was gone after {time.monotonic() - began:.1f} s")
