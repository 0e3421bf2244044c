"""An operator with a policy, against a real API server."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT, LOADTEST
from support.api_server.manifests import endpoint, loadtest
from support.waiting import wait_until

POLICY = """
imagePrefixes: [ghcr.io/llmendpoint]
serviceTypes: []
targetHosts: ["*.svc"]
secretNames: ["llm-*"]
serviceAccountNames: ["llm-*"]
claimNames: ["models-*"]
volumeTypes: [persistentVolumeClaim]
podTemplateFields: ["dns*", containers]
podAnnotations: ["team.example/*"]
serviceAnnotations: ["cloud.example/internal"]
ingressAnnotations: ["cert-manager.io/*"]
"""


@pytest.fixture
def start_strict(
    api: Any, operator: Any, start_operator: Callable[..., Any], tmp_path: Path
) -> Iterator[Callable[[], None]]:
    """Start an operator with a policy in the namespace of the test, instead of the one without."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    started: list[Any] = []

    def start() -> None:
        operator.send_signal(signal.SIGSTOP)
        started.append(start_operator(f"--policy={tmp_path}/policy.yaml", f"--namespace={api.namespace}"))

    yield start
    for process in started:
        process.terminate()
        assert process.wait(20) == 0
    # The operator without a policy would apply what the policy forbids.
    for kind in (LLMENDPOINT, LOADTEST):
        for body in api.client.items(kind, api.namespace):
            api.delete(kind, body["metadata"]["name"])
    operator.send_signal(signal.SIGCONT)


def stalled(api: Any, kind: str, name: str) -> str:
    """Return the message of the condition Stalled if it is True with the reason PolicyViolation."""
    rows = ((api.get(kind, name) or {}).get("status") or {}).get("conditions") or []
    return next((row["message"] for row in rows if (row["type"], row["status"], row["reason"]) ==
                 ("Stalled", "True", "PolicyViolation")), "")  # fmt: skip


def test_a_forbidden_endpoint_gets_no_children_until_it_is_changed(api: Any, start_strict: Callable[[], None]) -> None:
    start_strict()
    api.apply(
        endpoint("assistant", metering={"image": "ghcr.io/llmendpoint.evil/sidecar"}, service={"type": "NodePort"})
    )
    message = wait_until(lambda: stalled(api, LLMENDPOINT, "assistant"))
    assert "spec.metering.image: the operator's policy does not allow 'ghcr.io/llmendpoint.evil/sidecar'" in message
    assert "(rule imagePrefixes: ghcr.io/llmendpoint)" in message
    assert "spec.service.type" in message
    assert api.children() == {}
    assert "PolicyViolation" in [event["reason"] for event in api.events("assistant")]
    api.apply(endpoint("assistant", metering={"image": "ghcr.io/llmendpoint/sidecar:1"}))
    wait_until(lambda: "StatefulSet/assistant" in api.children())
    wait_until(lambda: api.conditions(LLMENDPOINT, "assistant")["Stalled"] == ("False", "NotStalled"))


def test_pods_have_only_what_the_policy_allows(api: Any, start_strict: Callable[[], None]) -> None:
    start_strict()
    volumes = [
        {"name": "a", "configMap": {"name": "b"}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "payments"}},
    ]
    template = {
        "dnsConfig": {"nameservers": ["192.0.2.1"]},
        "hostUsers": False,
        "containers": [{"name": "agent", "image": "evil/agent"}],
    }
    pod = {"serviceAccountName": "admin", "volumes": volumes}
    api.apply(endpoint("assistant", pod=pod, podTemplate={"spec": template}))
    message = wait_until(lambda: stalled(api, LLMENDPOINT, "assistant"))
    for words in (
        "spec.podTemplate.spec.containers[0].image: the operator's policy does not allow 'evil/agent'",
        "spec.pod.serviceAccountName: the operator's policy does not allow 'admin'",
        "spec.pod.volumes[1].persistentVolumeClaim.claimName: the operator's policy does not allow 'payments'",
        "spec.pod.volumes[0]: the operator's policy does not allow 'configMap'",
        "spec.podTemplate.spec: the operator's policy does not allow 'hostUsers'",
    ):
        assert words in message
    assert api.children() == {}
    pod = {
        "serviceAccountName": "llm-a",
        "volumes": [{"name": "c", "persistentVolumeClaim": {"claimName": "models-a"}}],
    }
    api.apply(endpoint("assistant", pod=pod, podTemplate={"spec": {"dnsConfig": template["dnsConfig"]}}))
    wait_until(lambda: "StatefulSet/assistant" in api.children())


