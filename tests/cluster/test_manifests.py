"""Installation without Helm: `kubectl apply -k manifests/`, and the sample for a cluster without GPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.cluster import NAMESPACE, ROOT, Namespace, Parameters, kubectl, new_namespace, sample_endpoint

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def manifests() -> Iterator[None]:
    """The operator, installed from the plain manifests. It is removed before another test installs the chart."""
    if kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name").strip():
        pytest.fail(f"namespace {NAMESPACE} exists: helm uninstall it (or kubectl delete -k manifests/) first")
    kubectl("apply", "-k", str(ROOT / "manifests"))
    yield
    kubectl("delete", "-k", str(ROOT / "manifests"), "--timeout=120s")


def test_the_plain_install_makes_the_cpu_sample_ready(manifests: None, parameters: Parameters) -> None:
    kubectl("--namespace", NAMESPACE, "rollout", "status", "deployment/llmendpoint", "--timeout=180s")
    namespace: Namespace = new_namespace("plain")
    sample = sample_endpoint("cpu", parameters)
    assert sample["spec"]["gpu"] == {"count": 0}
    namespace.apply(sample)
    namespace.run("wait", "--for=condition=Ready", "--timeout=10m", "llmendpoint/assistant")
    pod = namespace.get("pod", "assistant-0")
    containers = pod["spec"]["initContainers"] + pod["spec"]["containers"]
    assert not [item for item in containers if "nvidia.com/gpu" in item["resources"].get("limits", {})]
    # The endpoint is deleted while the operator runs, and its pods later: neither waits for the other.
    namespace.run("delete", "llmendpoint/assistant", "--timeout=60s")
    kubectl("delete", "namespace", namespace.name, "--wait=false")
