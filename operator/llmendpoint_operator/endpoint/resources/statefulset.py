"""The StatefulSet: Ollama as a restartable init container, the metering proxy as the pod's main container."""

from __future__ import annotations

from typing import Any

from llmendpoint_common.api.endpoint import Gpu, LLMEndpointSpec, MeteringMode, StorageType
from llmendpoint_common.contracts.cluster import ENDPOINT_LABEL
from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, PROXY_PORT
from llmendpoint_operator.kube import pod_security
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.settings import Images

COMPONENT = "endpoint"
CONFIG_FILE = "models.json"
CLIENT_PORT = "proxy"
_MODELS_VOLUME = "models"
_KEYS_PATH = "/etc/llmendpoint-keys"
_MODELS_PATH = "/models"
_DRAIN_SECONDS = 5
# As many as an endpoint may declare: memory is the limit, and a new model must not restart the pods.
_MAX_LOADED_MODELS = 32


def selector(owner: Owner) -> dict[str, str]:
    """Return the labels that select an endpoint's pods; they never change."""
    return {ENDPOINT_LABEL: owner.name, "app.kubernetes.io/component": COMPONENT}


def statefulset(owner: Owner, spec: LLMEndpointSpec, images: Images) -> Manifest:
    """Return the StatefulSet of an endpoint.

    Parallel and not ordered: a GPU node rarely has a spare GPU, so each replica is replaced in its place.
    """
    policy = spec.storage.retention_policy
    return {
        **owner.child("StatefulSet", owner.name, COMPONENT),
        "spec": {
            "replicas": spec.wanted_replicas,
            "serviceName": f"{owner.name}-pods",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": selector(owner)},
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": policy.when_deleted.value,
                "whenScaled": policy.when_scaled.value,
            },
            "template": {
                "metadata": _pod_metadata(spec, owner.labels(COMPONENT)),
                "spec": _pod(owner, spec, images),
            },
            **_claim_templates(spec),
        },
    }


def _pod_metadata(spec: LLMEndpointSpec, labels: dict[str, str]) -> Manifest:
    annotations = {**spec.pod.annotations, "kubectl.kubernetes.io/default-container": "metering"}
    return {"labels": {**spec.pod.labels, **labels}, "annotations": annotations}


def _pod(owner: Owner, spec: LLMEndpointSpec, images: Images) -> Manifest:
    gpu = spec.wanted_gpu
    pod: Manifest = {
        "serviceAccountName": owner.name,
        "automountServiceAccountToken": False,
        # Service links would put LLMENDPOINT_… variables of a Service of that name into the sidecar's settings.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": spec.pod.termination_grace_period_seconds,
        "securityContext": pod_security.pod_security_context(),
        "initContainers": [_ollama(spec, images)],
        "containers": [_metering(spec, images)],
        "volumes": _volumes(owner, spec),
        **pod_security.placement(spec.pod.node_selector, spec.pod.tolerations, spec.pod.priority_class_name),
        **pod_security.pull_secrets(spec.pod.image_pull_secrets, images.pull_secrets),
    }
    if gpu.runtime_class_name:
        pod["runtimeClassName"] = gpu.runtime_class_name
    if gpu.products:
        pod["affinity"] = _product_affinity(gpu)
    return pod


def _ollama(spec: LLMEndpointSpec, images: Images) -> Manifest:
    gpu = spec.wanted_gpu
    devices = {gpu.resource: str(gpu.count)} if gpu.count else {}
    # It listens on loopback, so only a command inside can ask it.
    asked = {"exec": {"command": ["ollama", "list"]}}
    exporter = spec.metering.mode is MeteringMode.EXPORTER
    port = {"name": CLIENT_PORT, "containerPort": OLLAMA_PORT, "protocol": "TCP"}
    return {
        "name": "ollama",
        "image": spec.ollama.image or images.ollama,
        "imagePullPolicy": images.ollama_pull_policy,
        "restartPolicy": "Always",
        "args": ["serve"],
        **({"ports": [port]} if exporter else {}),
        "env": _ollama_environment(spec),
        "resources": pod_security.resources(spec.ollama.resources, {"cpu": "500m", "memory": "1Gi"} | devices, devices),
        "securityContext": pod_security.container_security_context(),
        "startupProbe": {**asked, "periodSeconds": 2, "failureThreshold": 150, "timeoutSeconds": 5},
        "livenessProbe": {**asked, "periodSeconds": 30, "failureThreshold": 10, "timeoutSeconds": 20},
        "volumeMounts": [
            {"name": _MODELS_VOLUME, "mountPath": _MODELS_PATH},
            {"name": "home", "mountPath": "/home/ollama"},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an empty volume of the pod
        ],
    }


