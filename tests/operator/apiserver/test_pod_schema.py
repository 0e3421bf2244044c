"""Wrong values in `spec.pod` and `spec.podTemplate`, which the API server rejects with a message that names the field."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from support.api_server.kubectl import Kubectl
from support.api_server.manifests import endpoint
from support.documents.golden import read_spec

GOLDEN = Path(__file__).parents[1] / "endpoint/golden"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def nodes(**term: Any) -> dict[str, Any]:
    return {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}}


def label(**requirement: Any) -> dict[str, Any]:
    return nodes(matchExpressions=[{"key": "zone", **requirement}])


def near(**term: Any) -> dict[str, Any]:
    return {"affinity": {"podAffinity": {REQUIRED: [{"topologyKey": "zone", **term}]}}}


def spread(**constraint: Any) -> dict[str, Any]:
    return {"topologySpreadConstraints": [{"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", **constraint}]}


def volume(**source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "a", **source}]}


def mount(path: str, **fields: Any) -> dict[str, Any]:
    return {
        "volumes": [{"name": "a", "emptyDir": {}}],
        "ollamaVolumeMounts": [{"name": "a", "mountPath": path, **fields}],
    }


PODS: list[tuple[dict[str, Any], str]] = [
    (label(operator="Contains", values=["a"]), "operator: Unsupported value"),
    (label(operator="In"), "values is required if operator is In or NotIn"),
    (label(operator="NotIn", values=[]), "values is required if operator is In or NotIn"),
    (label(operator="Exists", values=["a"]), "values may not be set if operator is Exists or DoesNotExist"),
    (label(operator="Gt", values=["1", "2"]), "values must be one integer if operator is Gt or Lt"),
    (label(operator="Lt", values=["many"]), "values must be one integer if operator is Gt or Lt"),
    (label(operator="In", values=["a b"]), "values[0]"),
    (nodes(), "a term needs matchExpressions or matchFields"),
    (nodes(matchFields=[{"key": "spec.unschedulable", "operator": "In", "values": ["a"]}]), "matchFields[0].key"),
    (nodes(matchFields=[{"key": "metadata.name", "operator": "In", "values": ["a", "b"]}]), "matchFields[0].values"),
    ({"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": []}}}}, "nodeSelectorTerms"),
    ({"affinity": {"nodeAffinity": {PREFERRED: [{"weight": 0, "preference": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}]}}}, "weight"),
    (near(topologyKey="a b"), "topologyKey"),
    (near(labelSelector={"matchExpressions": [{"key": "a", "operator": "In"}]}), "values is required if operator is In or NotIn"),
    (near(namespaces=["Team"]), "namespaces[0]"),
    ({"affinity": {"podAntiAffinity": {PREFERRED: [{"weight": 101, "podAffinityTerm": {"topologyKey": "a"}}]}}}, "weight"),
    ({"topologySpreadConstraints": [{"topologyKey": "zone"}]}, "whenUnsatisfiable: Required value"),
    (spread(maxSkew=0), "maxSkew"),
    (spread(minDomains=2), "minDomains may only be set if whenUnsatisfiable is DoNotSchedule"),
    (spread(matchLabelKeys=["a"], labelSelector={"matchLabels": {"a": "b"}}), "matchLabelKeys must not name a label of labelSelector"),
    ({"topologySpreadConstraints": [*spread()["topologySpreadConstraints"], *spread(maxSkew=2)["topologySpreadConstraints"]]}, "duplicate entries for key"),
    ({"serviceAccountName": "My Account"}, "spec.pod.serviceAccountName"),
    ({"securityContext": {"runAsUser": 0}}, "spec.pod.securityContext.runAsUser"),
    ({"securityContext": {"runAsGroup": -1}}, "spec.pod.securityContext.runAsGroup"),
    ({"securityContext": {"fsGroup": 2**31}}, "spec.pod.securityContext.fsGroup"),
    ({"securityContext": {"fsGroupChangePolicy": "Never"}}, "spec.pod.securityContext.fsGroupChangePolicy"),
    ({"securityContext": {"supplementalGroups": [1, 1]}}, "spec.pod.securityContext.supplementalGroups: duplicate entries"),
    ({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}, "type"),
    ({"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}, "spec.pod.securityContext.sysctls[0].name"),
    ({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_fin_timeout", "value": ""}]}}, "spec.pod.securityContext.sysctls[0].value"),
    (volume(), "exactly one of persistentVolumeClaim, configMap, emptyDir, image and csi must be set"),
    (volume(emptyDir={}, configMap={"name": "b"}), "exactly one of persistentVolumeClaim, configMap, emptyDir, image and csi must be set"),
    (volume(hostPath={"path": "/"}), "hostPath"),
    (volume(secret={"secretName": "x"}), "secret"),
    (volume(persistentVolumeClaim={}), "claimName: Required value"),
    (volume(image={"reference": ""}), "spec.pod.volumes[0].image.reference"),
    (volume(image={"reference": "a b"}), "spec.pod.volumes[0].image.reference"),
    (volume(emptyDir={"medium": "Disk"}), "spec.pod.volumes[0].emptyDir.medium"),
    (volume(csi={"driver": "d.example", "nodePublishSecretRef": {"name": "x"}}), "nodePublishSecretRef"),
    (volume(configMap={"name": "m", "items": [{"key": "k", "path": "../x"}]}), "items[0].path"),
    (volume(configMap={"name": "m", "defaultMode": 512}), "defaultMode"),
    ({"volumes": [{"name": "models", "emptyDir": {}}]}, "are volumes of the operator; choose another name"),
    ({"volumes": [{"name": "keys-7", "emptyDir": {}}]}, "are volumes of the operator; choose another name"),
    ({"volumes": [{"name": "A", "emptyDir": {}}]}, "spec.pod.volumes[0].name"),
    ({"volumes": [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]}, "duplicate entries for key"),
    ({"ollamaVolumeMounts": [{"name": "a", "mountPath": "/a"}]}, "each name in ollamaVolumeMounts must be the name of a volume in volumes"),
    (mount("/models"), "and folders above or below them, cannot be mountPath"),
    (mount("/models/blobs"), "and folders above or below them, cannot be mountPath"),
    (mount("/home"), "and folders above or below them, cannot be mountPath"),
    (mount("/proc/1"), "and folders above or below them, cannot be mountPath"),
    *(
        (mount(path), "and folders above or below them, cannot be mountPath")
        for path in ("/bin/ollama", "/sbin", "/usr/bin", "/usr", "/lib/x", "/lib64", "/etc/ld.so.preload", "/var",
                     "/var/run/secrets/x", "/run/llmendpoint-gguf", "/run/secrets")
    ),
    *(
        ({"annotations": {key: "unconfined"}}, "annotations of AppArmor and seccomp profiles are not allowed")
        for key in ("container.apparmor.security.beta.kubernetes.io/ollama", "seccomp.security.alpha.kubernetes.io/pod",
                    "container.seccomp.security.alpha.kubernetes.io/metering")
    ),
    (mount("models"), "spec.pod.ollamaVolumeMounts[0].mountPath"),
    (mount("/"), "spec.pod.ollamaVolumeMounts[0].mountPath"),
    (mount("/a/"), "spec.pod.ollamaVolumeMounts[0].mountPath"),
    (mount("/a/../models"), "spec.pod.ollamaVolumeMounts[0].mountPath"),
    (mount("/a:b"), "spec.pod.ollamaVolumeMounts[0].mountPath"),
    (mount("/a", subPath="/b"), "spec.pod.ollamaVolumeMounts[0].subPath"),
    (mount("/a", subPath="b/.."), "spec.pod.ollamaVolumeMounts[0].subPath"),
]  # fmt: skip

NO_METADATA = "metadata is not supported: set spec.pod.labels and spec.pod.annotations instead"
TEMPLATES: list[tuple[dict[str, Any], str]] = [
    ({}, "spec.podTemplate.spec: Required value"),
    ({"spec": {}}, "spec.podTemplate.spec"),
    ({"spec": {"dnsPolicy": "None"}, "metadata": {"labels": {"a": "b"}}}, NO_METADATA),
    ({"spec": {"containers": [{"image": "a"}]}}, ".spec.podTemplate.spec.containers: element 0: associative list"),
    ({"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}, "duplicate entries for key"),
    ({"spec": {"containers": [{"name": "metering"}]}}, "the container metering cannot be changed; use spec.metering"),
    ({"spec": {"initContainers": [{"name": "metering"}]}}, "the container metering cannot be changed; use spec.metering"),
    ({"spec": {"containers": [{"name": "a"}]}}, "image is required for an additional container"),
    ({"spec": {"initContainers": [{"name": "a", "args": []}]}}, "image is required for an additional container"),
    ({"spec": {"containers": [{"name": "a", "image": ""}]}}, "spec.podTemplate.spec.containers[0].image"),
    ({"spec": {"containers": [{"name": "Upper_Case", "image": "b"}]}}, "spec.podTemplate.spec.containers[0].name"),
    ({"spec": {"volumes": [{"name": "a.b", "emptyDir": {}}]}}, "spec.podTemplate.spec.volumes[0].name"),
    ({"spec": {"containers": {"name": "a"}}}, "spec.podTemplate.spec.containers"),
    ({"spec": {"volumes": [{"name": "models", "emptyDir": {}}]}}, "are volumes of the operator; choose another name"),
    ({"spec": {"volumes": [{"name": "keys-0"}]}}, "are volumes of the operator; choose another name"),
]  # fmt: skip


@pytest.mark.parametrize(("pod", "sentence"), PODS)
def test_a_wrong_pod_is_refused_by_name(api: Any, pod: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ApiException, match=re.escape(sentence)):
        api.apply(endpoint("wrong", pod=pod))


@pytest.mark.parametrize(("template", "sentence"), TEMPLATES)
def test_a_wrong_template_is_refused_by_name(api: Any, template: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ApiException, match=re.escape(sentence)):
        api.apply(endpoint("wrong", podTemplate=template))


RIGHT: list[dict[str, Any]] = [
    label(operator="Gt", values=["3"]),
    near(labelSelector={}, namespaceSelector={}),
    spread(matchLabelKeys=["controller-revision-hash"]),
    {"topologySpreadConstraints": [*spread()["topologySpreadConstraints"],
                                   {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 2}]},
    {"securityContext": {"runAsUser": 1, "runAsGroup": 0, "fsGroup": 0, "supplementalGroups": [0]}},
    mount("/models2/.hidden/..x", subPath="a/...b"),
    mount("/opt/gguf"),
    mount("/usr2"),
    {"annotations": {"apparmor.security.beta.kubernetes.io": "x", "example.org/seccomp": "x"}},
    {"serviceAccountName": "a.b-c"},
]  # fmt: skip


@pytest.mark.parametrize("pod", RIGHT)
def test_what_kubernetes_accepts_is_accepted(api: Any, pod: dict[str, Any]) -> None:
    api.apply(endpoint("right", pod=pod))


def test_the_largest_lists_that_the_schema_allows_are_accepted(api: Any) -> None:
    """The cost of the CEL rules stays below the limit of the API server for an object."""
    expressions = [{"key": f"k-{n}.example.org/name", "operator": "In", "values": ["v" * 20] * 32} for n in range(16)]
    terms = [{"matchExpressions": expressions}] * 16
    selector = {
        "matchLabels": {f"k-{n}.example.org/name": "v" for n in range(16)},
        "matchExpressions": [{"key": f"k-{n}", "operator": "NotIn", "values": ["v" * 20] * 16} for n in range(16)],
    }
    pods = [{"topologyKey": "zone", "labelSelector": selector, "namespaceSelector": selector}] * 16
    names = [f"volume-with-a-rather-long-name-{n}" for n in range(32)]
    pod = {
        "affinity": {
            "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}},
            "podAffinity": {REQUIRED: pods},
            "podAntiAffinity": {REQUIRED: pods},
        },
        "topologySpreadConstraints": [
            {
                "topologyKey": f"zone-{n}",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": selector,
                "matchLabelKeys": [f"other-{m}" for m in range(8)],
            }
            for n in range(8)
        ],
        "volumes": [{"name": name, "emptyDir": {}} for name in names],
        "ollamaVolumeMounts": [{"name": name, "mountPath": f"/{'x' * 400}/{name}"} for name in names],
    }
    api.apply(endpoint("large", pod=pod))


@pytest.mark.parametrize("validation", ["Ignore", "Warn", "Strict"])
def test_metadata_of_a_template_is_refused_for_every_client(api: Any, validation: str) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"dnsPolicy": "Default"}}
    path = f"/apis/llmendpoint.dev/v1alpha1/namespaces/{api.namespace}/llmendpoints"
    with pytest.raises(ApiException, match=NO_METADATA):
        api.client.request("POST", path, [("fieldValidation", validation)], endpoint("wrong", podTemplate=template))


def test_every_field_is_accepted_and_kept(api: Any) -> None:
    spec = read_spec(GOLDEN, "everything")
    api.apply(endpoint("everything", **spec))
    stored = api.get("LLMEndpoint", "everything")["spec"]
    assert stored["podTemplate"] == spec["podTemplate"]
    assert stored["pod"]["affinity"] == spec["pod"]["affinity"]
    assert stored["pod"]["volumes"] == spec["pod"]["volumes"]


@pytest.mark.parametrize(
    "field",
    ["pod.affinity.podAntiAffinity", "pod.volumes.image", "pod.securityContext.sysctls", "podTemplate.spec.containers"],
)
def test_kubectl_explains_the_fields(kubectl: Kubectl, field: str) -> None:
    text = kubectl.ok("explain", f"llm.spec.{field}")
    assert "DESCRIPTION:" in text
    assert "<empty>" not in text
