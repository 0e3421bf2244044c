"""Models of an endpoint, and their sources: `spec.models`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import ConfigDict, Field, WithJsonSchema

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import PORT_PATTERN, TAGGED_MODEL_PATTERN, ApiModel, DataKey, ObjectName, rules
from llmendpoint_common.contracts.modelfile import parse_modelfile
from llmendpoint_common.contracts.ollama import model_key
from llmendpoint_common.contracts.sidecar import Load, Registry, modelfile_problem
from llmendpoint_common.process.errors import ModelfileError

_TAGGED = (
    f"self.matches('{TAGGED_MODEL_PATTERN}')",
    "write the model with its tag, for example llama3.2:3b or tiny:latest",
)
# Ollama's isValidPart (types/model/name.go).
_PARTS = (
    "!self.matches('(^|[/:])[.-]')",
    "the host, each folder, the model and the tag must begin with a letter, a digit or an underscore",
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


#: Largest Modelfile, in characters, and largest sum of those that a spec contains. All of them are in one ConfigMap,
#: whose limit is 1 MiB, and JSON can double the length of a text.
MAX_MODELFILE = 65536
MAX_MODELFILES = 262144
MODELFILES_FIT = (
    "self.map(m, has(m.modelfile) && has(m.modelfile.inline) ? m.modelfile.inline.size() : 0).sum() "
    f"<= {MAX_MODELFILES}",
    f"all inline Modelfiles together may have at most {MAX_MODELFILES} characters",
)
_COVERS = "m.source.gguf.path == v.mountPath || m.source.gguf.path.startsWith(v.mountPath + '/')"
#: A CEL rule on the spec.
GGUF_ON_A_VOLUME = (
    "self.models.all(m, !has(m.source) || !has(m.source.gguf) || (has(self.pod) && has(self.pod.ollamaVolumeMounts) && "
    f"self.pod.ollamaVolumeMounts.exists(v, {_COVERS})))",
    "source.gguf.path of each model must be below the mountPath of one of pod.ollamaVolumeMounts",
)
_PRELOADED = "self.models.filter(m, m.load == 'Preload').size()"
#: CEL rules on the spec: what can never be ready, and what has no effect.
PRELOADED_MODELS = (
    (
        f"!has(self.ollama) || !has(self.ollama.maxLoadedModels) || {_PRELOADED} <= self.ollama.maxLoadedModels",
        "ollama.maxLoadedModels must be at least the number of models with load Preload, which all stay in memory; "
        "raise it, or set load: OnDemand for some models",
    ),
    (
        f"!has(self.gpu) || !self.gpu.requireFullOffload || {_PRELOADED} > 0",
        "gpu.requireFullOffload is about models with load Preload, and there is none; remove it, or set load: Preload",
    ),
)
# A line inside of a multi-line text can begin with the word from as well. The operator parses the Modelfile.
_HAS_FROM = (
    "has(self.source) || !has(self.modelfile) || !has(self.modelfile.inline) || "
    "self.modelfile.inline.matches('(?im)^[ \\\\t]*from[ \\\\t]')",
    "a Modelfile needs a FROM instruction if source is absent, for example FROM llama3.2:3b",
)


_LABEL = "[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?"
_HOST = rf"{_LABEL}(\.{_LABEL})*"


# The names under which the sidecar prepares models (`llmendpoint_sidecar.agent.builder`).
_NOT_OURS = (
    "!self.lowerAscii().matches('^(registry[.]ollama[.]ai/)?llmendpoint/')",
    "names below llmendpoint/ are those under which models are prepared; choose another name",
)


class RegistrySource(ApiModel):
    """A registry from which a model is pulled."""

    host: Annotated[str, Field(pattern=rf"^{_HOST}(:{PORT_PATTERN})?$", max_length=253)] = Field(
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


class GgufSource(ApiModel):
    """A GGUF file on a volume of the pods."""

    path: Annotated[
        str,
        Field(pattern=r"^(/[^/\n]+)+$", max_length=1024),
        WithJsonSchema(
            {
                "type": "string",
                "pattern": r"^(/[^/\n]+)+$",
                "maxLength": 1024,
                **rules(
                    (
                        "!self.split('/').exists(part, part == '.' || part == '..')",
                        "path must not contain the parts . and ..",
                    )
                ),
            }
        ),
    ] = Field(
        description="Absolute path of the GGUF file in the Ollama container, for example /volumes/gguf/mine.gguf. It "
        "must be below the mountPath of one of pod.ollamaVolumeMounts. The file is copied into the storage of each "
        "replica when the model is created. A file that changes later is read again when the pod restarts."
    )


class ModelSource(ApiModel):
    """Origin of a model: a registry, or a file."""

    model_config = ConfigDict(
        json_schema_extra=rules(("has(self.registry) != has(self.gguf)", "set exactly one of registry and gguf"))
    )

    registry: RegistrySource | None = Field(
        None,
        description="Registry from which the model is pulled. The pulled model is then copied to the name in the field "
        "name. Ollama sends no credentials, so the registry must allow anonymous pulls. Set either this field or gguf.",
    )
    gguf: GgufSource | None = Field(
        None,
        description="GGUF file on a volume of the pods, from which the model is created. Set either this field or "
        "registry.",
    )


class ConfigMapKey(ApiModel):
    """A key of a ConfigMap in the namespace of the endpoint."""

    name: ObjectName = Field(description="Name of the ConfigMap, in the namespace of the endpoint.")
    key: DataKey = Field(description="Key of the ConfigMap, for example Modelfile.")


class Modelfile(ApiModel):
    """An Ollama Modelfile: parameters, template and prompts of a model."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.inline) != has(self.configMapKeyRef)",
                "set exactly one of inline and configMapKeyRef",
            )
        )
    )

    inline: Annotated[str, Field(min_length=1, max_length=MAX_MODELFILE)] | None = Field(
        None,
        description="Text of the Modelfile, for example: SYSTEM You answer in one sentence. Its instructions are those "
        "of Ollama: FROM, PARAMETER, TEMPLATE, SYSTEM, LICENSE, MESSAGE, RENDERER, PARSER and REQUIRES. ADAPTER is not "
        "supported. FROM names another model, which is pulled; it is required if source is absent, and not allowed if "
        f"source is set. At most {MAX_MODELFILE} characters. Set either this field or configMapKeyRef.",
    )
    config_map_key_ref: ConfigMapKey | None = Field(
        None,
        description="Key of a ConfigMap with the text of the Modelfile, in the format of the field inline. If the "
        "ConfigMap changes, the model is created again within about two minutes, without a restart. Set either this "
        "field or inline.",
    )


