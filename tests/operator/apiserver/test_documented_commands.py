"""The commands of the runbooks, and of other pages that look at objects, against a real API server.

There is no kubelet. So commands that need one, such as `kubectl logs`, come to the point at which the API server looks for
the node of the pod: by then, it has accepted the name of the pod and of the container.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from support.documented import ROOT, Command, commands
from support.kubectl import Kubectl
from support.manifests import endpoint, loadtest
from support.waiting import wait_until

PAGES = sorted(
    [
        *(ROOT / "docs/runbooks").glob("*.md"),
        *(ROOT / "docs" / f"{name}.md" for name in ("monitoring", "scaling", "troubleshooting", "how-to/quotas")),
    ]
)
#: Verbs that need a kubelet, and what the API server says about a pod without a node.
_OF_KUBELET = ("logs", "exec")
_NO_NODE = "does not have a host assigned"
#: Verbs that cannot be tried without a kubelet, a controller or an adapter of metrics.
_NOT_RUN = ("top", "port-forward", "debug")
#: What a cluster may lack: kinds of other projects, and objects that exist only with an autoscaler or an installed operator.
_OPTIONAL = {
    "servicemonitor": "the server doesn't have a resource type",
    "podmonitor": "the server doesn't have a resource type",
    "prometheus": "the server doesn't have a resource type",
    "scaledobject": "the server doesn't have a resource type",
    "hpa": "(NotFound)",
    "lease": "(NotFound)",  # the operator of the tests has another namespace
    "/apis/external.metrics.k8s.io/v1beta1": "the server could not find the requested resource",
}


# The columns of `-o custom-columns` have names in capital letters too.
_PLACEHOLDERS = re.compile(r"\b(NAMESPACE|NAME|POD|llmendpoint-system)\b(?!:)")


def is_run(command: Command) -> bool:
    """Return whether a command can be run here. No Deployment controller makes the pods of the operator."""
    words = set(command.words)
    return not words & {*_NOT_RUN} and not any(word.startswith("deployment/") for word in command.words)


RUN = [command for command in commands("kubectl", PAGES) if is_run(command)]


@pytest.fixture
def objects(api: Any, operator: Any) -> str:
    """An endpoint and its first pod, a load test that has started, and the namespace of the operator."""
    api.client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llmendpoint-system"}})
    api.apply(endpoint("assistant"))
    api.apply(loadtest("smoke", endpointRef=None, target={"url": "http://model.example"}, model="m:1"))
    wait_until(lambda: api.get("StatefulSet", "assistant") and api.conditions(LLMENDPOINT, "assistant"))
    wait_until(lambda: api.get("ConfigMap", "smoke-result-0"))
    template = api.get("StatefulSet", "assistant")["spec"]["template"]
    claims = [{"name": "models", "persistentVolumeClaim": {"claimName": "models-assistant-0"}}]
    spec = {**template["spec"], "volumes": [*template["spec"]["volumes"], *claims]}
    metadata = {"name": "assistant-0", "labels": template["metadata"]["labels"]}
    api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    return str(api.namespace)


def words_of(command: Command, namespace: str) -> list[str]:
    """Return the arguments of a command, with the names of real objects."""
    name = "smoke" if "LoadTest" in command.page.stem else "assistant"
    # The pod of an endpoint stands for one of the operator, which does not exist here.
    place = {"llmendpoint-system": namespace} if "POD" in command.words else {}
    names = {"NAMESPACE": namespace, "NAME": name, "POD": "assistant-0", **place}
    return [_PLACEHOLDERS.sub(lambda found: names.get(found[0], found[0]), word) for word in command.words[1:]]


def is_expected(command: Command, errors: str) -> bool:
    """Return whether a command may fail with these errors here."""
    if set(command.words) & {*_OF_KUBELET}:
        return _NO_NODE in errors
    return any(word in command.words and text in errors for word, text in _OPTIONAL.items())


def test_documented_commands_work(objects: str, kubectl: Kubectl) -> None:
    assert len(RUN) > 50
    failed = {}
    for command in RUN:
        done = kubectl.run(*words_of(command, objects))
        if done.returncode and not is_expected(command, done.stderr):
            failed[command.name] = done.stderr
    assert failed == {}


def test_an_unknown_container_would_be_noticed(objects: str, kubectl: Kubectl) -> None:
    for command in (("logs", "assistant-0", "-c", "nobody"), ("exec", "assistant-0", "-c", "nobody", "--", "ls")):
        done = kubectl.run(*command)
        assert done.returncode
        assert _NO_NODE not in done.stderr
