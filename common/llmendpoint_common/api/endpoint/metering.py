"""`spec.metering` of an LLMEndpoint: settings of the sidecar, API keys, tenants and their limits."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, WithJsonSchema

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import (
    BOUNDED_DURATION,
    POSITIVE_DURATION,
    TAGGED_MODEL_PATTERN,
    ApiModel,
    DataKey,
    Duration,
    Image,
    Name,
    Resources,
    SecretReference,
    list_map,
    rules,
)
from llmendpoint_common.api.quantity import multiplied
from llmendpoint_common.contracts.sidecar import IncludeUsage, ModelManagement

# A pattern and not a CEL rule: rules on items of lists in lists exceed the API server's cost limit.
_TaggedName = Annotated[str, Field(pattern=TAGGED_MODEL_PATTERN, min_length=3, max_length=253)]
_Timeout = Annotated[Duration, Field(json_schema_extra=rules(POSITIVE_DURATION))]
_HOST_NAME = "[A-Za-z0-9_]([-A-Za-z0-9_.]*[A-Za-z0-9_.])?"
#: What can match the host of a request: a name, a wildcard, `*`, or an address (of IPv6 in brackets), without a port.
_AllowedHost = Annotated[
    Name,
    WithJsonSchema(
        {
            "type": "string",
            "minLength": 1,
            "maxLength": 253,
            "pattern": rf"^(\*|(\*\.)?{_HOST_NAME}|\[[0-9a-fA-F:.]+\])$",
        }
    ),
]
_EACH = "Each worker (metering.workers) of each replica counts separately."
_LIMITED = "When the limit is reached, requests get HTTP 429. If absent, there is no limit."
_PROXY_ONLY = "Only allowed with mode Proxy."
#: Memory that each of several workers needs at least, its share of the supervisor and of the kernel's buffers included.
_WORKER_MEBIBYTES = 128
_PER_PROCESS = ("cpu", "memory")


class MeteringMode(StrEnum):
    """Modes of the sidecar: in the path of requests or not."""

    PROXY = "Proxy"
    EXPORTER = "Exporter"


class Auth(ApiModel):
    """API keys of the clients."""

    secret_refs: list[SecretReference] = Field(
        min_length=1,
        max_length=16,
        description="Secrets with API keys, in the namespace of the endpoint. The name of each entry is a tenant, and "
        "its value is the tenant's API key. To rotate keys, list the Secrets with the old and the new keys.",
        json_schema_extra=list_map("name"),
    )


class TenantLimits(ApiModel):
    """Limits of a tenant. Each worker of each replica counts separately."""

    requests_per_minute: int | None = Field(
        None, ge=1, le=10_000_000, description=f"Maximum number of requests per minute. {_EACH} {_LIMITED}"
    )
    tokens_per_minute: int | None = Field(
        None,
        ge=1,
        le=2_000_000_000,
        description="Maximum number of prompt and generated tokens per minute. Tokens are counted when a request "
        f"ends, so a request can exceed the limit. {_EACH} {_LIMITED}",
    )
    max_concurrent: int | None = Field(
        None, ge=1, le=100_000, description=f"Maximum number of concurrent requests. {_EACH} {_LIMITED}"
    )
    allowed_models: list[_TaggedName] | None = Field(
        None,
        max_length=64,
        description="Models that may be used, with their tags. Requests for other models get HTTP 403. If absent, all "
        "models may be used. If empty, no model may be used.",
    )


class Tenant(TenantLimits):
    """Limits of one tenant. Each worker of each replica counts separately."""

    name: DataKey = Field(
        description="Name of the tenant. It is the name of the tenant's entry in a Secret of metering.auth.secretRefs."
    )


class Timeouts(ApiModel):
    """Timeouts of the proxy. The total duration of a request is not limited."""

    connect: _Timeout = Field(
        defaults.CONNECT_TIMEOUT,
        description="Maximum time until Ollama accepts a connection, as a duration such as 500ms or 5s. "
        f"Defaults to {defaults.CONNECT_TIMEOUT}.",
    )
    first_byte: _Timeout = Field(
        defaults.FIRST_BYTE_TIMEOUT,
        description="Maximum time from the end of a request to the first byte of its response, as a duration such as "
        "30s or 1h. It includes waiting in Ollama's queue, loading the model, and the complete generation if the "
        "response is not streamed. It does not apply to requests that pull, push or create models or transfer their "
        f"blobs. Defaults to {defaults.FIRST_BYTE_TIMEOUT}.",
    )
    idle: _Timeout = Field(
        defaults.IDLE_TIMEOUT,
        description="Maximum time between two pieces of a response, as a duration such as 30s or 1h. It does not "
        "apply to requests that pull, push or create models or transfer their blobs. "
        f"Defaults to {defaults.IDLE_TIMEOUT}.",
    )
    keep_alive: _Timeout = Field(
        defaults.KEEP_ALIVE_TIMEOUT,
        description="Maximum time that a client's connection stays open without a request, as a duration such as 30s "
        "or 11m. Behind a load balancer, it must be longer than the time after which the load balancer closes its idle "
        f"connections to the endpoint. Defaults to {defaults.KEEP_ALIVE_TIMEOUT}.",
    )


class Stall(ApiModel):
    """Detection of a hung Ollama."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.after) || self.after.matches('[0-9]{9}|[0-9]{5}h') || "
                "duration(self.after) >= duration('10s')",
                "after must be at least 10s; it must be longer than the longest time in which a healthy Ollama sends "
                "nothing",
            )
        )
    )

    after: Annotated[Duration, Field(json_schema_extra=rules(BOUNDED_DURATION))] = Field(
        defaults.STALL_AFTER,
        description="Time without a byte from Ollama, while requests wait for it, after which Ollama counts as hung, "
        "as a duration such as 90s or 30m. It must be longer than the longest load of a model, and than the longest "
        "response with stream: false. If a slot of the model is free, the sidecar asks the model for one token "
        "earlier, and a model that does not answer this counts as hung before the time is over. "
        f"Defaults to {defaults.STALL_AFTER}.",
    )
    restart: bool = Field(
        False,
        description="If true, the container of Ollama is restarted when Ollama is hung. The pod stays. All requests "
        "of the pod are cut off, and the models are loaded again. If false, a hung Ollama is only reported. "
        "Defaults to false.",
    )


