"""The key of a load test on a real cluster: the target gets it, and nothing else in the namespace shows it."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from support.api_server.apiclient import Client
from support.on_cluster.cluster import NAMESPACE, Namespace, Parameters, kubectl, new_namespace
from support.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

KEY = f"sk-canary-{secrets.token_hex(8)}"
#: Texts that Kubernetes or a shell would replace by the key if it were in a variable or a file of the container.
REFERENCES = ("$(LLMENDPOINT_LOAD_API_KEY)", "${LLMENDPOINT_LOAD_API_KEY}", "$(cat /etc/llmendpoint/api-key/key)")
EVERYTHING = "pods,jobs,configmaps,events,serviceaccounts,roles,rolebindings,statefulsets,llmendpoints,loadtests"


@pytest.fixture(scope="module")
def guarded(chart: None, parameters: Parameters) -> Any:
    """An endpoint that requires the key."""
    namespace = new_namespace("secrets")
    data = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"team": KEY}}
    namespace.apply(data)
    spec = {
        "models": [{"name": parameters.model, **parameters.source()}],
        "gpu": {"count": 0},
        "storage": {"type": "Ephemeral"},
        "metering": {"auth": {"secretRefs": [{"name": "keys"}]}},
        "ollama": {"env": [{"name": "MINE", "value": "$(OLLAMA_MODELS)"}]},
        "pod": {"terminationGracePeriodSeconds": 10},
    }
    namespace.apply(
        {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LLMEndpoint", "metadata": {"name": "shared"}, "spec": spec}
    )
    namespace.run("wait", "--for=condition=Ready", "--timeout=10m", "llmendpoint/shared")
    yield namespace
    kubectl("delete", "namespace", namespace.name, "--wait=false")


def run(namespace: Namespace, name: str, **spec: Any) -> dict[str, Any]:
    """Run a load test with the key, and return its status."""
    base = {"load": {"concurrency": 1, "maxRequests": 3, "duration": "30s"},
            "request": {"maxTokens": 4, "apiKeySecretRef": {"name": "keys", "key": "team"}}}  # fmt: skip
    body = {
        "apiVersion": "llmendpoint.dev/v1alpha1",
        "kind": "LoadTest",
        "metadata": {"name": name},
        "spec": base | spec,
    }
    namespace.apply(body)
    namespace.run("wait", "--for=condition=Complete", "--timeout=5m", f"loadtest/{name}")
    return dict(namespace.get("loadtest", name)["status"])


def places_of_the_key(namespace: Namespace) -> list[str]:
    """Return everything that shows the key, plainly or in base64: objects, logs of pods, and the operator's log."""
    texts = {
        "objects": namespace.run("get", EVERYTHING, "-o", "json"),
        "operator": kubectl("--namespace", NAMESPACE, "logs", "deployment/llmendpoint", "--tail=-1"),
    }
    for pod in namespace.run("get", "pods", "-o", "name").split():
        texts[pod] = namespace.run("logs", pod, "--all-containers", "--tail=-1")
    encoded = base64.b64encode(KEY.encode()).decode().rstrip("=")
    return [place for place, text in texts.items() if KEY in text or encoded in text]


def test_a_run_with_a_key_is_answered_and_nothing_shows_the_key(guarded: Namespace, parameters: Parameters) -> None:
    status = run(guarded, "keyed", endpointRef={"name": "shared"})
    assert status["summary"]["requests"] > 0
    assert status["summary"]["errors"] == 0
    assert places_of_the_key(guarded) == []


