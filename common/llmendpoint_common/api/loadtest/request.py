"""`spec.request`: settings that apply to every request of a run."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import ApiModel, Name, cel_list, list_map, rules
from llmendpoint_common.api.loadtest.fields import PositiveDuration, Temperature

#: Maximum size of options and of body as JSON. Both are part of every request and of the run document.
MAX_EXTRA_BYTES = 16 * 1024
#: Fields of a request body that the run sets.
OWN_FIELDS = ("model", "messages", "prompt", "stream", "options")
#: Headers that the load generator sets, in lower case, and those that would carry credentials.
OWN_HEADERS = (
    "authorization", "connection", "content-length", "content-type", "cookie", "host", "proxy-authorization",
    "transfer-encoding", "x-api-key", "x-request-id",
)  # fmt: skip
_HEADER_RULE = f"the headers {', '.join(OWN_HEADERS)} are set by the run; credentials belong into apiKeySecretRef"


class SecretKeyReference(ApiModel):
    """Reference to one entry of a Secret in the same namespace."""

    name: Name = Field(description="Name of the Secret.")
    key: Annotated[str, Field(pattern="^[-._a-zA-Z0-9]+$", max_length=253)] = Field(description="Name of the entry.")


class RequestType(StrEnum):
    """Types of requests."""

    CHAT = "Chat"
    GENERATE = "Generate"


class PrefixCacheUse(StrEnum):
    """Whether the server can reuse the prefix of an earlier prompt."""

    SHARED = "Shared"
    UNIQUE = "Unique"


class Header(ApiModel):
    """An additional header of the requests."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", min_length=1, max_length=128)] = Field(
        description="Name of the header.",
        json_schema_extra=rules((f"!(self.lowerAscii() in {cel_list(OWN_HEADERS)})", _HEADER_RULE)),
    )
    value: Annotated[str, Field(pattern=r"^[!-~]([ !-~]*[!-~])?$|^$", max_length=4096)] = Field(
        description="Value of the header: printable ASCII characters. Do not put passwords here, because everyone who "
        "can read the LoadTest can read them."
    )


def _bounded(value: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(value)) > MAX_EXTRA_BYTES:
        raise ValueError(f"must have at most {MAX_EXTRA_BYTES} bytes as JSON")
    return value


def _not_own(value: dict[str, Any]) -> dict[str, Any]:
    found = [name for name in OWN_FIELDS if name in value]
    if found:
        raise ValueError(_OWN_RULE.format(found[0]))
    return value


_OWN_RULE = "{} is set by the run; remove it"
_OPAQUE = {"x-kubernetes-preserve-unknown-fields": True}
_MAP = {"type": "object", "maxProperties": 64, **_OPAQUE}
#: The names of the fields that are not allowed are in the schema, because CEL sees no others of an opaque object.
_BODY = {
    **_MAP,
    "properties": {
        name: {"type": "string", "maxLength": 1, "description": f"Always refused: {_OWN_RULE.format(name)}."}
        for name in OWN_FIELDS
    },
    **rules(*((f"!has(self.{name})", _OWN_RULE.format(name)) for name in OWN_FIELDS)),
}

Options = Annotated[dict[str, Any], Field(max_length=64), AfterValidator(_bounded), WithJsonSchema(_MAP)]
Body = Annotated[
    dict[str, Any], Field(max_length=64), AfterValidator(_not_own), AfterValidator(_bounded), WithJsonSchema(_BODY)
]


class Request(ApiModel):
    """Settings that apply to every request of a run."""

    type: RequestType = Field(
        RequestType.CHAT,
        description="Type of the requests: Chat, or Generate for Ollama's /api/generate. Generate is not available for "
        f"targets with the protocol OpenAI. Defaults to {RequestType.CHAT}.",
    )
    stream: bool = Field(
        True,
        description="Whether to request streamed responses. Responses that are not streamed have no time to first "
        "token. Defaults to true.",
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Maximum number of generated tokens per response. If absent, the limit of each question applies.",
    )
    temperature: Temperature | None = Field(
        None,
        description="Sampling temperature from 0 to 100, for example 0.7. If absent, the server's default applies.",
    )
    timeout: PositiveDuration = Field(
        defaults.REQUEST_TIMEOUT,
        description="Time limit of a request, as a duration such as 90s. It applies to opening a connection, if a new "
        "one is needed, and again to the request with its response. A request that takes longer fails. "
        f"Defaults to {defaults.REQUEST_TIMEOUT}.",
    )
    prefix_cache: PrefixCacheUse = Field(
        PrefixCacheUse.SHARED,
        description="Unique puts random text in front of each prompt, so that the server has no prompt in its prefix "
        "cache. With Shared, questions that are asked again are answered faster. The summary has the share of input "
        f"tokens that were cached. Defaults to {PrefixCacheUse.SHARED}.",
    )
    options: Options | None = Field(
        None,
        description="Options of the model in requests to Ollama, such as num_ctx: 8192 or top_k: 20. They take "
        "precedence over maxTokens and temperature. Not available for targets with the protocol OpenAI. At most 64 "
        f"fields and {MAX_EXTRA_BYTES // 1024} KiB. If absent, the defaults of the model apply.",
    )
    body: Body | None = Field(
        None,
        description="Additional fields of the request body, such as keep_alive: 10m or think: true. The fields "
        f"{', '.join(OWN_FIELDS)} are not allowed. At most 64 fields and {MAX_EXTRA_BYTES // 1024} KiB. If absent, "
        "there are none.",
    )
    headers: list[Header] = Field(
        default_factory=list,
        max_length=32,
        description="Additional headers of the requests. Headers that the load generator sets, and headers with "
        "credentials, are not allowed; use apiKeySecretRef for an API key.",
        json_schema_extra=list_map("name"),
    )
    api_key_secret_ref: SecretKeyReference | None = Field(
        None,
        description="Entry of a Secret with the API key, in the namespace of the LoadTest. The key is sent as a bearer "
        "token. If absent, no key is sent.",
    )