def _ollama_environment(spec: LLMEndpointSpec) -> list[Manifest]:
    ollama = spec.ollama
    # On loopback nothing passes the meter by; an exporter leaves the port to clients.
    host = "0.0.0.0" if spec.metering.mode is MeteringMode.EXPORTER else "127.0.0.1"
    variables: dict[str, str | int | None] = {
        "OLLAMA_HOST": f"{host}:{OLLAMA_PORT}",
        "OLLAMA_MODELS": _MODELS_PATH,
        "HOME": "/home/ollama",
        "OLLAMA_NUM_PARALLEL": ollama.num_parallel,
        "OLLAMA_MAX_LOADED_MODELS": ollama.max_loaded_models or _MAX_LOADED_MODELS,
        "OLLAMA_MAX_QUEUE": ollama.max_queue,
        "OLLAMA_CONTEXT_LENGTH": ollama.context_length,
        "OLLAMA_KEEP_ALIVE": ollama.keep_alive,
        "OLLAMA_FLASH_ATTENTION": None if ollama.flash_attention is None else int(ollama.flash_attention),
        "OLLAMA_KV_CACHE_TYPE": ollama.kv_cache_type.value if ollama.kv_cache_type else None,
    }
    given = {variable.name: variable.value for variable in ollama.env}
    merged = {name: str(value) for name, value in variables.items() if value is not None} | given
    return [{"name": name, "value": value} for name, value in merged.items()]


def _metering(spec: LLMEndpointSpec, images: Images) -> Manifest:
    drain = max(1, spec.pod.termination_grace_period_seconds - _DRAIN_SECONDS - 2)
    exporter = spec.metering.mode is MeteringMode.EXPORTER
    ports = [] if exporter else [{"name": CLIENT_PORT, "containerPort": PROXY_PORT, "protocol": "TCP"}]
    return {
        "name": "metering",
        "image": spec.metering.image or images.sidecar,
        "imagePullPolicy": images.sidecar_pull_policy,
        "args": [
            *(["--exporter"] if exporter else [f"--listen=:{PROXY_PORT}", *_policy_arguments(spec)]),
            f"--admin-listen=:{ADMIN_PORT}",
            f"--upstream=http://127.0.0.1:{OLLAMA_PORT}",
            f"--config=/etc/llmendpoint/{CONFIG_FILE}",
            f"--parallel={spec.ollama.num_parallel}",
            f"--drain-delay={_DRAIN_SECONDS}s",
            f"--drain-timeout={drain}s",
        ],
        "ports": [
            *ports,
            {"name": "metrics", "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        "resources": pod_security.resources(
            spec.metering.resources, {"cpu": "100m", "memory": "96Mi"}, {"memory": "512Mi"}
        ),
        "securityContext": pod_security.container_security_context(),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "livenessProbe": _probe("/livez", period=10, failures=6),
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/llmendpoint", "readOnly": True},
            *({"name": f"keys-{index}", "mountPath": path, "readOnly": True} for index, path in _key_paths(spec)),
        ],
    }


def _policy_arguments(spec: LLMEndpointSpec) -> list[str]:
    times = spec.metering.timeouts
    given = (
        []
        if times is None
        else [
            f"--connect-timeout={times.connect}",
            f"--first-byte-timeout={times.first_byte}",
            f"--idle-timeout={times.idle}",
        ]
    )
    return [*given, *(f"--keys={path}" for _, path in _key_paths(spec))]


def _key_paths(spec: LLMEndpointSpec) -> list[tuple[int, str]]:
    """Return where the Secrets with keys are mounted; kubelet swaps their content when they change."""
    references = spec.metering.auth.secret_refs if spec.metering.auth else []
    return [(index, f"{_KEYS_PATH}/{index}") for index in range(len(references))]


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "metrics"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 3,
    }


def _product_affinity(gpu: Gpu) -> Manifest:
    expression = {"key": "nvidia.com/gpu.product", "operator": "In", "values": list(gpu.products)}
    terms = [{"matchExpressions": [expression]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _volumes(owner: Owner, spec: LLMEndpointSpec) -> list[Manifest]:
    volumes: list[Manifest] = [
        {"name": "config", "configMap": {"name": owner.name}},
        {"name": "home", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
    ]
    for index, reference in enumerate(spec.metering.auth.secret_refs if spec.metering.auth else []):
        # Optional: a Secret that is not there yet lets nobody in, and does not keep the pod from starting.
        volumes.append({"name": f"keys-{index}", "secret": {"secretName": reference.name, "optional": True}})
    storage = spec.storage
    if storage.type is StorageType.EXISTING_CLAIM:
        volumes.append({"name": _MODELS_VOLUME, "persistentVolumeClaim": {"claimName": storage.claim_name}})
    elif storage.type is StorageType.EPHEMERAL:
        bound: dict[str, Any] = {"sizeLimit": storage.size_limit} if storage.size_limit else {}
        volumes.append({"name": _MODELS_VOLUME, "emptyDir": bound})
    return volumes


def _claim_templates(spec: LLMEndpointSpec) -> Manifest:
    storage = spec.storage
    if storage.type is not StorageType.PERSISTENT_VOLUME_CLAIM:
        return {}
    claim: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage.size or "50Gi"}},
    }
    if storage.storage_class_name:
        claim["storageClassName"] = storage.storage_class_name
    # The API server fills in kind and version: without them here each apply would be a difference.
    template = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": _MODELS_VOLUME},
        "spec": claim,
    }
    return {"volumeClaimTemplates": [template]}
