"""Typed models of LLMEndpoint: the source of its CustomResourceDefinition, and the spec that the operator reads.

`spec.metering`, `spec.storage` and the status are in modules of their own. `kubectl explain` shows the descriptions.
Readers see each one without the others, so it names the unit, the default, and the effect of an absent field.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from llmendpoint_common.api import defaults
from llmendpoint_common.api.endpoint_status import LLMEndpointStatus
from llmendpoint_common.api.fields import (
    TAGGED_MODEL_PATTERN,
    Annotations,
    ApiModel,
    Duration,
    EnvironmentVariable,
    Image,
    Labels,
    LabelValue,
    LocalReference,
    ObjectName,
    Resources,
    Toleration,
    list_map,
    rules,
)
from llmendpoint_common.api.metering import Metering
from llmendpoint_common.api.storage import RetentionAction, Storage, StorageType
from llmendpoint_common.contracts.ollama import model_key
from llmendpoint_common.contracts.sidecar import Load

_TAGGED = (
    f"self.matches('{TAGGED_MODEL_PATTERN}')",
    "write the model with its tag, for example llama3.2:3b or tiny:latest",
)
# Ollama compares names without regard to case, and leaves out its default host and namespace.
# `contracts.ollama.model_key` does the same; the operator checks it too, because a CEL rule does not know every
# notation.
_KEYS = (
    "self.map(m, m.name.lowerAscii())"
    ".map(n, n.matches('^registry[.]ollama[.]ai/[^/]+/[^/]+$') ? n.substring(19) : n)"
    ".map(n, n.startsWith('library/') ? n.substring(8) : n)"
)
_ONE_MODEL_EACH = (
    f"{_KEYS}.all(n, {_KEYS}.exists_one(o, o == n))",
    "two names are one model for Ollama, which ignores case and the namespace library",
)
_OLLAMA_DEFAULT = "If absent, Ollama's own default applies."


class RegistrySource(ApiModel):
    """A registry from which a model is pulled."""

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+(:[0-9]{1,5})?$", max_length=253)] = Field(
        description="Host of the registry, with an optional port and without a scheme, for example "
        "registry.example:5000."
    )
    repository: Annotated[str, Field(pattern=r"^[a-z0-9._-]+(/[a-z0-9._-]+)*(:[A-Za-z0-9._-]+)?$", max_length=253)] = (
        Field(
            description="Repository in the registry, for example library/llama3.2. If it has no tag, the tag of the "
            "model's name is used."
        )
    )
    insecure: bool = Field(
        False, description="Allows plain HTTP, and certificates that cannot be verified. Defaults to false."
    )


class ModelSource(ApiModel):
    """Origin of a model."""

    registry: RegistrySource = Field(
        description="Registry from which the model is pulled. The pulled model is then copied to the name in the field "
        "name. Ollama sends no credentials, so the registry must allow anonymous pulls."
    )


class Model(ApiModel):
    """A model that every replica serves."""

    name: Annotated[str, Field(min_length=3, max_length=253, json_schema_extra=rules(_TAGGED))] = Field(
        description="Name that clients use for the model, with its tag, for example llama3.2:3b."
    )
    load: Load = Field(
        defaults.LOAD,
        description="Preload loads the model into memory before a replica becomes ready, and keeps it there. OnDemand "
        f"loads it on the first request. Defaults to {defaults.LOAD}.",
    )
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = Field(
        None,
        description="Required digest of the model's manifest: sha256: and 64 hexadecimal digits. If the model has "
        "another digest, ModelsAvailable is False with reason DigestMismatch. If absent, every digest is accepted.",
    )
    source: ModelSource | None = Field(
        None,
        description="Origin of the model. If absent, the model is pulled by its name: from the registry whose host is "
        "part of the name, otherwise from Ollama's public registry.",
    )


class Gpu(ApiModel):
    """GPUs of one replica."""

    count: int = Field(
        defaults.GPU_COUNT,
        ge=0,
        le=64,
        description="Number of GPUs per replica. Set to 0 to run the models on the CPU. "
        f"Defaults to {defaults.GPU_COUNT}.",
    )
    resource: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$", max_length=128)] = Field(
        defaults.GPU_RESOURCE,
        description="Extended resource that the GPU's device plugin advertises, for example amd.com/gpu. "
        f"Defaults to {defaults.GPU_RESOURCE}.",
    )
    products: list[LabelValue] = Field(
        default_factory=list,
        max_length=32,
        description="GPU products that are accepted, for example NVIDIA-H200. Pods only run on nodes whose label "
        "nvidia.com/gpu.product has one of these values. If empty, every product is accepted.",
    )
    runtime_class_name: ObjectName | None = Field(
        None,
        description="RuntimeClass of the pods, for example nvidia. If absent, the cluster's default runtime is used.",
    )
    require_full_offload: bool = Field(
        False,
        description="If true, a replica becomes ready only when each preloaded model is entirely in GPU memory. "
        "If false, a part of a model may run on the CPU. Defaults to false.",
    )


class CacheType(StrEnum):
    """Types of Ollama's key-value cache."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


