"""Installation without Helm: `kubectl apply -k manifests/`, and the sample for a cluster without GPU."""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from support.on_cluster.cluster import NAMESPACE, ROOT, Namespace, Parameters, kubectl, new_namespace, sample_endpoint

DASHBOARD = "llmendpoint-dashboard"

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def manifests() -> Iterator[None]:
    """The operator, installed from the plain manifests. It is removed before another test installs the chart."""
    if kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name").strip():
        pytest.fail(f"namespace {NAMESPACE} exists: helm uninstall it (or kubectl delete -k manifests/) first")
    kubectl("apply", "-k", str(ROOT / "manifests"))
    yield
    kubectl("delete", "-k", str(ROOT / "manifests"), "--timeout=120s")


@pytest.fixture
def token(manifests: None) -> Iterator[str]:
    """The dashboard with this token, installed from the plain manifests."""
    found = secrets.token_hex(16)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": DASHBOARD}, "stringData": {"token": found}}
    Namespace(NAMESPACE).apply(secret)
    kubectl("apply", "-k", str(ROOT / "manifests/dashboard"))
    yield found
    kubectl("delete", "-k", str(ROOT / "manifests/dashboard"), "--timeout=60s")


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


def test_the_plain_dashboard_answers_with_its_token(token: str) -> None:
    kubectl("--namespace", NAMESPACE, "rollout", "status", f"deployment/{DASHBOARD}", "--timeout=180s")
    with Namespace(NAMESPACE).forward(f"service/{DASHBOARD}", 3001) as url:
        request = urllib.request.Request(f"{url}/api/v1/state", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=30) as response:
            assert json.loads(response.read())["sections"]["about"]["mode"] == "cluster"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{url}/api/v1/state", timeout=30)
