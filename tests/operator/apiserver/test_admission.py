"""What admission refuses: children of the operator, and pods of the StatefulSet controller.

An API server alone has no StatefulSet controller. The test creates the pod of the template in its place, and reports the
answer of the API server as the controller would (`pkg/controller/statefulset/stateful_pod_control.go`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from support.api_server.manifests import endpoint
from support.api_server.webhooks import Webhook, registration, serve_webhook
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("operator")


def row(api: Any, kind: str) -> dict[str, Any]:
    rows = ((api.get(LLMENDPOINT, "assistant") or {}).get("status") or {}).get("conditions") or []
    return next((dict(each) for each in rows if each["type"] == kind), {})


def reason(api: Any, kind: str) -> str:
    return str(row(api, kind).get("reason", ""))


def quota(**hard: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "compute"}, "spec": {"hard": hard}}


def limit_range(**item: Any) -> dict[str, Any]:
    spec = {"limits": [{"type": "Container", **item}]}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "limits"}, "spec": spec}


def create_pod(api: Any) -> dict[str, Any] | None:
    """Create the pod of the endpoint's template. If the API server refuses it, return the Event of the controller."""
    made = wait_until(lambda: api.get("StatefulSet", "assistant"))
    template = made["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "assistant-0"},
        "spec": template["spec"],
    }
    controller = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": "assistant",
        "uid": made["metadata"]["uid"],
        "controller": True,
    }
    pod["metadata"]["ownerReferences"] = [controller]
    pod["spec"]["volumes"].append({"name": "models", "emptyDir": {}})
    try:
        api.apply(pod)
    except ApiException as error:
        text = json.loads(error.body)["message"]
        about = {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "name": "assistant",
            "namespace": api.namespace,
            "uid": controller["uid"],
        }
        return {
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "assistant.1"}, "involvedObject": about, "type": "Warning",
            "reason": "FailedCreate", "message": f"create Pod assistant-0 in StatefulSet assistant failed error: {text}",
            "source": {"component": "statefulset-controller"}, "count": 1,
            "firstTimestamp": "2026-01-02T03:04:05Z", "lastTimestamp": "2026-01-02T03:04:05Z",
        }  # fmt: skip
    return None


REFUSED: list[tuple[dict[str, Any] | None, dict[str, Any], str, str, str]] = [
    (quota(**{"limits.memory": "64Gi"}), {}, "QuotaExceeded", "must specify limits.memory for: ollama",
     "Set them in spec.ollama.resources"),
    (limit_range(default={"memory": "512Mi"}), {}, "Invalid", "must be less than or equal to memory limit of 512Mi",
     "a LimitRange of the namespace does"),
    (limit_range(max={"memory": "512Mi"}), {"ollama": {"resources": {"limits": {"memory": "1Gi"}}}}, "LimitRange",
     "maximum memory usage per Container is 512Mi, but limit is 1Gi", "or the LimitRange of the namespace"),
    (None, {"pod": {"priorityClassName": "very-high"}}, "ReferenceNotFound", "no PriorityClass with name very-high was found",
     "correct spec.pod.priorityClassName"),
    (None, {"gpu": {"runtimeClassName": "missing"}}, "ReferenceNotFound", 'RuntimeClass "missing" not found',
     "correct spec.gpu.runtimeClassName"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "spec", "expected", "words", "advice"), REFUSED, ids=[case[3][:24] for case in REFUSED]
)
def test_a_pod_that_admission_refuses(
    api: Any, rule: dict[str, Any] | None, spec: dict[str, Any], expected: str, words: str, advice: str
) -> None:
    if rule is not None:
        api.apply(rule)
        if rule["kind"] == "ResourceQuota":
            hard = rule["spec"]["hard"]
            api.apply_status({**rule, "status": {"hard": hard, "used": dict.fromkeys(hard, "0")}})
    api.apply(endpoint("assistant", **spec))
    # The API server learns of a new quota or LimitRange after a moment.
    event: dict[str, Any] | None = None

    def is_refused() -> bool:
        nonlocal event
        event = create_pod(api)
        if event is None:
            api.delete("Pod", "assistant-0")
        return event is not None and words in event["message"]

    wait_until(is_refused)
    assert event is not None
    api.apply(event)
    wait_until(lambda: reason(api, "Ready") == reason(api, "Degraded") == expected)
    message = row(api, "Ready")["message"]
    assert message.startswith("assistant-0 cannot be created: ")
    assert words in message
    assert advice in message
    assert row(api, "Stalled")["status"] == "False"
    told = [each for each in api.events("assistant") if each["involvedObject"]["kind"] == LLMENDPOINT]
    assert [each["type"] for each in told if each["reason"] == expected] == ["Warning"]


@pytest.fixture
def webhook(api: Any, tmp_path: Path) -> Iterator[Webhook]:
    """An admission webhook for the StatefulSets of the namespace, with a timeout of four seconds."""
    with serve_webhook(tmp_path) as (webhook, client):
        webhook.sentence = "not yet"
        api.client.apply(registration(api.namespace, api.namespace, client, timeout=4))
        probe = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "probe"}, "spec": {
            "serviceName": "probe", "replicas": 0, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}}}  # fmt: skip

        def is_called() -> bool:
            api.delete_if_there("StatefulSet", "probe")
            return bool(api.is_refused(probe))

        wait_until(is_called)
        webhook.calls = 0
        yield webhook
        api.client.delete("ValidatingWebhookConfiguration", "", api.namespace)


def test_a_webhook_that_denies(api: Any, webhook: Webhook) -> None:
    webhook.sentence = "no GPUs on Fridays"
    api.apply(endpoint("assistant"))
    wait_until(lambda: reason(api, "Degraded") == "AdmissionDenied")
    words = 'admission webhook "gate.example.com" denied the request: no GPUs on Fridays'
    assert words in row(api, "Degraded")["message"]
    assert "ask the owner of the webhook" in row(api, "Degraded")["message"]
    assert row(api, "Stalled")["status"] == "False"
    assert reason(api, "Reconciling") == "NotApplied"
    # It is refused again with the same words, and not told again.
    wait_until(lambda: webhook.calls >= 2)
    told = [event for event in api.events("assistant") if event["reason"] == "AdmissionDenied"]
    assert len(told) == 1
    webhook.sentence = ""
    wait_until(lambda: api.get("StatefulSet", "assistant"))
    wait_until(lambda: api.get(LLMENDPOINT, "assistant")["status"].get("observedGeneration") == 1)


def test_a_webhook_that_hangs_is_not_the_fault_of_the_spec_and_delays_no_other_endpoint(
    api: Any, webhook: Webhook
) -> None:
    webhook.hangs = True
    api.apply(endpoint("assistant"))
    wait_until(lambda: webhook.calls)
    wait_until(lambda: "has not answered" in row(api, "Reconciling")["message"], 10)
    elsewhere = type(api)(api.client, "default")
    elsewhere.apply(endpoint(api.namespace))
    wait_until(lambda: elsewhere.get("StatefulSet", api.namespace), 2)
    elsewhere.delete(LLMENDPOINT, api.namespace)
    wait_until(lambda: reason(api, "Degraded") == "WebhookFailed")
    assert 'failed calling webhook "gate.example.com"' in row(api, "Degraded")["message"]
    assert "The spec is not the cause" in row(api, "Degraded")["message"]
    webhook.sentence, webhook.hangs = "", False
    webhook.released.set()
    wait_until(lambda: api.get("StatefulSet", "assistant"))
