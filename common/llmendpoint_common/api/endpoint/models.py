"""Models of an endpoint, and their sources: `spec.models`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import TAGGED_MODEL_PATTERN, ApiModel, rules
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
ONE_MODEL_EACH = (
    f"{_KEYS}.all(n, {_KEYS}.exists_one(o, o == n))",
    "two names are one model for Ollama, which ignores case and the namespace library",
)


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
