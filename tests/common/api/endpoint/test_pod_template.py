"""What `spec.podTemplate` may contain, and the sentences about what it may not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmendpoint_common.api.endpoint.pod_template import MAX_TEMPLATE_BYTES
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec, parse_spec
from llmendpoint_common.api.endpoint.template.containers import AddedInitContainer, ContainerSecurity, OllamaAddition
from llmendpoint_common.api.endpoint.template.part import Part
from llmendpoint_common.api.endpoint.template.pod import PodSpec
from llmendpoint_common.api.endpoint.template.volumes import TemplateVolume
from llmendpoint_common.contracts.pod import OLLAMA_FOLDERS, VOLUME_PREFIXES, VOLUMES

#: The fields in `k8s.io/api/core/v1` of Kubernetes 1.35 (the JSON names of the Go structs).
POD_SPEC = [
    "volumes",
    "initContainers",
    "containers",
    "ephemeralContainers",
    "restartPolicy",
    "terminationGracePeriodSeconds",
    "activeDeadlineSeconds",
    "dnsPolicy",
    "nodeSelector",
    "serviceAccountName",
    "serviceAccount",
    "automountServiceAccountToken",
    "nodeName",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "shareProcessNamespace",
    "securityContext",
    "imagePullSecrets",
    "hostname",
    "subdomain",
    "affinity",
    "schedulerName",
    "tolerations",
    "hostAliases",
    "priorityClassName",
    "priority",
    "dnsConfig",
    "readinessGates",
    "runtimeClassName",
    "enableServiceLinks",
    "preemptionPolicy",
    "overhead",
    "topologySpreadConstraints",
    "setHostnameAsFQDN",
    "os",
    "hostUsers",
    "schedulingGates",
    "resourceClaims",
    "resources",
    "hostnameOverride",
    "workloadRef",
]
CONTAINER = [
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "ports",
    "envFrom",
    "env",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "volumeMounts",
    "volumeDevices",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
]
SECURITY_CONTEXT = [
    "capabilities",
    "privileged",
    "seLinuxOptions",
    "windowsOptions",
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "readOnlyRootFilesystem",
    "allowPrivilegeEscalation",
    "procMount",
    "seccompProfile",
    "appArmorProfile",
]
VOLUME = [
    "name",
    "hostPath",
    "emptyDir",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "persistentVolumeClaim",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "downwardAPI",
    "fc",
    "azureFile",
    "configMap",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "projected",
    "portworxVolume",
    "scaleIO",
    "storageos",
    "csi",
    "ephemeral",
    "image",
]


def problems(template: Any) -> dict[str, str]:
    """Return what is said about a template, by the path of the field."""
    try:
        parse_spec({"spec": {"models": [{"name": "tiny:latest"}], "podTemplate": template}})
    except ValidationError as error:
        return {".".join(map(str, each["loc"])): each["msg"] for each in error.errors()}
    return {}


def refused(**spec: Any) -> dict[str, str]:
    """Return what is said about the spec of a template, by the path below it."""
    prefix = "podTemplate.spec."
    return {path.removeprefix(prefix): text for path, text in problems({"spec": spec}).items()}


def test_a_wrong_value_is_refused_in_plain_words() -> None:
    wrong = {"containers": [{"name": "a", "env": {}, "securityContext": {"runAsUser": 0}}], "dnsPolicy": "Never"}
    assert refused(**wrong) == {
        "containers.0.image": "required",
        "containers.0.env": "must be a list",
        "containers.0.securityContext.runAsUser": "must be at least 1",
        "dnsPolicy": "must be 'ClusterFirst', 'Default' or 'None'",
    }


def container(**fields: Any) -> dict[str, Any]:
    return {"name": "agent", "image": "agent:1", **fields}


OTHER_FIELDS: list[tuple[str, str]] = [
    ("affinity", "spec.pod.affinity"),
    ("imagePullSecrets", "spec.pod.imagePullSecrets"),
    ("nodeSelector", "spec.pod.nodeSelector"),
    ("priorityClassName", "spec.pod.priorityClassName"),
    ("resourceClaims", "spec.gpu.resourceClaims"),
    ("runtimeClassName", "spec.gpu.runtimeClassName"),
    ("securityContext", "spec.pod.securityContext"),
    ("serviceAccount", "spec.pod.serviceAccountName"),
    ("serviceAccountName", "spec.pod.serviceAccountName"),
    ("terminationGracePeriodSeconds", "spec.pod.terminationGracePeriodSeconds"),
    ("tolerations", "spec.pod.tolerations"),
    ("topologySpreadConstraints", "spec.pod.topologySpreadConstraints"),
]


@pytest.mark.parametrize(("field", "other"), OTHER_FIELDS)
def test_a_field_that_the_spec_has_is_set_there(field: str, other: str) -> None:
    assert refused(**{field: {}}) == {field: f"set {other} instead"}
    model: Any = LLMEndpointSpec
    *parents, name = other.split(".")[1:]
    for parent in parents:
        kind: Any = next(each.annotation for each in model.model_fields.values() if each.alias == parent)
        model = getattr(kind, "__args__", (kind,))[0]
    assert name in {each.alias for each in model.model_fields.values()}


@pytest.mark.parametrize(
    ("model", "names", "allowed"),
    [
        (
            PodSpec,
            POD_SPEC,
            {
                *("containers", "initContainers", "volumes", "dnsConfig", "dnsPolicy", "hostAliases", "hostUsers"),
                *("readinessGates", "resources", "schedulerName", "schedulingGates", "setHostnameAsFQDN"),
            },
        ),
        (OllamaAddition, CONTAINER, {"name", "env", "volumeMounts", "volumeDevices", "resizePolicy"}),
        (AddedInitContainer, CONTAINER, {*CONTAINER} - {"restartPolicyRules", "stdin", "stdinOnce", "tty"}),
        (ContainerSecurity, SECURITY_CONTEXT, {"runAsUser", "runAsGroup", "readOnlyRootFilesystem"}),
        (
            TemplateVolume,
            VOLUME,
            {
                *("name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "projected"),
                "persistentVolumeClaim",
            },
        ),
    ],
)
def test_only_these_fields_are_allowed(model: type[Part], names: list[str], allowed: set[str]) -> None:
    """Every other field of Kubernetes 1.35 is refused, and so are those that it does not know."""
    assert {field.alias for field in model.model_fields.values()} == allowed
    for name in {*names, "fieldOfTheFuture"} - allowed:
        with pytest.raises(ValidationError) as caught:
            model.model_validate({name: {}})
        assert name in {each["loc"][0] for each in caught.value.errors()}


def test_the_documentation_names_what_is_allowed() -> None:
    text = (Path(__file__).parents[4] / "docs/pods.md").read_text()
    rows = {row.split("|")[1].strip(): row for row in text.splitlines() if row.startswith("| ")}
    for name, model in (
        ("pod", PodSpec),
        ("container `ollama` (in `initContainers`)", OllamaAddition),
        ("volumes", TemplateVolume),
    ):
        allowed = {field.alias for field in model.model_fields.values()} - {"name"}
        assert set(re.findall(r"`(\w+)`", rows[name].split("|")[2])) == allowed
    for folder in OLLAMA_FOLDERS:
        assert f"`{folder}`" in text
    for volume in (*VOLUMES, *VOLUME_PREFIXES):
        assert f"`{volume}`" in text


#: Paths at which a mount could replace a program or its configuration, with the folder that is named.
PROGRAMS = {
    "/bin/ollama": "/bin",
    "/usr/lib/ollama": "/usr",
    "/lib64": "/lib64",
    "/etc/ld.so.preload": "/etc",
    "/var": "/var/run",
    "/var/run/secrets": "/var/run",
}
PATHS_TO_THE_METER: list[tuple[dict[str, Any], dict[str, str]]] = [
    (
        {"hostNetwork": True, "shareProcessNamespace": True},
        {
            "hostNetwork": "not allowed by the restricted Pod Security Standard",
            "shareProcessNamespace": "not allowed: other containers could read the API keys in the sidecar's memory",
        },
    ),
    (
        {"initContainers": [{"name": "metering", "image": "x"}]},
        {"initContainers.0.name": "the container metering cannot be changed; use spec.metering"},
    ),
    (
        {"initContainers": [{"name": "ollama", "args": ["serve"], "image": "x", "securityContext": {}}]},
        {
            "initContainers.0.args": "set by the operator, and cannot be changed",
            "initContainers.0.image": "set spec.ollama.image instead",
            "initContainers.0.securityContext": "set by the operator, and cannot be changed",
        },
    ),
    (
        {"containers": [container(name="ollama")]},
        {"containers.0.name": "ollama is an init container; add to it in initContainers"},
    ),
    (
        {"containers": [container(ports=[{"name": "proxy", "containerPort": 11435}])]},
        {
            "containers.0.ports.0.containerPort": "11435 is the port of the proxy",
            "containers.0.ports.0.name": "proxy is a port of the operator; choose another name",
        },
    ),
    (
        {"containers": [container(ports=[{"containerPort": 80, "hostPort": 80}])]},
        {"containers.0.ports.0.hostPort": "not allowed by the restricted Pod Security Standard"},
    ),
    (
        {"containers": [container(volumeMounts=[{"name": "keys-0", "mountPath": "/keys"}])]},
        {
            "containers.0.volumeMounts.0.name": "keys-0 is a volume of the operator; of these, only models can be mounted",
        },
    ),
    (
        {"initContainers": [{"name": "ollama", "volumeMounts": [{"name": "a", "mountPath": "/models/blobs"}]}]},
        {"initContainers.0.volumeMounts.0.mountPath": "/models/blobs hides /models, or is in it"},
    ),
    *(
        (
            {"initContainers": [{"name": "ollama", "volumeMounts": [{"name": "a", "mountPath": path}]}]},
            {"initContainers.0.volumeMounts.0.mountPath": f"{path} hides {folder}, or is in it"},
        )
        for path, folder in PROGRAMS.items()
    ),
    (
        {
            "initContainers": [
                {"name": "ollama", "lifecycle": {"postStart": {"exec": {"command": ["ollama", "serve"]}}}}
            ]
        },
        {
            "initContainers.0.lifecycle": "not supported for Ollama: a hook could start a second Ollama that is not "
            "metered. Use an additional container"
        },
    ),
    *(
        (
            {"initContainers": [{"name": "ollama", "env": [{"name": name, "value": "/x.so"}]}]},
            {
                "initContainers.0.env.0.name": f"{name} is not allowed, because it loads code into the Ollama that is metered"
            },
        )
        for name in ("LD_AUDIT", "LD_PRELOAD")
    ),
    (
        {"initContainers": [{"name": "ollama", "volumeMounts": [{"name": "home", "mountPath": "/x"}]}]},
        {"initContainers.0.volumeMounts.0.name": "home is a volume of the operator"},
    ),
    (
        {"volumes": [{"name": "config", "emptyDir": {}}]},
        {"volumes.0.name": "config is a volume of the operator; choose another name"},
    ),
]


@pytest.mark.parametrize(("spec", "sentences"), PATHS_TO_THE_METER)
def test_what_leads_past_the_meter_is_refused(spec: dict[str, Any], sentences: dict[str, str]) -> None:
    assert refused(**spec) == sentences


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("OLLAMA_NUM_PARALLEL", "OLLAMA_NUM_PARALLEL: set spec.ollama.numParallel instead"),
        ("OLLAMA_CONTEXT_LENGTH", "OLLAMA_CONTEXT_LENGTH: set spec.ollama.contextLength instead"),
        ("SSL_CERT_FILE", "SSL_CERT_FILE: set spec.ollama.caBundleRef instead, or the variable in spec.ollama.env"),
    ],
)
def test_a_variable_that_the_spec_can_set_is_refused(name: str, sentence: str) -> None:
    found = refused(initContainers=[{"name": "ollama", "env": [{"name": name, "value": "1"}]}])
    assert found == {"initContainers.0.env.0.name": sentence}
    # Other containers have nothing to do with these settings.
    assert refused(containers=[container(env=[{"name": name, "value": "1"}])]) == {}


SECRETS: list[tuple[dict[str, Any], str]] = [
    ({"volumes": [{"name": "a", "secret": {"secretName": "x"}}]}, "volumes.0.secret"),
    (
        {"volumes": [{"name": "a", "projected": {"sources": [{"secret": {"name": "x"}}]}}]},
        "volumes.0.projected.sources.0.secret",
    ),
    (
        {"volumes": [{"name": "a", "csi": {"driver": "d.example", "nodePublishSecretRef": {"name": "x"}}}]},
        "volumes.0.csi.nodePublishSecretRef",
    ),
    (
        {"containers": [container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}])]},
        "containers.0.env.0.valueFrom.secretKeyRef",
    ),
    (
        {"initContainers": [{"name": "ollama", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {}}}]}]},
        "initContainers.0.env.0.valueFrom.secretKeyRef",
    ),
    ({"containers": [container(envFrom=[{"secretRef": {"name": "x"}}])]}, "containers.0.envFrom.0.secretRef"),
]


@pytest.mark.parametrize(("spec", "path"), SECRETS)
def test_a_secret_is_refused_wherever_it_is(spec: dict[str, Any], path: str) -> None:
    assert refused(**spec) == {
        path: "not allowed: Secrets reach the pods only through metering.auth and pod.imagePullSecrets"
    }


def test_a_token_is_refused() -> None:
    token = {"name": "a", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    assert refused(volumes=[token], automountServiceAccountToken=True) == {
        "automountServiceAccountToken": "set by the operator, and cannot be changed: the pods have no token of their "
        "ServiceAccount",
    }
    assert refused(volumes=[token]) == {
        "volumes.0.projected.sources.0.serviceAccountToken": "not allowed: the pods have no token of their "
        "ServiceAccount",
    }


@pytest.mark.parametrize(
    "context",
    [
        {"privileged": True},
        {"allowPrivilegeEscalation": True},
        {"runAsNonRoot": False},
        {"capabilities": {"add": ["NET_ADMIN"]}},
        {"seccompProfile": {"type": "Unconfined"}},
        {"procMount": "Unmasked"},
        {"runAsUser": 0},
    ],
)
def test_a_container_cannot_be_weakened(context: dict[str, Any]) -> None:
    (name,) = context
    assert list(refused(containers=[container(securityContext=context)])) == [f"containers.0.securityContext.{name}"]


@pytest.mark.parametrize(
    "probe", [{"httpGet": {"port": 80, "host": "example.com"}}, {"tcpSocket": {"port": 80, "host": "example.com"}}]
)
def test_a_probe_cannot_reach_other_hosts(probe: dict[str, Any]) -> None:
    (kind,) = probe
    assert list(refused(containers=[container(readinessProbe=probe)])) == [f"containers.0.readinessProbe.{kind}.host"]
    assert list(refused(containers=[container(lifecycle={"preStop": probe})])) == [
        f"containers.0.lifecycle.preStop.{kind}.host"
    ]


REMOVALS: list[tuple[dict[str, Any], str]] = [
    ({"dnsConfig": None}, "dnsConfig"),
    ({"dnsConfig": {"$patch": "replace"}}, "dnsConfig.$patch"),
    ({"containers": [{"name": "metering", "$patch": "delete"}]}, "containers.0.$patch"),
    ({"$setElementOrder/containers": []}, "$setElementOrder/containers"),
    ({"initContainers": [{"name": "ollama", "env": [{"name": "A", "value": None}]}]}, "initContainers.0.env.0.value"),
]


@pytest.mark.parametrize(("spec", "path"), REMOVALS)
def test_a_template_cannot_remove_anything(spec: dict[str, Any], path: str) -> None:
    (found,) = refused(**spec).items()
    assert found[0] == path
    assert found[1].endswith("podTemplate can add to the pod, but not remove fields from it")


ONLY_OLLAMA = "set spec.gpu.count instead: only Ollama has GPUs, which the status and the costs count"


@pytest.mark.parametrize("field", ["requests", "limits"])
@pytest.mark.parametrize("name", ["nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "amd.com/gpu", "gpu.intel.com/xe"])
def test_only_ollama_has_gpus(field: str, name: str) -> None:
    resources = {field: {"cpu": 1, name: 1}}
    spec = {"containers": [container(), container(name="other", resources=resources)], "resources": resources,
            "initContainers": [container(name="first", resources=resources)]}  # fmt: skip
    paths = ("containers.1", "initContainers.0", "")
    assert refused(**spec) == {f"{path}.resources.{field}.{name}".lstrip("."): ONLY_OLLAMA for path in paths}


def test_a_gpu_of_any_vendor_is_known_by_gpu_resource() -> None:
    template = {"spec": {"containers": [container(resources={"limits": {"example.com/gpu": 1}})]}}
    models = [{"name": "tiny:latest"}]
    with pytest.raises(ValidationError, match=re.escape(ONLY_OLLAMA)):
        parse_spec({"spec": {"models": models, "gpu": {"resource": "example.com/gpu"}, "podTemplate": template}})
    assert problems(template) == {}


def test_a_resource_of_a_device_class_is_a_claim() -> None:
    name = "deviceclass.resource.kubernetes.io/gpu.nvidia.com"
    assert refused(containers=[container(resources={"limits": {name: 1}})]) == {
        f"containers.0.resources.limits.{name}": "not supported in podTemplate; spec.gpu.resourceClaims gives claims to "
        "Ollama"
    }


def test_names_are_used_once() -> None:
    twice = [container(), container(name="agent")]
    assert refused(containers=twice) == {"containers.1.name": "agent is the name of another item"}
    assert refused(initContainers=[container()], containers=[container()]) == {
        "initContainers.0.name": "agent is the name of another item"
    }
    assert refused(volumes=[{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]) == {
        "volumes.1.name": "a is the name of another item"
    }


def test_a_volume_has_one_type() -> None:
    sentence = {"volumes.0": "needs exactly one type, for example emptyDir or persistentVolumeClaim"}
    assert refused(volumes=[{"name": "a"}]) == sentence
    assert refused(volumes=[{"name": "a", "emptyDir": {}, "configMap": {"name": "b"}}]) == sentence


@pytest.mark.parametrize("limit", [0, "0", "0Gi"])
def test_a_limit_that_kubernetes_ignores_is_refused(limit: Any) -> None:
    assert refused(volumes=[{"name": "a", "emptyDir": {"sizeLimit": limit}}]) == {
        "volumes.0.emptyDir.sizeLimit": "must be greater than zero, because Kubernetes ignores a limit of 0"
    }
    assert refused(volumes=[{"name": "a", "emptyDir": {"sizeLimit": "1Mi"}}]) == {}


def test_labels_and_annotations_have_fields_in_the_spec() -> None:
    assert problems({"metadata": {"labels": {"a": "b"}}, "spec": {"dnsPolicy": "None"}}) == {
        "podTemplate.metadata": "not supported: set spec.pod.labels and spec.pod.annotations instead"
    }


def test_the_size_and_the_depth_are_limited() -> None:
    text = "x" * MAX_TEMPLATE_BYTES
    assert problems({"spec": {"dnsConfig": {"searches": [text]}}}) == {
        "podTemplate": f"Value error, must have at most {MAX_TEMPLATE_BYTES} bytes as JSON"
    }
    deep: Any = "x"
    for _ in range(2000):
        deep = {"a": deep}
    assert problems({"spec": {"dnsConfig": deep}}) == {
        "podTemplate.spec.dnsConfig": "more than 24 levels are not supported"
    }


@pytest.mark.parametrize("value", ["text", 7, True, [], {}, [None], [[]], {"name": 1}, [{"name": {}}]])
@pytest.mark.parametrize("field", ["containers", "initContainers", "volumes", "dnsConfig", "hostAliases"])
def test_a_value_of_another_type_is_an_error_with_a_path(field: str, value: Any) -> None:
    """Nothing else is raised, whatever the template is."""
    assert all(path.startswith(field) for path in refused(**{field: value}))


def test_what_a_template_is_for_is_allowed() -> None:
    spec = {
        "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
        "dnsPolicy": "None",
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["registry.example"]}],
        "hostUsers": False,
        "readinessGates": [{"conditionType": "example.com/ready"}],
        "resources": {"limits": {"cpu": "8"}},
        "schedulerName": "volcano",
        "schedulingGates": [{"name": "example.com/quota"}],
        "setHostnameAsFQDN": True,
        "volumes": [
            {"name": "a", "projected": {"sources": [{"configMap": {"name": "x"}}, {"downwardAPI": {"items": []}}]}},
            {"name": "b", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
            {"name": "c", "csi": {"driver": "models.example", "volumeAttributes": {"a": "b"}}},
        ],
        "initContainers": [
            {
                "name": "ollama",
                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y"}}}],
                "volumeMounts": [{"name": "a", "mountPath": "/a", "subPathExpr": "$(A)"}],
            },
            {"name": "first", "image": "busybox:1", "restartPolicy": "Always"},
        ],
        "containers": [
            container(
                resources={"limits": {"cpu": 1, "rdma/hca": 1}},
                env=[{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                ports=[{"name": "http", "containerPort": 8080}],
                readinessProbe={"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 5},
                securityContext={"readOnlyRootFilesystem": False, "runAsUser": 1000, "runAsGroup": 0},
                volumeMounts=[{"name": "models", "mountPath": "/models", "readOnly": True}],
            )
        ],
    }
    assert refused(**spec) == {}
