"""Storage grows on a real cluster: neither pods nor requests notice that the StatefulSet is replaced."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.on_cluster.cluster import Namespace, Parameters, fetch, kubectl, new_namespace
from support.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CLASS = "llmendpoint-e2e-expandable"
CLAIM = "models-assistant-0"


@pytest.fixture
def grown(chart: None, parameters: Parameters) -> Iterator[Namespace]:
    """A namespace with an endpoint whose StorageClass is the default one, but allows that claims grow."""
    classes = json.loads(kubectl("get", "storageclass", "-o", "json"))["items"]
    default = "storageclass.kubernetes.io/is-default-class"
    (base,) = [item for item in classes if item["metadata"].get("annotations", {}).get(default) == "true"]
    fields = {name: base[name] for name in ("provisioner", "parameters", "volumeBindingMode") if name in base}
    kubectl("apply", "-f", "-", stdin={"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
                                       "metadata": {"name": CLASS}, "allowVolumeExpansion": True, **fields})  # fmt: skip
    namespace = new_namespace("growth")
    model = {"name": parameters.model, **parameters.source()}
    spec = {"models": [model], "gpu": {"count": 0}, "storage": {"size": "1Gi", "storageClassName": CLASS}}
    namespace.apply({"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LLMEndpoint", "metadata": {"name": "assistant"},
                     "spec": spec})  # fmt: skip
    namespace.run("wait", "--for=condition=Ready", "--timeout=10m", "llmendpoint/assistant")
    namespace.run("wait", "--for=condition=Reconciling=False", "--timeout=2m", "llmendpoint/assistant")
    yield namespace
    kubectl("delete", "namespace", namespace.name, "--wait=false")
    kubectl("delete", "storageclass", CLASS)


class Client(threading.Thread):
    """A client that asks one question after the other."""

    def __init__(self, url: str, model: str) -> None:
        super().__init__(daemon=True)
        self._url, self._model = url, model
        self._ended = threading.Event()
        self.answers = 0
        self.errors: list[Exception] = []

    def run(self) -> None:
        question = {"model": self._model, "prompt": "hello", "stream": False, "options": {"num_predict": 8}}
        while not self._ended.is_set():
            try:
                fetch(f"{self._url}/api/generate", question)
                self.answers += 1
            except OSError as error:
                self.errors.append(error)

    def end(self) -> None:
        self._ended.set()
        self.join(60)


def pods(namespace: Namespace) -> list[tuple[str, int]]:
    """Return the UID of each pod, and how often its containers were restarted."""
    items = json.loads(namespace.run("get", "pods", "-o", "json"))["items"]
    return [(body["metadata"]["uid"], restarts(body["status"])) for body in items]


def restarts(status: dict[str, Any]) -> int:
    return sum(each["restartCount"] for each in status["containerStatuses"] + status["initContainerStatuses"])


def is_adopted(namespace: Namespace, before: str) -> bool:
    """Return whether a new StatefulSet counts the pod as its own."""
    text = namespace.run("get", "statefulset", "assistant", "--ignore-not-found", "-o", "json")
    made = json.loads(text) if text else {"metadata": {"uid": before}}
    return made["metadata"]["uid"] != before and made["status"].get("readyReplicas") == 1


def resize_as_a_driver_does(namespace: Namespace) -> None:
    """Report that the volume has grown. The driver of kind, which uses folders of the node, does not resize."""
    status = {"status": {"capacity": {"storage": "2Gi"}}}
    namespace.run("patch", "pvc", CLAIM, "--subresource=status", "--type=merge", "--patch", json.dumps(status))


def test_storage_grows_while_clients_are_served(grown: Namespace, parameters: Parameters) -> None:
    before, statefulset = pods(grown), grown.get("statefulset", "assistant")["metadata"]["uid"]
    since = grown.condition("llm", "assistant", "Ready")["lastTransitionTime"]
    with grown.forward("service/assistant", 11434) as url:
        client = Client(url, parameters.model)
        client.start()
        wait_until(lambda: client.answers, 60)
        grown.run("patch", "llm", "assistant", "--type=merge", "--patch", '{"spec": {"storage": {"size": "2Gi"}}}')
        wait_until(lambda: is_adopted(grown, statefulset), 60)
        asked = client.answers
        wait_until(lambda: client.answers > asked + 2, 60)
        client.end()
    assert client.errors == []
    assert grown.get("pvc", CLAIM)["spec"]["resources"]["requests"]["storage"] == "2Gi"
    if grown.get("pvc", CLAIM)["status"]["capacity"]["storage"] != "2Gi":
        assert CLAIM in wait_until(lambda: _message(grown, "Resizing"))
        resize_as_a_driver_does(grown)
    wait_until(lambda: _message(grown, "Settled"), 60)
    assert pods(grown) == before
    assert grown.condition("llm", "assistant", "Ready")["lastTransitionTime"] == since


def _message(namespace: Namespace, reason: str) -> str:
    row = namespace.condition("llm", "assistant", "Reconciling")
    return row["message"] if row["reason"] == reason else ""
