"""A hung Ollama on a real cluster: only its container is restarted, and the endpoint is ready again by itself."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from support.on_cluster.cluster import Namespace, Parameters, fetch, kubectl, new_namespace
from support.on_cluster.nodes import Node
from support.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

AFTER_SECONDS = 20
#: Periods of the readiness probe, of the liveness probe and of the operator, and the restart with a tiny model.
RECOVERY_SECONDS = 60


@pytest.fixture(scope="module")
def healing(chart: None, parameters: Parameters) -> Iterator[Namespace]:
    """An endpoint that restarts a hung Ollama."""
    namespace = new_namespace("stalls")
    spec = {
        "models": [{"name": parameters.model, **parameters.source()}],
        "gpu": {"count": 0},
        "storage": {"type": "Ephemeral"},
        "metering": {"stall": {"after": f"{AFTER_SECONDS}s", "restart": True}},
        "pod": {"terminationGracePeriodSeconds": 10},
    }
    namespace.apply(
        {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LLMEndpoint", "metadata": {"name": "healing"}, "spec": spec}
    )
    namespace.run("wait", "--for=condition=Ready", "--timeout=10m", "llmendpoint/healing")
    yield namespace
    kubectl("delete", "namespace", namespace.name, "--wait=false")


def restarts(pod: dict[str, Any]) -> dict[str, int]:
    status = pod["status"]
    return {one["name"]: one["restartCount"] for one in status["initContainerStatuses"] + status["containerStatuses"]}


def answers(url: str, question: dict[str, Any]) -> bool:
    """Return whether the model answers. Until then, the sidecar refuses the request, or cannot connect to Ollama."""
    try:
        return bool(json.loads(fetch(f"{url}/api/generate", question))["done"])
    except OSError:
        return False


def streamed(url: str, question: dict[str, Any]) -> urllib.request.Request:
    """Return a request for a stream that takes more than a second."""
    body = {**question, "stream": True, "options": {"num_predict": 1000}}
    return urllib.request.Request(f"{url}/api/generate", data=json.dumps(body).encode())


def is_ready(namespace: Namespace) -> bool:
    pod = namespace.get("pod", "healing-0")
    conditions = {one["type"]: one["status"] for one in pod["status"]["conditions"]}
    endpoint = namespace.condition("llmendpoint", "healing", "Ready")
    return bool(conditions["Ready"] == endpoint["status"] == "True")


def test_a_stopped_runner_restarts_the_container_of_ollama_and_not_the_pod(
    healing: Namespace, parameters: Parameters
) -> None:
    before = healing.get("pod", "healing-0")
    node = Node(before)
    question = {"model": parameters.model, "prompt": "hello", "stream": False, "options": {"num_predict": 4}}
    with healing.forward("pod/healing-0", 11435) as url:
        assert json.loads(fetch(f"{url}/api/generate", question))["done"]
        (runner,) = node.processes(" runner ")
        # Ollama replaces a runner that hangs while nobody uses it, when the next request arrives. It does not replace one
        # that a request is waiting for.
        with urllib.request.urlopen(streamed(url, question), timeout=60) as stream:
            assert not json.loads(stream.readline())["done"]
            node.signal("STOP", runner)
            began = time.monotonic()
            # The clients get errors, instead of waiting for their own timeouts.
            with pytest.raises(urllib.error.HTTPError) as refused:
                fetch(f"{url}/api/generate", question)
            noticed = time.monotonic() - began
            *_, last = stream.read().splitlines()
        wait_until(lambda: answers(url, question), RECOVERY_SECONDS, every=0.1)
        answered = time.monotonic() - began
    assert refused.value.code == 504
    assert "hung" in json.loads(refused.value.read())["error"]
    assert "hung" in json.loads(last)["error"]
    assert noticed < AFTER_SECONDS + 5
    wait_until(lambda: restarts(healing.get("pod", "healing-0"))["ollama"] == 1, RECOVERY_SECONDS, every=0.2)
    wait_until(lambda: healing.run("get", "events", "--field-selector", "reason=OllamaHung", "-o", "name"), 60)
    wait_until(lambda: is_ready(healing), RECOVERY_SECONDS, every=0.2)
    print(f"noticed after {noticed:.1f} s, answered {answered - noticed:.1f} s after that")
    after = healing.get("pod", "healing-0")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert restarts(after) == {"ollama": 1, "metering": 0}
    assert runner not in node.processes(" runner ")
    with healing.forward("service/healing", 11434) as url:
        assert json.loads(fetch(f"{url}/api/generate", question))["done"]
    # The file is gone, so the new process is left alone.
    (successor,) = node.processes("ollama serve")
    assert node.files(successor, "/run/llmendpoint") == []
