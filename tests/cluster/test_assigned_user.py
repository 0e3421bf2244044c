"""Pods whose user the platform assigns, as OpenShift's restricted-v2 does, with the flag --openshift of the operator.

There is no OpenShift here. The test takes the operator's manifests and does what admission does there: it sets the first
ID of the namespace's range as user and fsGroup. The primary group of such a user is 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from llmendpoint_common.api.endpoint.spec import parse_spec
from llmendpoint_common.api.loadtest.spec import parse_spec as parse_load
from llmendpoint_common.api.translate.run_document import ResolvedTarget
from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_operator.endpoint.desired import desired
from llmendpoint_operator.kube.owner import Owner
from llmendpoint_operator.loadtest.desired import desired as load_children
from llmendpoint_operator.loadtest.resources.copies import Sources
from llmendpoint_operator.settings import ChildSettings, parse_settings
from support.on_cluster.cluster import ROOT, Namespace, Parameters, kubectl, new_namespace
from support.waiting import wait_until

pytestmark = pytest.mark.cluster

ASSIGNED = 1000670000


@pytest.fixture
def namespace(parameters: Parameters) -> Iterator[Namespace]:
    namespace = new_namespace("assigned")
    yield namespace
    kubectl("delete", "namespace", namespace.name, "--wait=false")


def assigned(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest as admission on OpenShift leaves it, without its owner."""
    manifest["metadata"].pop("ownerReferences")
    if manifest["kind"] in ("StatefulSet", "Job"):
        context = manifest["spec"]["template"]["spec"]["securityContext"]
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys()
        context.update(runAsUser=ASSIGNED, fsGroup=ASSIGNED)
    return manifest


def test_pods_work_as_a_user_that_their_images_do_not_know(namespace: Namespace, parameters: Parameters) -> None:
    settings = parse_settings(["--openshift"]).children
    name = "tiny:latest" if parameters.registry else parameters.model
    spec = {"models": [{"name": name, **parameters.source()}], "gpu": {"count": parameters.gpu},
            "monitoring": {"mode": "None"}}  # fmt: skip
    for manifest in desired(
        Owner("LLMEndpoint", namespace.name, "assistant", "uid"), parse_spec({"spec": spec}), settings
    ):
        namespace.apply(assigned(manifest))
    namespace.run("rollout", "status", "statefulset/assistant", "--timeout=5m")
    for container in ("metering", "ollama"):
        # Not every image has `id`.
        status = namespace.run("exec", "assistant-0", "-c", container, "--", "cat", "/proc/self/status")
        ids = {line.split()[0]: line.split()[1] for line in status.splitlines() if line.startswith(("Uid", "Gid"))}
        assert ids == {"Uid:": str(ASSIGNED), "Gid:": "0"}
    run_load(namespace, name, settings)


def run_load(namespace: Namespace, model: str, settings: ChildSettings) -> None:
    """Run a load test whose pod reads a key and publishes its result."""
    namespace.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"team": "sk-1"}}
    )
    request = {"maxTokens": 4, "apiKeySecretRef": {"name": "keys", "key": "team"}}
    load = {"concurrency": 1, "maxRequests": 3, "duration": "60s"}
    spec = parse_load({"spec": {"endpointRef": {"name": "assistant"}, "load": load, "request": request}})
    target = ResolvedTarget(f"http://assistant.{namespace.name}.svc:11434", Api.OLLAMA_CHAT, model, "sha256:1", "none")
    questions = {"metadata": {"name": "coding"}, "data": {"coding.yaml": (ROOT / "questions/coding.yaml").read_text()}}
    owner = Owner("LoadTest", namespace.name, "smoke", "uid")
    for manifest in load_children(owner, spec, target, Sources([questions]), settings):
        if manifest["kind"] == "Job":
            # The operator releases the Job when it has written the start time.
            manifest["spec"]["suspend"] = False
        namespace.apply(assigned(manifest))
    # On a busy machine, the verdict is Invalid, and the pod fails. The result shows that it could do everything.
    wait_until(lambda: namespace.get("job", "smoke").get("status", {}).get("conditions"), 120)
    result = json.dumps(namespace.get("configmap", "smoke-result-0").get("data"))
    assert result != "null", namespace.run("logs", "job/smoke")
    assert '\\"requests\\":3' in result.replace(" ", "")
    assert '\\"errors\\":0' in result.replace(" ", "")
