"""LLMEndpoint as typed models: the source of the CRD, and what the operator reads."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from llmendpoint_common.api.fields import (
    ApiModel,
    ConditionState,
    Duration,
    EnvironmentVariable,
    LocalReference,
    Name,
    Quantity,
    Resources,
    ShortText,
    Toleration,
    list_map,
    rules,
)
from llmendpoint_common.contracts.sidecar import IncludeUsage, Load, ModelManagement

_TAGGED_PATTERN = "^([A-Za-z0-9.-]+(:[0-9]+)?/)?([A-Za-z0-9._-]+/)*[A-Za-z0-9._-]+:[A-Za-z0-9._-]+$"
_TAGGED = (
    f"self.matches('{_TAGGED_PATTERN}')",
    "write the model with its tag, like llama3.2:3b or tiny:latest",
)
_LABELS = Annotated[dict[str, ShortText], Field(max_length=64)]


class RegistrySource(ApiModel):
    """A registry to pull from; Ollama sends no credentials."""

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+(:[0-9]{1,5})?$", max_length=253)] = Field(
        description="Host and port, without scheme."
    )
    repository: Annotated[str, Field(pattern=r"^[a-z0-9._-]+(/[a-z0-9._-]+)*(:[A-Za-z0-9._-]+)?$", max_length=253)] = (
        Field(description="Repository, with a tag or with that of the model's name.")
    )
    insecure: bool = Field(False, description="Allow plain HTTP and unverified certificates.")


class ModelSource(ApiModel):
    """Where a model comes from."""

    registry: RegistrySource = Field(description="Pulled there, then copied to the model's name.")


class Model(ApiModel):
    """One model that every replica has."""

    name: Annotated[str, Field(min_length=3, max_length=253, json_schema_extra=rules(_TAGGED))] = Field(
        description="What clients ask for, with its tag."
    )
    load: Load = Field(
        Load.PRELOAD, description="Preload: in memory before Ready, and kept. OnDemand: with its first request."
    )
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = Field(
        None, description="Manifest digest that Ollama lists; any other is refused."
    )
    source: ModelSource | None = Field(None, description="Absent: Ollama's public registry.")


class Gpu(ApiModel):
    """GPUs of one replica."""

    count: int = Field(1, ge=0, le=64, description="How many; 0 is CPU only, and meant so.")
    resource: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$", max_length=128)] = Field(
        "nvidia.com/gpu", description="Extended resource of the device plugin."
    )
    products: list[ShortText] = Field(
        default_factory=list, max_length=32, description="Allowed values of the node label nvidia.com/gpu.product."
    )
    runtime_class_name: Name | None = Field(None, description="RuntimeClass of the pods, where the cluster needs one.")
    require_full_offload: bool = Field(False, description="Ready only if each preloaded model is wholly in GPU memory.")


class CacheType(StrEnum):
    """Ollama's types of the key/value cache."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


class OllamaSettings(ApiModel):
    """How Ollama runs; each field is one of its environment variables."""

    image: ShortText | None = Field(None, description="Image; absent: the operator's default.")
    num_parallel: int = Field(1, ge=1, le=1024, description="Requests a model runs at once (OLLAMA_NUM_PARALLEL).")
    max_loaded_models: int | None = Field(
        None, ge=1, le=128, description="Models in memory (OLLAMA_MAX_LOADED_MODELS)."
    )
    max_queue: int | None = Field(None, ge=1, le=1_000_000, description="Waiting requests (OLLAMA_MAX_QUEUE).")
    context_length: int | None = Field(None, ge=1, le=100_000_000, description="Tokens (OLLAMA_CONTEXT_LENGTH).")
    keep_alive: Duration | None = Field(None, description="How long an OnDemand model stays (OLLAMA_KEEP_ALIVE).")
    flash_attention: bool | None = Field(None, description="OLLAMA_FLASH_ATTENTION.")
    kv_cache_type: CacheType | None = Field(None, description="OLLAMA_KV_CACHE_TYPE; needs flash attention.")
    env: list[EnvironmentVariable] = Field(
        default_factory=list,
        max_length=64,
        description="More environment variables; OLLAMA_HOST, OLLAMA_MODELS and HOME are the operator's.",
        json_schema_extra=list_map("name")
        | rules(
            (
                "self.all(e, !(e.name in ['OLLAMA_HOST', 'OLLAMA_MODELS', 'HOME']))",
                "OLLAMA_HOST, OLLAMA_MODELS and HOME are set by the operator: they keep the meter in the path",
            )
        ),
    )
    resources: Resources = Field(
        default_factory=Resources, description="Of the Ollama container; no limit unless given."
    )


