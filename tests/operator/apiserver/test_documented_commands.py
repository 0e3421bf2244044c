"""The commands of the runbooks, and of other pages that look at objects, against a real API server.

There is no kubelet. So commands that need one, such as `kubectl logs`, come to the point at which the API server looks for
the node of the pod: by then, it has accepted the name of the pod and of the container.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from support.api_server.kubectl import Kubectl
from support.api_server.manifests import endpoint, loadtest
from support.documents.documented import ROOT, Command, commands
from support.waiting import wait_until

PAGES_WITH_COMMANDS = {command.page for command in commands("kubectl")}
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
    "secret": "(NotFound)",  # of the dashboard, if it is installed
    "my-questions": "(NotFound)",  # which the command before creates
    "lease": "(NotFound)",  # the operator of the tests has another namespace
    "/apis/external.metrics.k8s.io/v1beta1": "the server could not find the requested resource",
}


#: Pages whose commands change objects, or wait for a controller. They are tried without effect.
TRIED_PAGES = sorted(page for page in PAGES_WITH_COMMANDS if page not in PAGES and page.is_relative_to(ROOT / "docs"))
#: Verbs that the API server validates completely without writing anything.
_DRY = ("apply", "create", "patch", "annotate", "label", "scale", "delete")
#: Objects and files of the pages, and what has their place here.
_HERE = {
    "loadtest/nightly": "loadtest/smoke",
    "nightly": "smoke",
    "nightly-run": "smoke-run",
    "llmendpoint.yaml": str(ROOT / "manifests/samples/llmendpoint.yaml"),
    "--from-file=ca.crt": f"--from-file=ca.crt={ROOT / 'LICENSE'}",
    "--from-file=mine.yaml": f"--from-file=mine.yaml={ROOT / 'questions/coding.yaml'}",
}
#: What `kubectl wait` says if it has found the object, but nothing has met the condition in no time.
_NOT_MET = ("timed out waiting for the condition", "condition not met")


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


def is_tried(command: Command) -> bool:
    """Return whether a command can be tried. Not those with variables of a loop or stdin, or for another program."""
    words = set(command.words)
    loop = {word for word in words if word.startswith("$") or word == "-"}
    # kubectl cannot try this one: its dry run looks for the object in the namespace "".
    if {"delete", "--all-namespaces"} <= words:
        return False
    return not loop and not words & {*_NOT_RUN, "argocd"} and not any("$kind" in word for word in words)


TRIED = [command for command in commands("kubectl", TRIED_PAGES) if is_tried(command)]


def tried_words(command: Command) -> list[str]:
    """Return the arguments of a command that changes nothing, and waits for nothing."""
    verb = next(word for word in command.words[1:] if not word.startswith("-") and word != "llmendpoint-system")
    words = [_HERE.get(word, word) for word in command.words[1:]]
    words = [str(ROOT / word) if word.startswith("manifests/") else word for word in words]
    if verb in _DRY:
        return [*words, "--dry-run=server", *(["--namespace=default"] if verb == "apply" else [])]
    if verb == "wait":
        return [re.sub(r"^--timeout=.*", "--timeout=0", word) for word in words]
    return words


def failure_of(command: Command, kubectl: Kubectl) -> str:
    """Try a command, and return what kubectl says if it fails for another reason than that nothing runs here."""
    done = kubectl.run(*tried_words(command))
    if done.returncode == 0 or is_expected(command, done.stderr):
        return ""
    is_difference = "diff" in command.words and done.returncode == 1 and done.stdout
    is_wait = "wait" in command.words and any(text in done.stderr for text in _NOT_MET)
    return "" if is_difference or is_wait else done.stderr


def test_documented_commands_that_change_or_await_objects_are_accepted(objects: str, kubectl: Kubectl) -> None:
    assert len(TRIED) > 40
    failed = {command.place: failure for command in TRIED if (failure := failure_of(command, kubectl))}
    assert failed == {}


def test_an_unknown_container_would_be_noticed(objects: str, kubectl: Kubectl) -> None:
    for command in (("logs", "assistant-0", "-c", "nobody"), ("exec", "assistant-0", "-c", "nobody", "--", "ls")):
        done = kubectl.run(*command)
        assert done.returncode
        assert _NO_NODE not in done.stderr