def test_annotations_and_volumes_of_new_claims_need_the_policy(api: Any, start_strict: Callable[[], None]) -> None:
    start_strict()
    claim = {"volumeName": "victim", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    volume = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}}
    api.apply(
        endpoint(
            "assistant",
            pod={"annotations": {"iam.amazonaws.com/role": "admin"}},
            podTemplate={"spec": {"volumes": [volume]}},
            service={"annotations": {"cloud.example/scheme": "internet-facing"}},
            ingress={"host": "llm.example", "annotations": {"nginx.ingress.kubernetes.io/server-snippet": "x"}},
        )
    )
    message = wait_until(lambda: stalled(api, LLMENDPOINT, "assistant"))
    for words in (
        "spec.pod.annotations: the operator's policy does not allow 'iam.amazonaws.com/role' (rule podAnnotations:",
        "spec.service.annotations: the operator's policy does not allow 'cloud.example/scheme'",
        "spec.ingress.annotations: the operator's policy does not allow 'nginx.ingress.kubernetes.io/server-snippet'",
        "volumeClaimTemplate.spec.volumeName: the operator's policy does not allow 'victim' (rule claimNames:",
    ):
        assert words in message
    assert api.children() == {}
    api.apply(
        endpoint(
            "assistant",
            pod={"annotations": {"team.example/owner": "a"}},
            service={"annotations": {"cloud.example/internal": "true"}},
        )
    )
    wait_until(lambda: "StatefulSet/assistant" in api.children())


def judged(api: Any) -> int:
    """Return the generation that the condition Degraded of the endpoint is about."""
    rows = api.get(LLMENDPOINT, "assistant")["status"]["conditions"]
    return next(int(row["observedGeneration"]) for row in rows if row["type"] == "Degraded")


def test_an_endpoint_that_runs_is_left_as_it_is(api: Any, start_strict: Callable[[], None]) -> None:
    api.apply(endpoint("assistant", service={"type": "NodePort"}))
    wait_until(lambda: "StatefulSet/assistant" in api.children())
    wait_until(lambda: api.conditions(LLMENDPOINT, "assistant"))
    before = api.children()
    start_strict()
    api.apply(endpoint("assistant", service={"type": "NodePort"}, replicas=4))
    wait_until(lambda: stalled(api, LLMENDPOINT, "assistant"))
    wait_until(lambda: judged(api) == 2)
    assert api.children() == before


def test_a_forbidden_load_test_does_not_start(api: Any, start_strict: Callable[[], None]) -> None:
    start_strict()
    request = {"apiKeySecretRef": {"name": "payments", "key": "token"}}
    target = {"url": "http://evil.example/allowed.svc"}
    api.apply(loadtest("smoke", endpointRef=None, target=target, model="m:1", request=request))
    message = wait_until(lambda: stalled(api, LOADTEST, "smoke"))
    assert "spec.request.apiKeySecretRef.name: the operator's policy does not allow 'payments'" in message
    assert "spec.target.url: the operator's policy does not allow 'evil.example'" in message
    assert api.children() == {}
    assert api.conditions(LOADTEST, "smoke")["Passed"] == ("Unknown", "PolicyViolation")
    api.apply(loadtest("smoke", endpointRef=None, target={"url": "http://allowed.svc"}, model="m:1"))
    wait_until(lambda: api.get("Job", "smoke"))
    assert "evil" not in json.dumps(api.get("ConfigMap", "smoke-run"))