class RetentionAction(StrEnum):
    """What becomes of the claims."""

    RETAIN = "Retain"
    DELETE = "Delete"


class RetentionPolicy(ApiModel):
    """What becomes of the claims when the endpoint is deleted or scaled down."""

    when_deleted: RetentionAction = Field(RetentionAction.RETAIN, description="When the endpoint is deleted.")
    when_scaled: RetentionAction = Field(RetentionAction.RETAIN, description="When it has fewer replicas.")


class StorageType(StrEnum):
    """Where models are kept."""

    PERSISTENT_VOLUME_CLAIM = "PersistentVolumeClaim"
    EXISTING_CLAIM = "ExistingClaim"
    EPHEMERAL = "Ephemeral"


class Storage(ApiModel):
    """Where each replica keeps its models. Immutable for now: make another endpoint for another storage."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("self.type == 'ExistingClaim' || !has(self.claimName)", "claimName goes with type ExistingClaim only"),
            ("self.type != 'ExistingClaim' || has(self.claimName)", "type ExistingClaim needs claimName"),
            ("self.type == 'Ephemeral' || !has(self.sizeLimit)", "sizeLimit goes with type Ephemeral only"),
            (
                "self.type == 'PersistentVolumeClaim' || (!has(self.size) && !has(self.storageClassName))",
                "size and storageClassName go with type PersistentVolumeClaim only",
            ),
        )
    )

    type: StorageType = Field(
        StorageType.PERSISTENT_VOLUME_CLAIM, description="One claim a replica, an existing claim, or the node."
    )
    size: Quantity | None = Field(None, description="Size of each claim; absent: 50Gi.")
    storage_class_name: Name | None = Field(None, description="Class of the claims; absent: the cluster's default.")
    claim_name: Name | None = Field(None, description="The existing claim, shared by all replicas.")
    size_limit: Quantity | None = Field(None, description="Bound of the ephemeral volume.")
    retention_policy: RetentionPolicy = Field(
        default_factory=RetentionPolicy, description="What becomes of the claims."
    )


# A pattern and no rule: rules in lists of lists cost more than the API server allows.
_TaggedName = Annotated[str, Field(pattern=_TAGGED_PATTERN, min_length=3, max_length=253)]


class MeteringMode(StrEnum):
    """Whether the sidecar is in the path."""

    PROXY = "Proxy"
    EXPORTER = "Exporter"


class Auth(ApiModel):
    """Who may use the endpoint."""

    secret_refs: list[LocalReference] = Field(
        min_length=1,
        max_length=16,
        description="Secrets with one API key a tenant: the entry's name is the tenant. Several allow rotation.",
        json_schema_extra=list_map("name"),
    )


class TenantLimits(ApiModel):
    """What a tenant may do. Each replica counts on its own; absent is unlimited."""

    requests_per_minute: int | None = Field(None, ge=1, le=10_000_000, description="Requests a minute, a replica.")
    tokens_per_minute: int | None = Field(
        None, ge=1, le=2_000_000_000, description="Prompt and generated tokens a minute, a replica."
    )
    max_concurrent: int | None = Field(None, ge=1, le=100_000, description="Requests at once, a replica.")
    allowed_models: list[_TaggedName] | None = Field(
        None, max_length=64, description="Models that may be asked for; absent: all, empty: none."
    )


class Tenant(TenantLimits):
    """The limits of one tenant."""

    name: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)] = Field(
        description="The tenant: the name of its entry in a Secret of auth.secretRefs."
    )


class Timeouts(ApiModel):
    """Times of the proxy; there is none on the total."""

    connect: Duration = Field("5s", description="Until Ollama accepts the connection.")
    first_byte: Duration = Field("10m", description="From the request's end to the response's first byte.")
    idle: Duration = Field("2m", description="Between two pieces of a request or a response.")


class Metering(ApiModel):
    """The metering sidecar."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.mode != 'Exporter' || !(has(self.auth) || has(self.tenants) || has(self.defaultTenant) "
                "|| has(self.allowedHosts) || has(self.maxWaiting) || has(self.includeUsage) "
                "|| has(self.timeouts) || has(self.modelManagement))",
                "mode Exporter is not in the path: auth, tenants, limits, timeouts and modelManagement need mode Proxy",
            ),
            ("!has(self.tenants) || has(self.auth)", "tenants are told apart by their keys: set auth.secretRefs too"),
        )
    )

    mode: MeteringMode = Field(
        MeteringMode.PROXY, description="Proxy: in the path of every request. Exporter: metrics of the models alone."
    )
    image: ShortText | None = Field(None, description="Image; absent: the operator's default.")
    resources: Resources = Field(default_factory=Resources, description="Absent: requests of 100m CPU and 96Mi memory.")
    model_management: ModelManagement | None = Field(
        None, description="Whether clients may pull, push, create, copy and delete models; absent: Forbidden."
    )
    auth: Auth | None = Field(None, description="API keys; absent: none is asked for.")
    tenants: list[Tenant] | None = Field(
        None, max_length=256, description="Limits of single tenants.", json_schema_extra=list_map("name")
    )
    default_tenant: TenantLimits | None = Field(None, description="Limits of the tenants not listed, or of everyone.")
    max_waiting: int | None = Field(
        None, ge=1, le=1_000_000, description="Requests that wait for a model, a replica; more get 503; absent: 256."
    )
    timeouts: Timeouts | None = Field(None, description="Times of the proxy.")
    include_usage: IncludeUsage | None = Field(
        None,
        description="Inject: OpenAI streams are asked for their usage, and it is taken out again; absent: Passthrough.",
    )
    allowed_hosts: list[Name] | None = Field(
        None, max_length=64, description="Host names that clients may use, beside those of the Service; absent: any."
    )


