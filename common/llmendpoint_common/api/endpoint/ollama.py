"""Settings of the Ollama container: `spec.ollama`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import (
    BOUNDED_DURATION,
    ApiModel,
    DataKey,
    Duration,
    EnvironmentVariable,
    Image,
    ObjectName,
    Resources,
    cel_list,
    list_map,
    rules,
)
from llmendpoint_common.contracts import ollama_variables

_OLLAMA_DEFAULT = "If absent, Ollama's own default applies."


class CacheType(StrEnum):
    """Types of Ollama's key-value cache."""

    F16 = "f16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


#: Ollama ignores a text that does not fit into Go's duration, 64 bits of nanoseconds.
_KeepAlive = Annotated[Duration, Field(json_schema_extra=rules(BOUNDED_DURATION))]


class CABundleReference(ApiModel):
    """Reference to a key of a ConfigMap that contains certificates."""

    name: ObjectName = Field(description="Name of a ConfigMap in the namespace of the endpoint.")
    key: DataKey = Field(
        description="Key of the ConfigMap whose value is the bundle: certificates in PEM format, one after the other."
    )


_ENV_RULES = (
    (
        f"self.all(e, !(e.name in {cel_list(ollama_variables.FIXED)}))",
        "OLLAMA_HOST, OLLAMA_MODELS and HOME are set by the operator; remove them from env",
    ),
    *(
        (f"self.all(e, e.name != '{name}')", f"{name} has a field; set spec.ollama.{field}, and remove it from env")
        for name, field in ollama_variables.FIELDS.items()
    ),
    (
        f"self.all(e, !(e.name in {cel_list(ollama_variables.CODE)}))",
        f"{' and '.join(ollama_variables.CODE)} are not allowed, because they load code into the Ollama that is "
        "metered; remove them from env, and use an image with this code",
    ),
)


class OllamaSettings(ApiModel):
    """Settings of the Ollama container. Most are environment variables of Ollama."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                f"!has(self.caBundleRef) || !has(self.env) || self.env.all(e, "
                f"!(e.name in {cel_list(ollama_variables.TRUST)}))",
                "caBundleRef sets SSL_CERT_DIR, and SSL_CERT_FILE would replace the certificates of the image; remove "
                "both from env, or remove caBundleRef",
            ),
            (
                "!has(self.kvCacheType) || self.kvCacheType == 'f16' || !has(self.flashAttention) || "
                "self.flashAttention",
                "kvCacheType q8_0 and q4_0 require flash attention; remove flashAttention: false, or kvCacheType",
            ),
        )
    )

    image: Image | None = Field(
        None,
        description="Image of the Ollama container. If absent, the image set with the operator's flag --ollama-image "
        "is used or, for GPUs of amd.com, the image set with --ollama-rocm-image.",
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
    keep_alive: _KeepAlive | None = Field(
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
        "not allowed, because the operator sets them, nor are variables for which spec.ollama has a field, such as "
        "OLLAMA_NUM_PARALLEL, and those that load code (LD_PRELOAD and LD_AUDIT). To pull models through a proxy, set "
        "HTTPS_PROXY and, if needed, NO_PROXY. Values are stored in the endpoint and in the pods, and cannot come "
        "from a Secret: do not put passwords here.",
        json_schema_extra=list_map("name") | rules(*_ENV_RULES),
    )
    ca_bundle_ref: CABundleReference | None = Field(
        None,
        description="Certificates of certificate authorities that Ollama trusts beside those of its image, for "
        "example for pulls from a registry with a private CA, or through a proxy that inspects TLS. Ollama reads them "
        "when it starts: after a change of the ConfigMap, restart the pods (kubectl rollout restart statefulset "
        "NAME). If the ConfigMap or its key does not exist, the pods wait for it.",
    )
    resources: Resources = Field(
        default_factory=Resources,
        description="Resources of the Ollama container. The GPUs of spec.gpu are added. Requests default to "
        f"{defaults.in_words(defaults.OLLAMA_REQUESTS)}. There are no limits by default, except on GPUs.",
    )
