"""The NetworkPolicy of an endpoint on a cluster that enforces it: who reaches which port, and who does not.

A cluster whose network plugin enforces no NetworkPolicy skips these tests; E2E_NETWORK_POLICY=1 lets them fail instead.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from support.on_cluster.cluster import NAMESPACE, Namespace, Parameters, apply_namespace, kubectl, new_namespace

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CLIENTS, METRICS, OLLAMA = 11435, 8001, 11434
#: Tries to connect until each port is open or closed as expected, because a network plugin needs a moment for new pods.
PROBE = """
import json, socket, sys, time
host, wanted = sys.argv[1], json.loads(sys.argv[2])
def is_open(port):
    try:
        socket.create_connection((host, int(port)), 2).close()
    except OSError:
        return False
    return True
deadline = time.monotonic() + 40
while True:
    found = {port: is_open(port) for port in wanted}
    if found == wanted or time.monotonic() > deadline:
        break
    time.sleep(0.5)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def guarded(chart: None, parameters: Parameters) -> Iterator[Namespace]:
    """A namespace with an endpoint that has the default policy. The operator reports it as Ready through port 8001."""
    namespace = new_namespace("guarded")
    apply(namespace, parameters)
    namespace.run("wait", "--for=condition=Ready", "--timeout=10m", "llmendpoint/assistant")
    require_enforcement(namespace)
    yield namespace
    kubectl("delete", "namespace", namespace.name, "--wait=false")


@pytest.fixture(scope="module")
def monitoring(guarded: Namespace) -> Namespace:
    """The namespace that the chart allows to read metrics by default."""
    if "NotFound" in kubectl("get", "namespace", "monitoring", check=False):
        apply_namespace("monitoring")
    return Namespace("monitoring")


def apply(namespace: Namespace, parameters: Parameters, **spec: Any) -> None:
    """Apply the endpoint with these fields."""
    small = {
        "models": [{"name": parameters.model, **parameters.source()}],
        "gpu": {"count": 0},
        "storage": {"type": "Ephemeral"},
        "pod": {"terminationGracePeriodSeconds": 10},
    }
    namespace.apply(
        {
            "apiVersion": "llmendpoint.dev/v1alpha1",
            "kind": "LLMEndpoint",
            "metadata": {"name": "assistant"},
            "spec": small | spec,
        }
    )


def require_enforcement(guarded: Namespace) -> None:
    if probe(guarded, guarded, "stranger", {METRICS: False})[str(METRICS)]:
        message = "NETWORK POLICIES WERE NOT TESTED: the network plugin of this cluster does not enforce them"
        pytest.fail(message) if os.environ.get("E2E_NETWORK_POLICY") == "1" else pytest.skip(message)


def probe(endpoint: Namespace, source: Namespace, name: str, wanted: dict[int, bool], **labels: str) -> dict[str, bool]:
    """Return which ports of the endpoint's pod are open for a new pod with these labels."""
    address = endpoint.get("pod", "assistant-0")["status"]["podIP"]
    image = endpoint.get("pod", "assistant-0")["spec"]["containers"][0]["image"]
    container = {
        "name": "probe",
        "image": image,
        "command": ["python3", "-c", PROBE, address, json.dumps(wanted)],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    secure = {"runAsNonRoot": True, "runAsUser": 64000, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"restartPolicy": "Never", "securityContext": secure, "containers": [container],
            "automountServiceAccountToken": False}  # fmt: skip
    pod = f"probe-{name}"
    source.run("delete", "pod", pod, "--ignore-not-found", "--now")
    source.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "labels": labels}, "spec": spec})
    source.run("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{pod}", "--timeout=120s")
    found = dict(json.loads(source.run("logs", pod)))
    source.run("delete", "pod", pod, "--now")
    return found


def check(endpoint: Namespace, source: Namespace, name: str, wanted: dict[int, bool], **labels: str) -> None:
    assert probe(endpoint, source, name, wanted, **labels) == {str(port): is_open for port, is_open in wanted.items()}


def test_every_pod_reaches_the_proxy_and_nothing_else(guarded: Namespace) -> None:
    # The labels of operator and dashboard have no effect in another namespace.
    operator = {"llmendpoint.dev/operator": "true", "llmendpoint.dev/dashboard": "true",
                "app.kubernetes.io/component": "operator"}  # fmt: skip
    check(guarded, guarded, "neighbor", {CLIENTS: True, METRICS: False, OLLAMA: False}, **operator)


def test_the_monitoring_reads_metrics(guarded: Namespace, monitoring: Namespace) -> None:
    check(guarded, monitoring, "prometheus", {CLIENTS: True, METRICS: True, OLLAMA: False})


def test_only_given_sources_and_load_tests_are_clients(
    guarded: Namespace, monitoring: Namespace, parameters: Parameters
) -> None:
    apply(guarded, parameters, networkPolicy={"from": [{"podSelector": {"matchLabels": {"role": "frontend"}}}]})
    check(guarded, guarded, "stranger", {CLIENTS: False, METRICS: False}, role="backend")
    check(guarded, guarded, "frontend", {CLIENTS: True, METRICS: False}, role="frontend")
    check(guarded, monitoring, "frontend", {CLIENTS: False, METRICS: True}, role="frontend")
    # The network plugin needs a moment for the load pod too, which does not wait for it.
    guarded.apply({
        "apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LoadTest", "metadata": {"name": "smoke"},
        "spec": {"endpointRef": {"name": "assistant"}, "load": {"concurrency": 1, "warmup": "8s", "duration": "3s"},
                 "request": {"maxTokens": 4}},
    })  # fmt: skip
    guarded.run("wait", "--for=condition=Complete", "--timeout=3m", "loadtest/smoke")
    summary = guarded.get("loadtest", "smoke")["status"]["summary"]
    assert summary["requests"] > 0
    assert summary["errors"] == 0, summary
    # The operator still polls the sidecar, and kubelet its probes.
    assert guarded.condition("llmendpoint", "assistant", "Ready")["status"] == "True"
    assert guarded.condition("llmendpoint", "assistant", "ModelsLoaded")["status"] == "True"


def test_without_a_policy_every_pod_reads_metrics(guarded: Namespace, parameters: Parameters) -> None:
    apply(guarded, parameters, networkPolicy={"enabled": False})
    check(guarded, guarded, "neighbor", {CLIENTS: True, METRICS: True})


def test_the_operator_has_the_label_that_policies_allow(chart: None) -> None:
    pods = kubectl("--namespace", NAMESPACE, "get", "pods", "-l", "llmendpoint.dev/operator=true", "-o", "name")
    assert "pod/llmendpoint" in pods