class OllamaSettings(ApiModel):
    """Settings of the Ollama container. Most are environment variables of Ollama."""

    image: Image | None = Field(
        None,
        description="Image of the Ollama container. If absent, the image set with the operator's flag --ollama-image "
        "is used.",
    )
    num_parallel: int = Field(
        defaults.NUM_PARALLEL,
        ge=1,
        le=1024,
        description="Number of requests that each model runs at the same time, per replica (OLLAMA_NUM_PARALLEL). A "
        f"higher number uses more memory. Defaults to {defaults.NUM_PARALLEL}.",
    )
    max_loaded_models: int | None = Field(
        None,
        ge=1,
        le=128,
        description="Maximum number of models in memory at the same time, per replica (OLLAMA_MAX_LOADED_MODELS). "
        f"Defaults to {defaults.MAX_LOADED_MODELS}.",
    )
    max_queue: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Maximum number of requests that wait in Ollama until their model is loaded, per replica "
        f"(OLLAMA_MAX_QUEUE). {_OLLAMA_DEFAULT}",
    )
    context_length: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="Context length in tokens, for requests that do not set one (OLLAMA_CONTEXT_LENGTH). "
        f"{_OLLAMA_DEFAULT}",
    )
    keep_alive: Duration | None = Field(
        None,
        description="Time that an OnDemand model stays in memory after its last request, as a duration such as 30m "
        f"(OLLAMA_KEEP_ALIVE). {_OLLAMA_DEFAULT}",
    )
    flash_attention: bool | None = Field(
        None, description=f"Whether Ollama uses flash attention (OLLAMA_FLASH_ATTENTION). {_OLLAMA_DEFAULT}"
    )
    kv_cache_type: CacheType | None = Field(
        None,
        description="Type of the key-value cache (OLLAMA_KV_CACHE_TYPE). q8_0 and q4_0 use less memory than f16, and "
        f"require flash attention. {_OLLAMA_DEFAULT}",
    )
    env: list[EnvironmentVariable] = Field(
        default_factory=list,
        max_length=64,
        description="Additional environment variables of the Ollama container. OLLAMA_HOST, OLLAMA_MODELS and HOME are "
        "not allowed, because the operator sets them. Other variables override those that the operator derives from "
        "the fields of spec.ollama. Do not set OLLAMA_NUM_PARALLEL here: the metering sidecar uses the field "
        "numParallel.",
        json_schema_extra=list_map("name")
        | rules(
            (
                "self.all(e, !(e.name in ['OLLAMA_HOST', 'OLLAMA_MODELS', 'HOME']))",
                "OLLAMA_HOST, OLLAMA_MODELS and HOME are set by the operator; remove them from env",
            )
        ),
    )
    resources: Resources = Field(
        default_factory=Resources,
        description="Resources of the Ollama container. The GPUs of spec.gpu are added. Requests default to "
        f"{defaults.in_words(defaults.OLLAMA_REQUESTS)}. There are no limits by default, except on GPUs.",
    )