class ServiceType(StrEnum):
    """Types of a Service."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class Service(ApiModel):
    """The Service that clients use."""

    type: ServiceType = Field(ServiceType.CLUSTER_IP, description="Type of the Service.")
    port: int = Field(11434, ge=1, le=65535, description="Port that clients use; it leads to the meter.")
    annotations: _LABELS = Field(default_factory=dict, description="Annotations of the Service.")


class MonitoringMode(StrEnum):
    """How Prometheus finds the pods."""

    AUTO = "Auto"
    SERVICE_MONITOR = "ServiceMonitor"
    NONE = "None"


class Monitoring(ApiModel):
    """How Prometheus finds the pods."""

    mode: MonitoringMode = Field(
        MonitoringMode.AUTO, description="Auto: a ServiceMonitor where the cluster knows that kind."
    )
    interval: Duration = Field("15s", description="Between two scrapes.")
    labels: _LABELS = Field(default_factory=dict, description="Labels that your Prometheus selects ServiceMonitors by.")


class Pod(ApiModel):
    """What the cluster wants to know of the pods."""

    labels: _LABELS = Field(default_factory=dict, description="More labels.")
    annotations: _LABELS = Field(default_factory=dict, description="More annotations.")
    image_pull_secrets: list[LocalReference] = Field(
        default_factory=list, max_length=16, description="Secrets for the images."
    )
    node_selector: _LABELS = Field(default_factory=dict, description="Labels of the nodes.")
    tolerations: list[Toleration] = Field(default_factory=list, max_length=32, description="Tolerated taints.")
    priority_class_name: Name | None = Field(None, description="Priority of the pods.")
    termination_grace_period_seconds: int = Field(
        300, ge=10, le=86400, description="How long streams may take to finish."
    )


class LLMEndpointSpec(ApiModel):
    """What is wanted."""

    models: list[Model] = Field(
        min_length=1, max_length=32, description="Models that every replica serves.", json_schema_extra=list_map("name")
    )
    replicas: int | None = Field(None, ge=0, le=1000, description="How many pods; absent: 1.")
    gpu: Gpu | None = Field(None, description="GPUs of a replica; absent: one nvidia.com/gpu.")
    ollama: OllamaSettings = Field(default_factory=OllamaSettings, description="How Ollama runs.")
    storage: Storage = Field(
        default_factory=Storage,
        description="Where models are kept.",
        json_schema_extra=rules(("self == oldSelf", "storage cannot be changed; make another endpoint")),
    )
    metering: Metering = Field(default_factory=Metering, description="The metering sidecar.")
    service: Service = Field(default_factory=Service, description="The Service that clients use.")
    monitoring: Monitoring = Field(default_factory=Monitoring, description="How Prometheus finds the pods.")
    pod: Pod = Field(default_factory=Pod, description="What the cluster wants to know of the pods.")

    @property
    def wanted_replicas(self) -> int:
        """How many pods are wanted."""
        return 1 if self.replicas is None else self.replicas

    @property
    def wanted_gpu(self) -> Gpu:
        """The GPUs of a replica."""
        return self.gpu or Gpu()


class ModelState(ApiModel):
    """One model over all replicas."""

    name: str = Field(description="The model's name.")
    ready_replicas: int = Field(0, description="Replicas in which it answers.")
    digests: list[str] = Field(default_factory=list, description="Digests seen; more than one is a difference.")
    size_bytes: int = Field(0, description="Size on disk.", json_schema_extra={"format": "int64"})
    vram_bytes: int = Field(0, description="GPU memory in a replica.", json_schema_extra={"format": "int64"})
    progress_percent: int = Field(0, description="How far the slowest replica is with it.")
    message: str = Field("", description="What is being done, or what is wrong.")


class LLMEndpointStatus(ApiModel):
    """What is."""

    observed_generation: int | None = Field(
        None, description="Generation that was reconciled.", json_schema_extra={"format": "int64"}
    )
    url: str | None = Field(None, description="Where clients in the cluster connect.")
    gpu: str | None = Field(None, description="GPUs of a replica, as people read it.")
    replicas: int = Field(0, description="Pods that exist.")
    ready_replicas: int = Field(0, description="Pods that answer.")
    selector: str | None = Field(None, description="Label selector of the pods, for `kubectl scale`.")
    models: list[ModelState] = Field(
        default_factory=list, description="The models over all replicas.", json_schema_extra=list_map("name")
    )
    conditions: list[ConditionState] = Field(
        default_factory=list,
        description="Ready, Progressing, ModelsAvailable and others.",
        json_schema_extra=list_map("type"),
    )


class LLMEndpoint(BaseModel):
    """An Ollama endpoint on GPUs: its models answer before it is Ready, and every request is metered."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name must begin with a letter, hold only a-z, 0-9 and dashes, and have at most 40 characters",
            )
        )
    )

    spec: LLMEndpointSpec = Field(description="What is wanted.")
    status: LLMEndpointStatus | None = Field(None, description="What is; written by the operator.")


def parse_spec(manifest: dict[str, Any]) -> LLMEndpointSpec:
    """Return the spec of an object; pydantic.ValidationError names the field."""
    return LLMEndpointSpec.model_validate(manifest.get("spec", {}))
