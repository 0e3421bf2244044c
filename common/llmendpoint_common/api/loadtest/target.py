"""`spec.target`: a server under test that is not an LLMEndpoint."""

from __future__ import annotations

from enum import StrEnum

from pydantic import ConfigDict, Field

from llmendpoint_common.api.fields import ApiModel, DataKey, ObjectName, rules
from llmendpoint_common.api.loadtest.fields import BaseURL


class Protocol(StrEnum):
    """APIs of model servers."""

    OLLAMA = "Ollama"
    OPENAI = "OpenAI"


class ConfigMapKeyReference(ApiModel):
    """Reference to one key of a ConfigMap in the same namespace."""

    name: ObjectName = Field(description="Name of the ConfigMap. It must be in the namespace of the LoadTest.")
    key: DataKey = Field(description="Key of the ConfigMap.")


class Target(ApiModel):
    """A server that is not an LLMEndpoint of this namespace, inside or outside the cluster."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.caBundleRef) || self.url.startsWith('https://')",
                "caBundleRef requires a url that begins with https://",
            ),
            (
                "!has(self.insecureSkipVerify) || !self.insecureSkipVerify || self.url.startsWith('https://')",
                "insecureSkipVerify requires a url that begins with https://",
            ),
            (
                "!has(self.caBundleRef) || !has(self.insecureSkipVerify) || !self.insecureSkipVerify",
                "set only one of caBundleRef and insecureSkipVerify",
            ),
        )
    )

    url: BaseURL = Field(
        description="Base URL of the server, for example http://vllm.models.svc:8000. If it has a path, the path is "
        "put in front of the path of the API. A trailing /v1 is ignored. User, query and fragment are not allowed."
    )
    protocol: Protocol = Field(
        Protocol.OLLAMA,
        description="API of the requests: Ollama (/api/chat or /api/generate) or OpenAI (/v1/chat/completions). "
        f"Defaults to {Protocol.OLLAMA}.",
    )
    ca_bundle_ref: ConfigMapKeyReference | None = Field(
        None,
        description="Key of a ConfigMap with certificates in PEM format, one after the other. Certificates of the "
        "server that these certificate authorities signed are trusted, beside those that the image of the load "
        "generator trusts. Requires a URL with https. If absent, only the latter are trusted.",
    )
    insecure_skip_verify: bool = Field(
        False,
        description="Whether any certificate of the server is accepted. The connection can then be intercepted, and "
        "the API key read. Requires a URL with https. Cannot be combined with caBundleRef. Defaults to false.",
    )
