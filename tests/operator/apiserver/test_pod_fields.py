"""`spec.pod` and `spec.podTemplate` reach the pods, and what does not is said, on a real API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from support.api_server.manifests import endpoint
from support.documents.golden import read_spec
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("operator")

GOLDEN = Path(__file__).parents[1] / "endpoint/golden"
STATEFULSET = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "assistant"}}
EVERYTHING = read_spec(GOLDEN, "everything")


def row(api: Any, kind: str) -> dict[str, Any]:
    rows = ((api.get(LLMENDPOINT, "assistant") or {}).get("status") or {}).get("conditions") or []
    return next((dict(each) for each in rows if each["type"] == kind), {})


def pod(api: Any) -> dict[str, Any]:
    """Return the pod of the StatefulSet as the API server has it."""
    return dict(wait_until(lambda: api.get("StatefulSet", "assistant"))["spec"]["template"]["spec"])


def invalid(api: Any) -> str:
    """Return the message of the condition Stalled with the reason InvalidSpec."""
    return str(
        wait_until(lambda: row(api, "Stalled").get("reason") == "InvalidSpec" and row(api, "Stalled")["message"])
    )


def test_every_field_reaches_a_pod_that_meets_the_restricted_standard(api: Any) -> None:
    api.apply(endpoint("assistant", pod=EVERYTHING["pod"], podTemplate=EVERYTHING["podTemplate"]))
    made, given = pod(api), EVERYTHING["pod"]
    names = {volume["name"] for volume in made["volumes"]}
    assert {volume["name"] for volume in given["volumes"]} < names
    assert made["securityContext"].items() > given["securityContext"].items()
    assert made["serviceAccountName"] == "models-reader"
    assert len(made["topologySpreadConstraints"]) == 2
    assert made["affinity"].keys() == {"nodeAffinity", "podAffinity", "podAntiAffinity"}
    template = EVERYTHING["podTemplate"]["spec"]
    assert {name: made[name] for name in ("dnsConfig", "hostAliases", "schedulerName")} == {
        name: template[name] for name in ("dnsConfig", "hostAliases", "schedulerName")
    }
    assert [item["name"] for item in made["initContainers"]] == ["prepare", "ollama"]
    assert [item["name"] for item in made["containers"]] == ["metering", "agent"]
    # A pod of this template is admitted where the standard is enforced.
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    api.client.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": api.namespace, "labels": label}})
    weak = {"containers": [{"name": "a", "image": "b"}]}
    wait_until(lambda: api.is_refused({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe"}, "spec": weak})
               or api.delete("Pod", "probe"))  # fmt: skip
    metadata = {"name": "assistant-0", "labels": {"a": "b"}}
    spec = {name: value for name, value in made.items() if name != "priorityClassName"}
    models = {"name": "models", "emptyDir": {}}
    api.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": {**spec, "volumes": [*spec["volumes"], models]},
        }
    )


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"hostNetwork": True}, "spec.podTemplate.spec.hostNetwork: not allowed by the restricted Pod Security Standard"),
    ({"tolerations": []}, "spec.podTemplate.spec.tolerations: set spec.pod.tolerations instead"),
    (
        {"volumes": [{"name": "a", "secret": {"secretName": "keys"}}]},
        "spec.podTemplate.spec.volumes[0].secret: not allowed: Secrets reach the pods only through metering.auth",
    ),
    (
        {"initContainers": [{"name": "ollama", "args": ["serve"], "env": None}]},
        "spec.podTemplate.spec.initContainers[0].env: null is not supported",
    ),
    (
        {"initContainers": [{"name": "ollama", "env": [{"name": "OLLAMA_HOST", "value": "0.0.0.0"}]}]},
        "spec.podTemplate.spec.initContainers[0].env[0]: OLLAMA_HOST is set by the operator",
    ),
    (
        {"containers": [{"name": "a", "image": "b", "resources": {"limits": {"nvidia.com/gpu": 1}}}]},
        "spec.podTemplate.spec.containers[0].resources.limits.nvidia.com/gpu: set spec.gpu.count instead",
    ),
    (
        {"containers": [{"name": "a", "image": "b", "volumeMounts": [{"name": "c", "mountPath": "/c"}]}]},
        "spec.podTemplate.spec.containers[0].volumeMounts[0].name: c is not a volume of the pod",
    ),
]


@pytest.mark.parametrize(("template", "sentence"), REFUSED)
def test_a_template_that_would_not_take_effect_is_refused(api: Any, template: dict[str, Any], sentence: str) -> None:
    api.apply(endpoint("assistant", podTemplate={"spec": template}))
    assert sentence in invalid(api)
    assert api.get("StatefulSet", "assistant") is None
    assert "InvalidSpec" in [event["reason"] for event in api.events("assistant")]
    api.apply(endpoint("assistant"))
    assert "hostNetwork" not in pod(api)


def test_several_wrong_fields_are_named_together(api: Any) -> None:
    api.apply(endpoint("assistant", podTemplate={"spec": {"hostPID": True, "nodeName": "a", "tolerations": []}}))
    message = invalid(api)
    assert [
        name for name in ("hostPID", "nodeName", "tolerations") if f"spec.podTemplate.spec.{name}: " not in message
    ] == []


def test_pods_that_run_stay_as_they_are_while_a_template_is_invalid(api: Any) -> None:
    api.apply(endpoint("assistant"))
    before = pod(api)
    api.apply(endpoint("assistant", replicas=3, podTemplate={"spec": {"hostIPC": True}}))
    assert "hostIPC" in invalid(api)
    assert pod(api) == before


def test_the_api_servers_refusal_of_a_template_is_quoted(api: Any) -> None:
    api.apply(endpoint("assistant", podTemplate={"spec": {"dnsPolicy": "None"}}))
    wait_until(lambda: row(api, "Degraded").get("reason") == "Invalid")
    assert "spec.template.spec.dnsConfig: Required value: must provide `dnsConfig`" in row(api, "Degraded")["message"]
    assert row(api, "Stalled")["status"] == "True"
    api.apply(
        endpoint("assistant", podTemplate={"spec": {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"]}}})
    )
    assert pod(api)["dnsConfig"] == {"nameservers": ["192.0.2.1"]}
    wait_until(lambda: row(api, "Stalled")["status"] == "False")


@pytest.mark.parametrize(
    ("template", "words", "advice"),
    [
        (
            {"dnsConfig": {"optionz": []}},
            "dnsConfig.optionz: field not declared in schema",
            "Correct its name in the spec",
        ),
        (
            {"containers": [{"name": "a", "image": "b", "env": [{"name": "A"}, {"name": "A"}]}]},
            "duplicate entries for key",
            "Correct the field of the spec",
        ),
    ],
)
def test_what_the_api_server_cannot_read_needs_another_spec(
    api: Any, template: dict[str, Any], words: str, advice: str
) -> None:
    api.apply(endpoint("assistant", podTemplate={"spec": template}))
    wait_until(lambda: row(api, "Stalled").get("reason") == "Invalid")
    message = row(api, "Stalled")["message"]
    assert words in message
    assert advice in message


def test_a_field_that_kubernetes_does_not_know_is_refused_before_anything_is_written(api: Any) -> None:
    api.apply(endpoint("assistant", podTemplate={"spec": {"fieldOfTheFuture": 1}}))
    assert "spec.podTemplate.spec.fieldOfTheFuture: not supported in podTemplate" in invalid(api)


def roll_out(api: Any, current: str, update: str, observed: int) -> None:
    """Report revisions of the pods, as the StatefulSet controller does."""
    status = {"replicas": 1, "currentRevision": current, "updateRevision": update, "observedGeneration": observed}
    api.apply_status({**STATEFULSET, "status": status})


def test_the_operators_service_account_stays_until_no_pod_needs_it(api: Any) -> None:
    api.apply(endpoint("assistant"))
    wait_until(lambda: api.get("ServiceAccount", "assistant"))
    generation = wait_until(lambda: api.get("StatefulSet", "assistant"))["metadata"]["generation"]
    roll_out(api, "a", "a", generation)
    api.apply(endpoint("assistant", pod={"serviceAccountName": "models-reader"}))
    wait_until(lambda: pod(api)["serviceAccountName"] == "models-reader")
    assert pod(api)["automountServiceAccountToken"] is False
    generation = api.get("StatefulSet", "assistant")["metadata"]["generation"]
    # Half way, the controller may still create a pod of the previous template.
    roll_out(api, "a", "b", generation)
    api.apply(endpoint("assistant", pod={"serviceAccountName": "models-reader"}, replicas=2))
    wait_until(lambda: api.get("StatefulSet", "assistant")["spec"]["replicas"] == 2)
    assert api.get("ServiceAccount", "assistant") is not None
    roll_out(api, "b", "b", api.get("StatefulSet", "assistant")["metadata"]["generation"])
    wait_until(lambda: api.get("ServiceAccount", "assistant") is None)
    api.apply(endpoint("assistant"))
    wait_until(lambda: api.get("ServiceAccount", "assistant"))
    wait_until(lambda: pod(api)["serviceAccountName"] == "assistant")


def test_an_endpoint_with_a_service_account_of_the_user_creates_none(api: Any) -> None:
    api.apply(endpoint("assistant", pod={"serviceAccountName": "models-reader"}))
    pod(api)
    assert api.get("ServiceAccount", "assistant") is None


def test_the_default_container_and_the_empty_class_of_the_spec_are_written_once(api: Any) -> None:
    name = "kubectl.kubernetes.io/default-container"
    api.apply(endpoint("assistant", pod={"annotations": {name: "ollama"}}, storage={"storageClassName": ""}))
    made = wait_until(lambda: api.get("StatefulSet", "assistant"))
    assert made["spec"]["template"]["metadata"]["annotations"][name] == "ollama"
    assert made["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"] == ""
    # What the API server stores is what the operator wants: a later reconciliation changes the number of pods alone.
    api.apply(
        endpoint("assistant", pod={"annotations": {name: "ollama"}}, storage={"storageClassName": ""}, replicas=2)
    )
    wait_until(lambda: api.get("StatefulSet", "assistant")["spec"]["replicas"] == 2)
    again = api.get("StatefulSet", "assistant")
    assert again["spec"] == {**made["spec"], "replicas": 2}
    assert again["metadata"]["uid"] == made["metadata"]["uid"]