class ServiceType(StrEnum):
    """Types of a Service."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class Service(ApiModel):
    """The Service that clients use."""

    type: ServiceType = Field(
        ServiceType.CLUSTER_IP,
        description="Type of the Service: ClusterIP, NodePort or LoadBalancer. Defaults to ClusterIP.",
    )
    port: int = Field(
        defaults.SERVICE_PORT,
        ge=1,
        le=65535,
        description="Port of the Service. It leads to the metering proxy, or to Ollama if metering.mode is Exporter. "
        f"Defaults to {defaults.SERVICE_PORT}, which is also the port of Ollama.",
    )
    annotations: Annotations = Field(
        default_factory=dict, description="Annotations of the Service, for example for a cloud's load balancer."
    )


class MonitoringMode(StrEnum):
    """Ways to configure Prometheus."""

    AUTO = "Auto"
    SERVICE_MONITOR = "ServiceMonitor"
    NONE = "None"


class Monitoring(ApiModel):
    """Configuration of Prometheus to scrape the pods."""

    mode: MonitoringMode = Field(
        MonitoringMode.AUTO,
        description="ServiceMonitor creates a ServiceMonitor, from which the Prometheus Operator configures "
        "Prometheus. If the cluster does not have this kind, the condition MonitoringReady is False. Auto does the "
        "same, but then the message of the condition also names the port to scrape. None creates nothing. Defaults to "
        "Auto.",
    )
    interval: Duration = Field(
        defaults.SCRAPE_INTERVAL,
        description="Interval at which Prometheus scrapes each pod, as a duration such as 15s. "
        f"Defaults to {defaults.SCRAPE_INTERVAL}.",
    )
    labels: Labels = Field(
        default_factory=dict,
        description="Additional labels of the ServiceMonitor. Set the labels that the serviceMonitorSelector of your "
        "Prometheus requires, for example release: prometheus.",
    )


class Pod(ApiModel):
    """Metadata, placement and termination of the pods."""

    labels: Labels = Field(
        default_factory=dict,
        description="Additional labels of the pods. The operator's own labels take precedence, and labels that begin "
        "with llmendpoint.dev/ are ignored.",
    )
    annotations: Annotations = Field(default_factory=dict, description="Additional annotations of the pods.")
    image_pull_secrets: list[LocalReference] = Field(
        default_factory=list,
        max_length=16,
        description="Secrets with credentials for the images, in the namespace of the endpoint. The Secrets of the "
        "operator's flag --image-pull-secret are added.",
    )
    node_selector: Labels = Field(
        default_factory=dict, description="Labels that a node must have to run the pods. If empty, any node is used."
    )
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=32, description="Taints of nodes that the pods tolerate."
    )
    priority_class_name: ObjectName | None = Field(
        None, description="PriorityClass of the pods. If absent, the cluster's default priority applies."
    )
    termination_grace_period_seconds: int = Field(
        defaults.TERMINATION_GRACE_SECONDS,
        ge=10,
        le=86400,
        description="Termination grace period of the pods in seconds. Running requests can finish during this time, "
        f"except for the last {defaults.STOP_MARGIN_SECONDS} seconds. "
        f"Defaults to {defaults.TERMINATION_GRACE_SECONDS}.",
    )


def _effective(field: str, default: str, *, quantity: bool = False) -> str:
    """Return a CEL expression that is true if a field of `storage` has the value that it had, or its default."""
    sides = []
    for root in ("self", "oldSelf"):
        parents = field.split(".")
        paths = [".".join([root, "storage", *parents[:depth]]) for depth in range(len(parents) + 1)]
        value = f"string({paths[-1]})" if quantity else paths[-1]
        side = f"({' && '.join(f'has({path})' for path in paths)} ? {value} : '{default}')"
        sides.append(f"quantity{side}" if quantity else side)
    return f"{sides[0]}.compareTo({sides[1]}) == 0" if quantity else f"{sides[0]} == {sides[1]}"


#: A CEL rule on the spec, because a rule on `storage` is not evaluated if it is added or removed. Effective values are
#: compared: to write a default down is not a change.
_SAME_STORAGE = (
    " && ".join(
        (
            _effective("type", StorageType.PERSISTENT_VOLUME_CLAIM),
            _effective("size", defaults.STORAGE_SIZE, quantity=True),
            _effective("storageClassName", ""),
            _effective("claimName", ""),
            _effective("sizeLimit", "0", quantity=True),
            _effective("retentionPolicy.whenDeleted", RetentionAction.RETAIN),
            _effective("retentionPolicy.whenScaled", RetentionAction.RETAIN),
        )
    ),
    "storage cannot be changed; create another LLMEndpoint",
)


def _gpus_in(name: str) -> str:
    """Return a CEL expression that is true if the resources of Ollama have as many GPUs as `gpu.count`, or none."""
    resource = f"(has(self.gpu) ? self.gpu.resource : '{defaults.GPU_RESOURCE}')"
    count = f"(has(self.gpu) ? self.gpu.count : {defaults.GPU_COUNT})"
    path = f"self.ollama.resources.{name}"
    return (
        f"!has(self.ollama) || !has(self.ollama.resources) || !has({path}) || {path}.all(k, k != {resource} || "
        f"quantity(string({path}[k])).asInteger() == {count})"
    )


_GPUS = "set the number of GPUs in gpu.count, or the same number in ollama.resources"


class LLMEndpointSpec(ApiModel):
    """Desired state of an endpoint."""

    model_config = ConfigDict(
        json_schema_extra=rules(_SAME_STORAGE, (_gpus_in("requests"), _GPUS), (_gpus_in("limits"), _GPUS))
    )

    models: list[Model] = Field(
        min_length=1,
        max_length=defaults.MAX_MODELS,
        description=f"Models that every replica serves: at least 1, at most {defaults.MAX_MODELS}.",
        json_schema_extra=list_map("name") | rules(_ONE_MODEL_EACH),
    )
    replicas: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="Number of pods. Each pod has its own GPUs. Set to 0 to stop all pods. "
        f"Defaults to {defaults.REPLICAS}.",
    )
    gpu: Gpu | None = Field(
        None,
        description="GPUs of each replica. If absent, each replica gets "
        f"{defaults.GPU_COUNT} GPU ({defaults.GPU_RESOURCE}).",
    )
    ollama: OllamaSettings = Field(default_factory=OllamaSettings, description="Settings of the Ollama container.")
    storage: Storage = Field(
        default_factory=Storage,
        description="Storage for the models of each replica. It cannot be changed later. To use different storage, "
        "create another LLMEndpoint.",
    )
    metering: Metering = Field(
        default_factory=Metering,
        description="Settings of the metering sidecar: image, API keys, limits and timeouts for clients.",
    )
    service: Service = Field(default_factory=Service, description="The Service that clients use.")
    monitoring: Monitoring = Field(
        default_factory=Monitoring, description="Configuration of Prometheus to scrape the pods."
    )
    pod: Pod = Field(default_factory=Pod, description="Metadata, placement and termination of the pods.")

    @field_validator("models")
    @classmethod
    def _one_model_each(cls, models: list[Model]) -> list[Model]:
        first: dict[str, str] = {}
        for model in models:
            other = first.setdefault(model_key(model.name), model.name)
            if other != model.name:
                raise ValueError(f"{other} and {model.name} are one model for Ollama; remove one of them")
        return models

    @property
    def wanted_replicas(self) -> int:
        """Number of pods: the field `replicas`, or its default."""
        return defaults.REPLICAS if self.replicas is None else self.replicas

    @property
    def wanted_gpu(self) -> Gpu:
        """GPUs of a replica: the field `gpu`, or its default."""
        return self.gpu or Gpu()


class LLMEndpoint(BaseModel):
    """An Ollama endpoint. Its pods serve the declared models, and a sidecar in each pod meters the requests."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name must start with a letter, end with a letter or digit, contain only lowercase letters, "
                "digits and dashes, and have at most 40 characters",
            )
        )
    )

    spec: LLMEndpointSpec = Field(description="Desired state of the endpoint.")
    status: LLMEndpointStatus | None = Field(
        None, description="Observed state of the endpoint. The operator writes it."
    )


def parse_spec(manifest: dict[str, Any]) -> LLMEndpointSpec:
    """Return the spec of an LLMEndpoint. Raises pydantic.ValidationError, which names the field."""
    return LLMEndpointSpec.model_validate(manifest.get("spec", {}))
