"""`spec.podTemplate` over an endpoint's pod."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_operator.endpoint.resources.statefulset import pod_template_problem
from support.documents.restricted import assert_restricted
from support.in_memory.endpoints import children, pod

AGENT = {"name": "agent", "image": "agent:1", "resources": {"requests": {"memory": "16Mi"}}}


def with_template(**spec: Any) -> dict[str, Any]:
    return pod(podTemplate={"spec": spec})


def problem(template: dict[str, Any], **spec: Any) -> str:
    wanted = {"podTemplate": {"spec": template}, **spec}
    return pod_template_problem(children(**wanted)["StatefulSet/assistant"], wanted["podTemplate"])


def test_without_a_template_the_pod_is_the_same() -> None:
    assert pod(podTemplate=None) == pod()
    # All that is added is what the template has.
    added = {"dnsPolicy": "None", "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a"]}]}
    assert with_template(**added) == {**pod(), **added}


def test_additional_init_containers_run_before_ollama_and_containers_follow_the_sidecar() -> None:
    made = with_template(initContainers=[AGENT, {"name": "ollama", "env": []}], containers=[{**AGENT, "name": "b"}])
    assert [item["name"] for item in made["initContainers"]] == ["agent", "ollama"]
    assert [item["name"] for item in made["containers"]] == ["metering", "b"]


def test_additional_containers_meet_the_restricted_standard() -> None:
    writable = {**AGENT, "name": "b", "securityContext": {"runAsUser": 1000}}
    made = with_template(initContainers=[AGENT], containers=[writable])
    assert_restricted(made)
    assert made["containers"][1]["securityContext"]["runAsUser"] == 1000
    # Conditions quote the end of the log of a container that fails repeatedly.
    assert made["containers"][1]["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_ollama_gets_what_is_added_and_keeps_what_it_has() -> None:
    volume = {"name": "extra", "emptyDir": {}}
    addition: dict[str, Any] = {
        "name": "ollama",
        "env": [
            {"name": "A", "value": "$(B)"},
            {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "volumeMounts": [{"name": "extra", "mountPath": "/extra"}],
        "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
    }
    (before,), (after,) = (
        pod()["initContainers"],
        with_template(initContainers=[addition], volumes=[volume])["initContainers"],
    )
    assert after == {
        **before,
        # Kubernetes replaces nothing in values.
        "env": [*before["env"], {"name": "A", "value": "$$(B)"}, addition["env"][1]],
        "volumeMounts": [*before["volumeMounts"], *addition["volumeMounts"]],
        "resizePolicy": addition["resizePolicy"],
    }


def test_volumes_are_added() -> None:
    volume = {"name": "extra", "downwardAPI": {"items": []}}
    assert with_template(volumes=[volume])["volumes"] == [*pod()["volumes"], volume]


def to_ollama(**fields: Any) -> dict[str, Any]:
    return {"initContainers": [{"name": "ollama", **fields}]}


CHANGES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        to_ollama(env=[{"name": "OLLAMA_HOST", "value": "0.0.0.0"}]),
        {},
        "spec.podTemplate.spec.initContainers[0].env[0]: OLLAMA_HOST is set by the operator or in the spec, and cannot be "
        "changed here.",
    ),
    (
        to_ollama(env=[{"name": "MINE", "value": "b"}]),
        {"ollama": {"env": [{"name": "MINE", "value": "a"}]}},
        "spec.podTemplate.spec.initContainers[0].env[0]: MINE is set by the operator or in the spec, and cannot be changed "
        "here.",
    ),
    (
        {**to_ollama(volumeMounts=[{"name": "v", "mountPath": "/gguf"}]), "volumes": [{"name": "v", "emptyDir": {}}]},
        {"pod": {"volumes": [{"name": "a", "emptyDir": {}}], "ollamaVolumeMounts": [{"name": "a", "mountPath": "/gguf"}]}},
        "spec.podTemplate.spec.initContainers[0].volumeMounts[0]: /gguf is set by the operator or in the spec, and cannot "
        "be changed here.",
    ),
    (
        {"volumes": [{"name": "a", "emptyDir": {}}]},
        {"pod": {"volumes": [{"name": "a", "emptyDir": {}}]}},
        "spec.podTemplate.spec.volumes[0].name: a is a volume in spec.pod.volumes.",
    ),
    (
        {"containers": [{**AGENT, "volumeMounts": [{"name": "nowhere", "mountPath": "/a"}]}]},
        {},
        "spec.podTemplate.spec.containers[0].volumeMounts[0].name: nowhere is not a volume of the pod.",
    ),
    (
        {"containers": [{**AGENT, "volumeDevices": [{"name": "nowhere", "devicePath": "/dev/a"}]}]},
        {},
        "spec.podTemplate.spec.containers[0].volumeDevices[0].name: nowhere is not a volume of the pod.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("template", "spec", "sentence"), CHANGES)
def test_what_would_not_take_effect_is_said(template: dict[str, Any], spec: dict[str, Any], sentence: str) -> None:
    assert problem(template, **spec) == sentence


@pytest.mark.parametrize("storage", [{}, {"type": "Ephemeral"}, {"type": "ExistingClaim", "claimName": "c"}])
def test_the_models_can_be_mounted_with_every_type_of_storage(storage: dict[str, Any]) -> None:
    agent = {**AGENT, "volumeMounts": [{"name": "models", "mountPath": "/models", "readOnly": True}]}
    assert problem({"initContainers": [agent], "containers": [{**agent, "name": "b"}]}, storage=storage) == ""
