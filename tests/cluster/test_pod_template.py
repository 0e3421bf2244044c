"""An endpoint whose pod has additional volumes and containers runs on a real cluster, and the meter stays in its path."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from support.on_cluster.cluster import Namespace, Parameters, fetch, kubectl, new_namespace

pytestmark = pytest.mark.cluster

#: Writes a file for Ollama before it starts. It fails if the pod has the token of a ServiceAccount.
PREPARE = "echo prepared > /out/note && test ! -e /var/run/secrets/kubernetes.io"


@pytest.fixture
def namespace(chart: None) -> Iterator[Namespace]:
    namespace = new_namespace("pods")
    yield namespace
    kubectl("delete", "namespace", namespace.name, "--wait=false")


def test_additions_to_the_pod_take_effect_and_the_meter_stays_in_the_path(
    namespace: Namespace, parameters: Parameters
) -> None:
    name = "tiny:latest" if parameters.registry else parameters.model
    namespace.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "models-reader"}})
    namespace.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "notes"}, "data": {"note": "given"}})
    spec = {
        "models": [{"name": name, **parameters.source()}],
        "gpu": {"count": 0},
        "monitoring": {"mode": "None"},
        "storage": {"type": "Ephemeral"},
        "pod": {
            # The additional container ignores SIGTERM.
            "terminationGracePeriodSeconds": 10,
            "serviceAccountName": "models-reader",
            "securityContext": {"runAsUser": 1234, "fsGroup": 2345, "supplementalGroups": [3456]},
            "affinity": {
                "podAntiAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/hostname"}]
                }
            },
            "topologySpreadConstraints": [
                {"topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
            ],
            "volumes": [{"name": "notes", "configMap": {"name": "notes"}}, {"name": "prepared", "emptyDir": {}}],
            "ollamaVolumeMounts": [
                {"name": "notes", "mountPath": "/notes", "readOnly": True},
                {"name": "prepared", "mountPath": "/prepared", "readOnly": True},
            ],
        },
        "podTemplate": {"spec": pod_template()},
    }
    namespace.apply(
        {
            "apiVersion": "llmendpoint.dev/v1alpha1",
            "kind": "LLMEndpoint",
            "metadata": {"name": "assistant"},
            "spec": spec,
        }
    )
    namespace.run("wait", "--for=condition=Ready", "--timeout=5m", "llmendpoint/assistant")

    def in_ollama(*command: str) -> str:
        return namespace.run("exec", "assistant-0", "-c", "ollama", "--", *command)

    assert in_ollama("cat", "/prepared/note", "/notes/note").split() == ["prepared", "given"]
    status = in_ollama("cat", "/proc/self/status")
    assert "Uid:\t1234" in status
    assert {"2345", "3456"} < set(next(line for line in status.splitlines() if line.startswith("Groups")).split())
    assert "192.0.2.7" in in_ollama("cat", "/etc/hosts")
    assert in_ollama("printenv", "POD").strip() == "assistant-0"
    # Kubernetes replaces nothing.
    assert in_ollama("printenv", "LITERAL").strip() == "$(OLLAMA_HOST)"
    assert in_ollama("printenv", "OLLAMA_HOST").strip() == "127.0.0.1:11434"
    running = namespace.get("pod", "assistant-0")
    assert running["spec"]["serviceAccountName"] == "models-reader"
    assert all(one["ready"] for one in running["status"]["containerStatuses"])
    accounts = json.loads(namespace.run("get", "serviceaccounts", "-o", "json"))["items"]
    assert "assistant" not in [account["metadata"]["name"] for account in accounts]
    with namespace.forward("service/assistant", 11434) as url:
        fetch(f"{url}/api/generate", {"model": name, "prompt": "hi", "stream": False, "options": {"num_predict": 2}})
    with namespace.forward("pod/assistant-0", 8001) as url:
        metrics = fetch(f"{url}/metrics").decode()
    assert [line for line in metrics.splitlines() if "requests_total{" in line and not line.endswith(" 0.0")]


def pod_template() -> dict[str, object]:
    """Return additions that use images which the cluster has in any case: those of Ollama in the operator's settings."""
    found = kubectl("get", "deployments", "-A", "-l", "app.kubernetes.io/name=llmendpoint", "-o", "json")
    arguments = [
        argument
        for item in json.loads(found)["items"]
        for container in item["spec"]["template"]["spec"]["containers"]
        for argument in container.get("args", [])
    ]
    image = next(
        (one.partition("=")[2] for one in arguments if one.startswith("--ollama-image=")), "ollama/ollama:0.17.4"
    )
    resources = {"requests": {"cpu": "10m", "memory": "16Mi"}}
    return {
        "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["registry.example"]}],
        "initContainers": [
            {
                "name": "prepare",
                "image": image,
                "command": ["sh", "-c", PREPARE],
                "resources": resources,
                "volumeMounts": [{"name": "prepared", "mountPath": "/out"}],
            },
            {
                "name": "ollama",
                "env": [
                    {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "LITERAL", "value": "$(OLLAMA_HOST)"},
                ],
            },
        ],
        "containers": [{"name": "agent", "image": image, "command": ["sleep", "3600"], "resources": resources}],
    }
