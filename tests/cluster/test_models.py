"""Models from a file and Modelfiles on a real cluster, and a change of them under load without a restart."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.machine.scripted_model import TEMPLATE, scripted_model
from support.on_cluster.cluster import Namespace, Parameters, fetch, kubectl, new_namespace
from support.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

MODELFILE = f'PARAMETER num_thread 1\nTEMPLATE """{TEMPLATE}"""\n'
#: Time until the operator reads a ConfigMap again, kubelet projects the new configuration, and the models change.
CHANGE_SECONDS = 180


def model(name: str, path: str = "/volumes/one.gguf") -> dict[str, Any]:
    return {"name": name, "source": {"gguf": {"path": path}}, "modelfile": {"inline": MODELFILE}}


def endpoint(*models: dict[str, Any]) -> dict[str, Any]:
    spec = {
        "models": list(models),
        "gpu": {"count": 0},
        "storage": {"type": "Ephemeral", "retentionPolicy": {"whenModelRemoved": "Delete"}},
        "pod": {
            "terminationGracePeriodSeconds": 10,
            "volumes": [{"name": "files", "configMap": {"name": "files"}}],
            "ollamaVolumeMounts": [{"name": "files", "mountPath": "/volumes", "readOnly": True}],
        },
    }
    return {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LLMEndpoint", "metadata": {"name": "made"}, "spec": spec}


BRIEF = {
    "name": "brief:1",
    "load": "OnDemand",
    "modelfile": {"configMapKeyRef": {"name": "prompts", "key": "brief"}},
}


def config_map(name: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **content}


@pytest.fixture(scope="module")
def made(chart: None, parameters: Parameters) -> Iterator[Namespace]:
    """An endpoint with two models from a file, and another one that a Modelfile in a ConfigMap makes from the first."""
    namespace = new_namespace("made")
    one, two = scripted_model(), scripted_model() + b"\0" * 32
    files = {"one.gguf": base64.b64encode(one).decode(), "two.gguf": base64.b64encode(two).decode()}
    # Too large for the annotation of `kubectl apply`.
    namespace.run("create", "-f", "-", stdin=config_map("files", binaryData=files))
    namespace.apply(endpoint(model("mine:1"), BRIEF, model("removed:1")))
    wait_until(lambda: namespace.condition("llmendpoint", "made", "Degraded")["reason"] == "ReferenceNotFound", 60)
    namespace.apply(config_map("prompts", data={"brief": "FROM mine:1\nSYSTEM Be brief."}))
    namespace.run("wait", "--for=condition=Ready", "--timeout=5m", "llmendpoint/made")
    yield namespace
    kubectl("delete", "namespace", namespace.name, "--wait=false")


def digests(namespace: Namespace) -> dict[str, list[str]]:
    models = namespace.get("llmendpoint", "made")["status"]["models"]
    return {one["name"]: one["digests"] for one in models}


def listed(namespace: Namespace) -> list[str]:
    """Return the names of Ollama's models, in alphabetical order."""
    lines = namespace.run("exec", "made-0", "-c", "ollama", "--", "ollama", "list").splitlines()[1:]
    return sorted(line.split()[0] for line in lines)


def system(url: str, name: str) -> str:
    return str(json.loads(fetch(f"{url}/api/show", {"model": name})).get("system"))


def settle(namespace: Namespace) -> None:
    """Wait until the pods have the latest spec."""

    def settled() -> bool:
        found = namespace.get("llmendpoint", "made")
        row = namespace.condition("llmendpoint", "made", "Reconciling")
        return row["reason"] == "Settled" and found["status"]["observedGeneration"] == found["metadata"]["generation"]

    wait_until(settled, CHANGE_SECONDS, every=1)


class Client(threading.Thread):
    """A client that asks a model again and again, and counts what it gets."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(daemon=True)
        self._url, self._name = url, name
        self._done = threading.Event()
        self.answered = 0
        self.failures: list[str] = []

    def run(self) -> None:
        question = {"model": self._name, "prompt": "hello", "stream": False, "options": {"num_predict": 4}}
        while not self._done.wait(0.02):
            try:
                assert json.loads(fetch(f"{self._url}/api/generate", question))["done"]
                self.answered += 1
            except (OSError, AssertionError, ValueError) as error:
                self.failures.append(str(error))

    def finish(self) -> None:
        self._done.set()
        self.join(60)


def test_a_change_of_models_drops_no_request_and_restarts_nothing(made: Namespace) -> None:
    pod, before = made.get("pod", "made-0"), digests(made)
    assert len(before["mine:1"]) == len(before["brief:1"]) == 1
    with made.forward("pod/made-0", 11435) as url:
        assert system(url, "brief:1") == "Be brief."
        client = Client(url, "mine:1")
        client.start()
        made.apply(endpoint(model("mine:1", "/volumes/two.gguf"), BRIEF))
        made.apply(config_map("prompts", data={"brief": "FROM mine:1\nSYSTEM Be long."}))
        wait_until(lambda: system(url, "brief:1") == "Be long.", CHANGE_SECONDS, every=1)
        settle(made)
        client.finish()
        assert client.failures == []
        assert client.answered > 20
        after = digests(made)
        assert after["mine:1"] != before["mine:1"]
    # The removed model is deleted, and so are the names of the replacement. Requests to the pod postpone that.
    wait_until(lambda: listed(made) == ["brief:1", "mine:1"], CHANGE_SECONDS, every=1)
    again = made.get("pod", "made-0")
    assert again["metadata"]["uid"] == pod["metadata"]["uid"]
    assert [one["restartCount"] for one in again["status"]["containerStatuses"]] == [0]


def test_a_restarted_sidecar_creates_nothing_again(made: Namespace) -> None:
    before = listed(made)
    made.run("exec", "made-0", "-c", "metering", "--", "python3", "-c", "import os; os.kill(1, 15)")
    wait_until(lambda: made.get("pod", "made-0")["status"]["containerStatuses"][0]["restartCount"] == 1, 60)
    made.run("wait", "--for=condition=Ready", "--timeout=2m", "pod/made-0")
    assert "creating" not in made.run("logs", "made-0", "-c", "metering")
    assert listed(made) == before