class Metering(ApiModel):
    """Settings of the metering sidecar."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.mode != 'Exporter' || !(has(self.auth) || has(self.tenants) || has(self.defaultTenant) "
                "|| has(self.allowedHosts) || has(self.maxWaiting) || has(self.includeUsage) "
                "|| has(self.timeouts) || has(self.modelManagement) || has(self.stall) || has(self.workers))",
                "auth, tenants, defaultTenant, allowedHosts, maxWaiting, includeUsage, timeouts, modelManagement, "
                "stall and workers are only allowed with mode Proxy",
            ),
            (
                "!has(self.tenants) || has(self.auth)",
                "tenants requires auth, because tenants are identified by their API keys",
            ),
            *(
                (
                    f"!has(self.resources) || !has(self.resources.{name}) || "
                    f"self.resources.{name}.all(k, !k.contains('/'))",
                    f"resources.{name} may not name GPUs and other extended resources, which the sidecar does not use; "
                    "set gpu.count for Ollama",
                )
                for name in ("requests", "limits")
            ),
            (
                "!has(self.workers) || self.workers == 1 || !has(self.resources) || !has(self.resources.limits) || "
                "!('memory' in self.resources.limits) || quantity(string(self.resources.limits['memory']))"
                f".asApproximateFloat() >= double(self.workers) * {_WORKER_MEBIBYTES * 1024 * 1024}.0",
                f"with several workers, resources.limits.memory must be at least {_WORKER_MEBIBYTES}Mi for each of "
                "them",
            ),
        )
    )

    mode: MeteringMode = Field(
        MeteringMode.PROXY,
        description="With Proxy, every request passes through the sidecar, which meters the request. With Exporter, "
        "clients connect to Ollama directly, and the sidecar exports metrics of Ollama and its models, but not of "
        "requests. Defaults to Proxy.",
    )
    image: Image | None = Field(
        None,
        description="Image of the metering sidecar. If absent, the image set with the operator's flag --sidecar-image "
        "is used.",
    )
    resources: Resources = Field(
        default_factory=Resources,
        description="Resources of the metering sidecar: cpu, memory, ephemeral-storage and hugepages-SIZE. "
        f"Requests default to {defaults.in_words(defaults.METERING_REQUESTS)}, limits to "
        f"{defaults.in_words(defaults.METERING_LIMITS)}. The defaults of CPU and memory are multiplied by "
        "metering.workers.",
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=16,
        description="Number of processes of the sidecar that serve requests. One process uses at most one CPU core. "
        "Each process counts separately: a tenant may use up to this many times its requestsPerMinute, tokensPerMinute "
        "and maxConcurrent, and up to this many times maxWaiting requests may wait. The default CPU and memory of "
        f"metering.resources are multiplied by this number. {_PROXY_ONLY} Defaults to {defaults.WORKERS}.",
    )
    model_management: ModelManagement | None = Field(
        None,
        description="With Forbidden, client requests that pull, push, create, copy or delete models, or access their "
        f"blobs, get HTTP 403. With Allowed, they are forwarded. {_PROXY_ONLY} Defaults to "
        f"{defaults.MODEL_MANAGEMENT}.",
    )
    auth: Auth | None = Field(
        None, description=f"API keys of the clients. {_PROXY_ONLY} If absent, no key is required."
    )
    tenants: list[Tenant] | None = Field(
        None,
        max_length=256,
        description="Limits for individual tenants. At most 256 tenants. Requires auth. For tenants that are not "
        "listed, defaultTenant applies.",
        json_schema_extra=list_map("name"),
    )
    default_tenant: TenantLimits | None = Field(
        None,
        description="Limits for each tenant that is not listed in tenants. Without auth, all clients together are one "
        f"such tenant. {_PROXY_ONLY} If absent, these tenants have no limits.",
    )
    max_waiting: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Maximum number of requests that wait for one model. When it is reached, requests get "
        f"HTTP 503. {_EACH} {_PROXY_ONLY} Defaults to {defaults.MAX_WAITING}.",
    )
    timeouts: Timeouts | None = Field(
        None, description=f"Timeouts of the proxy. {_PROXY_ONLY} If absent, the default of each timeout applies."
    )
    stall: Stall | None = Field(
        None,
        description="Detection of a hung Ollama: requests wait, not one byte comes from Ollama, and Ollama still "
        "answers ollama list. The endpoint then reports OllamaHung, waiting requests get an error, and new ones get "
        f"HTTP 503. {_PROXY_ONLY} If absent, the default of each field applies.",
    )
    include_usage: IncludeUsage | None = Field(
        None,
        description="With Inject, the proxy requests the token usage of an OpenAI stream if the client does not, and "
        "removes the usage from the response. With Passthrough, the tokens of such a stream are not counted. "
        f"{_PROXY_ONLY} Defaults to {defaults.INCLUDE_USAGE}.",
    )
    allowed_hosts: list[_AllowedHost] | None = Field(
        None,
        max_length=64,
        description="Allowed values of the Host header, without a port, in addition to the names of the endpoint's "
        "Service and the hosts of spec.ingress and spec.httpRoute. A value such as *.example.com allows all names "
        "below example.com. "
        f"Requests with another host get HTTP 403. {_PROXY_ONLY} If absent or empty, every host is allowed.",
    )

    @property
    def processes(self) -> int:
        """Number of processes that serve requests: the field `workers`, or its default."""
        return self.workers or defaults.WORKERS

    @property
    def default_requests(self) -> dict[str, str]:
        """Requests of the sidecar for what `resources` does not list."""
        return multiplied(defaults.METERING_REQUESTS, self.processes, _PER_PROCESS)

    @property
    def default_limits(self) -> dict[str, str]:
        """Limits of the sidecar for what `resources` does not list."""
        return multiplied(defaults.METERING_LIMITS, self.processes, _PER_PROCESS)

    @property
    def restarts_ollama(self) -> bool:
        """Whether the container of a hung Ollama is restarted."""
        return self.stall is not None and self.stall.restart
