"""`spec.metering` of an LLMEndpoint: the sidecar, API keys, tenants and their limits."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import (
    TAGGED_MODEL_PATTERN,
    ApiModel,
    Duration,
    LocalReference,
    Name,
    Resources,
    ShortText,
    list_map,
    rules,
)
from llmendpoint_common.contracts.sidecar import IncludeUsage, ModelManagement

# A pattern and not a CEL rule: rules on items of lists in lists exceed the API server's cost limit.
_TaggedName = Annotated[str, Field(pattern=TAGGED_MODEL_PATTERN, min_length=3, max_length=253)]
_TOO_MANY = "Further requests get HTTP 429. If absent, there is no limit."


class MeteringMode(StrEnum):
    """Whether the sidecar is in the path of requests."""

    PROXY = "Proxy"
    EXPORTER = "Exporter"


class Auth(ApiModel):
    """API keys of the clients."""

    secret_refs: list[LocalReference] = Field(
        min_length=1,
        max_length=16,
        description="Secrets with API keys, in the namespace of the endpoint. The name of each entry is a tenant, and "
        "its value is the tenant's API key. To rotate keys, list the Secrets with the old and the new keys.",
        json_schema_extra=list_map("name"),
    )


class TenantLimits(ApiModel):
    """Limits of a tenant. Each replica counts separately."""

    requests_per_minute: int | None = Field(
        None, ge=1, le=10_000_000, description=f"Maximum number of requests per minute, per replica. {_TOO_MANY}"
    )
    tokens_per_minute: int | None = Field(
        None,
        ge=1,
        le=2_000_000_000,
        description="Maximum number of prompt tokens and generated tokens per minute, per replica. The tokens of a "
        f"request are counted when it ends. {_TOO_MANY}",
    )
    max_concurrent: int | None = Field(
        None, ge=1, le=100_000, description=f"Maximum number of requests at the same time, per replica. {_TOO_MANY}"
    )
    allowed_models: list[_TaggedName] | None = Field(
        None,
        max_length=64,
        description="Models that may be used, with their tags. Requests for other models get HTTP 403. If absent, all "
        "models may be used; an empty list allows none.",
    )


class Tenant(TenantLimits):
    """Limits of one tenant. Each replica counts separately."""

    name: Annotated[str, Field(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)] = Field(
        description="Name of the tenant, which is the name of its entry in a Secret of metering.auth.secretRefs."
    )


class Timeouts(ApiModel):
    """Timeouts of the proxy. The total duration of a request is not limited."""

    connect: Duration = Field(
        defaults.CONNECT_TIMEOUT,
        description="Maximum time until Ollama accepts a connection, as a duration such as 500ms or 5s. "
        f"Defaults to {defaults.CONNECT_TIMEOUT}.",
    )
    first_byte: Duration = Field(
        defaults.FIRST_BYTE_TIMEOUT,
        description="Maximum time from the end of a request to the first byte of its response, as a duration such as "
        "30s or 1h. It includes waiting in Ollama's queue and loading the model. "
        f"Defaults to {defaults.FIRST_BYTE_TIMEOUT}.",
    )
    idle: Duration = Field(
        defaults.IDLE_TIMEOUT,
        description="Maximum time between two pieces of a request's body or of a response, as a duration such as 30s "
        f"or 1h. Defaults to {defaults.IDLE_TIMEOUT}.",
    )


class Metering(ApiModel):
    """The metering sidecar, and its rules for clients."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.mode != 'Exporter' || !(has(self.auth) || has(self.tenants) || has(self.defaultTenant) "
                "|| has(self.allowedHosts) || has(self.maxWaiting) || has(self.includeUsage) "
                "|| has(self.timeouts) || has(self.modelManagement))",
                "auth, tenants, defaultTenant, allowedHosts, maxWaiting, includeUsage, timeouts and modelManagement "
                "need mode Proxy",
            ),
            (
                "!has(self.tenants) || has(self.auth)",
                "tenants are identified by their API keys; set auth.secretRefs too",
            ),
        )
    )

    mode: MeteringMode = Field(
        MeteringMode.PROXY,
        description="Proxy sends every request through the sidecar, which meters it. With Exporter, clients connect to "
        "Ollama directly, and the sidecar only reports metrics of Ollama and its models. Defaults to Proxy.",
    )
    image: ShortText | None = Field(
        None,
        description="Image of the metering container. If absent, the operator uses that of its flag --sidecar-image.",
    )
    resources: Resources = Field(
        default_factory=Resources,
        description="Resources of the metering container. Requests default to "
        f"{defaults.in_words(defaults.METERING_REQUESTS)}, limits to {defaults.in_words(defaults.METERING_LIMITS)}.",
    )
    model_management: ModelManagement | None = Field(
        None,
        description="With Forbidden, requests of clients to pull, push, create, copy or delete models get HTTP 403. "
        f"With Allowed, they are forwarded. Needs mode Proxy. Defaults to {defaults.MODEL_MANAGEMENT}.",
    )
    auth: Auth | None = Field(
        None, description="API keys of the clients. Needs mode Proxy. If absent, clients need no key."
    )
    tenants: list[Tenant] | None = Field(
        None,
        max_length=256,
        description="Limits of individual tenants, at most 256. Needs auth. If absent, defaultTenant applies to all.",
        json_schema_extra=list_map("name"),
    )
    default_tenant: TenantLimits | None = Field(
        None,
        description="Limits of each tenant that is not in tenants. Without auth, all clients together are one such "
        "tenant. Needs mode Proxy. If absent, these tenants have no limits.",
    )
    max_waiting: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Maximum number of requests that may wait for one model, per replica. Further requests get HTTP "
        f"503. Needs mode Proxy. Defaults to {defaults.MAX_WAITING}.",
    )
    timeouts: Timeouts | None = Field(
        None, description="Timeouts of the proxy. Needs mode Proxy. If absent, the default of each timeout applies."
    )
    include_usage: IncludeUsage | None = Field(
        None,
        description="With Inject, the proxy asks for the token usage of an OpenAI stream if the client does not, and "
        "removes it from the response. With Passthrough, the tokens of such a stream are not counted. Needs mode "
        f"Proxy. Defaults to {defaults.INCLUDE_USAGE}.",
    )
    allowed_hosts: list[Name] | None = Field(
        None,
        max_length=64,
        description="Host names that clients may use, besides those of the endpoint's Service. Requests for another "
        "host get HTTP 403. Needs mode Proxy. If absent or empty, every host name may be used.",
    )