class Model(ApiModel):
    """A model that every replica serves."""

    model_config = ConfigDict(json_schema_extra=rules(_HAS_FROM))

    name: Annotated[str, Field(min_length=3, max_length=253, json_schema_extra=rules(_TAGGED, _PARTS, _NOT_OURS))] = (
        Field(description="Name that clients use for the model, with its tag, for example llama3.2:3b.")
    )
    load: Load = Field(
        defaults.LOAD,
        description="Preload loads the model into memory before a replica becomes ready, and keeps it there. OnDemand "
        f"loads it on the first request. Defaults to {defaults.LOAD}.",
    )
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = Field(
        None,
        description="Required digest of the model's manifest, as Ollama lists it: sha256: and 64 hexadecimal digits. "
        "It applies to every source, also to a model that is created from a file or with a Modelfile. A model with "
        "another digest is not served: ModelsAvailable is False with reason DigestMismatch, and a version that was "
        "served before stays. If absent, every digest is accepted.",
    )
    source: ModelSource | None = Field(
        None,
        description="Origin of the model. If absent, the model is pulled by its name: from the registry whose host is "
        "part of the name, otherwise from Ollama's public registry. If modelfile is set and has a FROM instruction, "
        "the model is created from the model that FROM names.",
    )
    modelfile: Modelfile | None = Field(
        None,
        description="Modelfile with parameters, template and prompts, with which the model is created from its source. "
        "If absent, the model is used as its source has it.",
    )


def check_modelfile(model: Model, text: str) -> None:
    """Raise ValueError with a sentence if a text is not a valid Modelfile for the model."""
    source = None
    if model.source is not None and model.source.registry is not None:
        source = registry_of(model.source.registry).model_name(model.name)
    elif model.source is not None and model.source.gguf is not None:
        source = model.source.gguf.path
    try:
        base = parse_modelfile(text).base
    except ModelfileError as error:
        raise ValueError(f"{model.name}: {error}") from error
    problem = modelfile_problem(model.name, base, source)
    if problem:
        raise ValueError(f"{model.name}: {problem}")


def check_bases(models: Sequence[Model]) -> None:
    """Raise ValueError with a sentence if models are created from each other in a circle."""
    bases = {
        model_key(model.name): model_key(parse_modelfile(model.modelfile.inline).base)
        for model in models
        if model.modelfile is not None and model.modelfile.inline is not None
    }
    for model in models:
        key = bases.get(model_key(model.name))
        for _ in bases:
            if key == model_key(model.name):
                raise ValueError(f"{model.name}: the Modelfiles of the models name each other in a circle with FROM")
            key = bases.get(key or "")


def registry_of(source: RegistrySource) -> Registry:
    """Return a registry as the sidecar's configuration has it."""
    return Registry(source.host, source.repository, source.insecure)