@pytest.mark.parametrize("reference", REFERENCES)
def test_a_reference_to_the_key_in_any_text_shows_nothing(
    guarded: Namespace, parameters: Parameters, reference: str
) -> None:
    name = f"canary-{REFERENCES.index(reference)}"
    target = {"url": f"http://shared.{guarded.name}.svc:11434/{reference.replace(' ', '%20')}"}
    status = run(guarded, name, target=target, model=reference, pod={"annotations": {"note": reference}})
    # The reference is quoted as it was written.
    assert reference in json.dumps(status)
    status = run(
        guarded, f"{name}-category", endpointRef={"name": "shared"},
        dataset={"questions": {"categories": [reference[:64]]}}, pod={"annotations": {"note": reference}},
    )  # fmt: skip
    assert status["verdict"] == "Error"
    assert reference[:64] in json.dumps(status)
    assert places_of_the_key(guarded) == []


def test_a_variable_of_a_spec_is_used_as_written(guarded: Namespace) -> None:
    shown = guarded.run("exec", "shared-0", "-c", "ollama", "--", "sh", "-c", 'printf "%s" "$MINE"')
    assert shown == "$(OLLAMA_MODELS)"


def test_the_key_is_a_file_of_one_entry_that_the_pod_can_read(guarded: Namespace) -> None:
    run(guarded, "mounted", endpointRef={"name": "shared"})
    (pod,) = json.loads(guarded.run("get", "pods", "-l", "llmendpoint.dev/loadtest=mounted", "-o", "json"))["items"]
    (container,) = pod["spec"]["containers"]
    assert "env" not in container
    volume = next(item["secret"] for item in pod["spec"]["volumes"] if item["name"] == "api-key")
    assert [item["key"] for item in volume["items"]] == ["team"]


@contextlib.contextmanager
def as_load_pod(namespace: Namespace, name: str, folder: Path) -> Iterator[Callable[[dict[str, Any]], int]]:
    """Yield a function that patches the metadata of a load test's result with the token of its load pod.

    It returns the HTTP status. `kubectl patch` would read the object first, which the token may not.
    """
    config = json.loads(kubectl("config", "view", "--raw", "--flatten", "-o", "json"))
    token = namespace.run("create", "token", f"{name}-load").strip()
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    path = folder / f"{name}.kubeconfig"
    path.write_text(json.dumps(config))
    client = Client(path)

    def patch(metadata: dict[str, Any]) -> int:
        try:
            client.patch("ConfigMap", namespace.name, f"{name}-result-0", {"metadata": metadata})
        except ApiException as error:
            return int(error.status or 0)
        return 200

    yield patch
    client.close()


def test_the_permission_of_a_load_pod_ends_with_the_run(guarded: Namespace, tmp_path: Path) -> None:
    run(guarded, "ended", endpointRef={"name": "shared"})
    with as_load_pod(guarded, "ended", tmp_path) as patch:
        wait_until(lambda: patch({"annotations": {"note": "x"}}) == 403, 30)


def test_a_load_pod_cannot_keep_its_result_or_its_namespace(
    guarded: Namespace, parameters: Parameters, tmp_path: Path
) -> None:
    """Its token removes the owner and the labels, and adds a finalizer, while the run is deleted with its namespace."""
    namespace = new_namespace("hostile")
    target = {"url": f"http://shared.{guarded.name}.svc:11434"}
    spec = {"target": target, "model": parameters.model, "load": {"rate": "0.1", "duration": "5m"}}
    body = {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LoadTest", "metadata": {"name": "smoke"}, "spec": spec}
    namespace.apply(body)
    wait_until(lambda: namespace.condition("loadtest", "smoke", "Passed")["reason"] == "Running", 60)
    labels = {"app.kubernetes.io/managed-by": None, "llmendpoint.dev/loadtest": None}
    hostile = {"ownerReferences": None, "finalizers": ["example.com/stay"], "labels": labels}
    with as_load_pod(namespace, "smoke", tmp_path) as patch:
        assert patch(hostile) == 200
        wait_until(lambda: "finalizers" not in namespace.get("configmap", "smoke-result-0")["metadata"], 30)
        assert namespace.get("configmap", "smoke-result-0")["metadata"]["ownerReferences"][0]["name"] == "smoke"
        assert patch(hostile) == 200
    kubectl("delete", "namespace", namespace.name, "--timeout=120s")
