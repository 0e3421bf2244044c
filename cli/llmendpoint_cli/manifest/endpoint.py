"""Reads the LLMEndpoint of `llmendpoint up -f FILE`.

The file is the one for the cluster. It may have other objects too: the ConfigMaps with Modelfiles are used, and all
others are named as left out. Errors are those of the API server, as far as pydantic and the checks in this module find
them. All of them are reported, each with file, line and field.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from llmendpoint_cli.manifest.source import Document, read_documents
from llmendpoint_common.api.endpoint.metering import MeteringMode
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.api.translate.modelfiles import with_modelfiles
from llmendpoint_common.contracts.cluster import GROUP, VERSION
from llmendpoint_common.contracts.ollama_variables import CODE, FIELDS, FIXED
from llmendpoint_common.contracts.sidecar import Load
from llmendpoint_common.process.errors import ManifestError
from llmendpoint_common.process.units import parse_duration

_KIND = "LLMEndpoint"
_API = f"{GROUP}/{VERSION}"
_MAX_SECONDS = 30 * 24 * 3600
#: Sentences for the error types of pydantic.
_WORDS = {
    "missing": "is required",
    "extra_forbidden": "is not a field",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "string_type": "must be a text; put it in quotes",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "model_type": "must be an object with fields",
    "dict_type": "must be an object with fields",
}
#: Error types of pydantic for bounds: the sentence, and the name of the bound.
_BOUNDS = {
    "greater_than_equal": ("must be at least {}", "ge"),
    "less_than_equal": ("must be at most {}", "le"),
    "too_short": ("must have at least {} item", "min_length"),
    "too_long": ("must have at most {} items", "max_length"),
    "string_too_short": ("must have at least {} characters", "min_length"),
    "string_too_long": ("must have at most {} characters", "max_length"),
}


class Endpoint(NamedTuple):
    """An LLMEndpoint in a file. All Modelfiles of its spec are inline. `others` are sentences about other objects."""

    name: str
    spec: LLMEndpointSpec
    document: Document
    digest: str
    others: tuple[str, ...] = ()


def read_endpoint(path: Path) -> Endpoint:
    """Return the LLMEndpoint in a file. Raises ManifestError, whose message has one line for each error."""
    documents, data = read_documents(path)
    document = _only_endpoint(path, documents)
    errors = list(_frame_errors(document))
    spec = None
    try:
        spec = LLMEndpointSpec.model_validate(document.body.get("spec", {}))
    except ValidationError as error:
        errors += [_sentence(document, details) for details in error.errors(include_url=False)]
    if spec is not None:
        errors += [document.error(("spec", *field), sentence) for field, sentence in broken_rules(spec)]
    if errors or spec is None:
        raise ManifestError("\n".join(errors))
    spec, used = _with_modelfiles(spec, document, documents)
    others = tuple(_other(found) for found in documents if found is not document and found not in used)
    name = str(document.body["metadata"]["name"])
    return Endpoint(name, spec, document, hashlib.sha256(data).hexdigest(), others)


def broken_rules(spec: LLMEndpointSpec) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield field and sentence of the rules of the API server that concern one machine.

    On a cluster, the API server evaluates them in CEL (`x-kubernetes-validations` of the CRD).
    """
    yield from _metering_rules(spec)
    for index, variable in enumerate(spec.ollama.env):
        field = ("ollama", "env", index, "name")
        if variable.name in FIXED:
            yield field, f"{variable.name} is set by llmendpoint; remove it"
        elif variable.name in FIELDS:
            yield field, f"{variable.name} has a field; set spec.ollama.{FIELDS[variable.name]} instead"
        elif variable.name in CODE:
            yield field, f"{variable.name} is not allowed, because it loads code into the Ollama that is metered"
    cache = spec.ollama.kv_cache_type
    if cache is not None and cache.value != "f16" and spec.ollama.flash_attention is False:
        yield ("ollama", "kvCacheType"), "q8_0 and q4_0 require flash attention; remove flashAttention: false"
    preloaded = sum(model.load is Load.PRELOAD for model in spec.models)
    if spec.ollama.max_loaded_models is not None and preloaded > spec.ollama.max_loaded_models:
        yield (
            ("ollama", "maxLoadedModels"),
            f"must be at least {preloaded}, the number of models with load Preload, which all stay in memory",
        )
    if spec.wanted_gpu.require_full_offload and not preloaded:
        yield ("gpu", "requireFullOffload"), "is about models with load Preload, and there is none"


def _metering_rules(spec: LLMEndpointSpec) -> Iterator[tuple[tuple[str | int, ...], str]]:
    metering = spec.metering
    if metering.tenants and metering.auth is None:
        yield ("metering", "tenants"), "requires auth, because tenants are identified by their API keys"
    if metering.mode is MeteringMode.EXPORTER:
        for name in ("auth", "tenants", "default_tenant", "allowed_hosts", "max_waiting", "include_usage", "timeouts",
                     "model_management", "stall", "workers"):  # fmt: skip
            if getattr(metering, name) is not None:
                yield ("metering", _camel(name)), "is only allowed with mode Proxy"
    if metering.stall is not None and not 10 <= parse_duration(metering.stall.after) <= _MAX_SECONDS:
        yield ("metering", "stall", "after"), "must be at least 10s and at most 720h"
    for name in ("connect", "first_byte", "idle", "keep_alive"):
        if metering.timeouts is not None and not 0 < parse_duration(getattr(metering.timeouts, name)) <= _MAX_SECONDS:
            yield ("metering", "timeouts", _camel(name)), "must be longer than 0 and at most 720h (30 days)"
    if spec.ollama.keep_alive is not None and parse_duration(spec.ollama.keep_alive) > _MAX_SECONDS:
        yield ("ollama", "keepAlive"), "must be at most 720h (30 days)"


def _only_endpoint(path: Path, documents: list[Document]) -> Document:
    found = [
        document for document in documents if isinstance(document.body, dict) and document.body.get("kind") == _KIND
    ]
    if not found:
        kinds = ", ".join(sorted({_kind(document) for document in documents})) or "nothing"
        raise ManifestError(f"{path}:1: there is no {_KIND} in this file; it has {kinds}")
    if len(found) > 1:
        raise ManifestError(
            f"{path}:{found[1].line(())}: the file has {len(found)} objects of kind {_KIND}; one machine runs one"
        )
    return found[0]


def _frame_errors(document: Document) -> Iterator[str]:
    body = document.body
    version = body.get("apiVersion")
    if version != _API:
        yield document.error(("apiVersion",), f"must be {_API}, not {version!r}")
    metadata = body.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        yield document.error(("metadata", "name"), "is required")
    for field in body:
        if field not in ("apiVersion", "kind", "metadata", "spec", "status"):
            yield document.error((str(field),), f"is not a field{_meant(str(field), ['metadata', 'spec'])}")


def _sentence(document: Document, details: Any) -> str:
    field = tuple(step for step in details["loc"] if not (isinstance(step, str) and "[" in step))
    kind = details["type"]
    sentence = _WORDS.get(kind) or str(details["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        sentence += _meant(str(field[-1]), _fields_at(LLMEndpointSpec, field[:-1]))
    elif kind in _BOUNDS:
        text, name = _BOUNDS[kind]
        sentence = text.format(details["ctx"][name])
    elif kind == "enum":
        sentence = f"must be {details['ctx']['expected']}"
    elif kind == "string_pattern_mismatch":
        sentence = f"{details['input']!r} does not have the form of this field ({details['ctx']['pattern']})"
    return document.error(("spec", *field), sentence)


def _meant(name: str, candidates: list[str]) -> str:
    close = difflib.get_close_matches(name, candidates, 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _fields_at(model: type[BaseModel], field: tuple[Any, ...]) -> list[str]:
    """Return the names of the fields of the object at a path, or an empty list if it is not known."""
    current: Any = model
    for step in field:
        if isinstance(step, int):
            continue
        found = next((info for info in current.model_fields.values() if info.alias == step), None)
        inner = None if found is None else _model_in(found.annotation)
        if inner is None:
            return []
        current = inner
    return [info.alias or name for name, info in current.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as `list[Model] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None


def _with_modelfiles(
    spec: LLMEndpointSpec, document: Document, documents: list[Document]
) -> tuple[LLMEndpointSpec, list[Document]]:
    """Replace references to ConfigMaps that are in the same file. Return the ConfigMaps that were used."""
    texts: dict[str, str] = {}
    used = []
    for index, model in enumerate(spec.models):
        reference = model.modelfile.config_map_key_ref if model.modelfile else None
        if reference is None:
            continue
        field = ("spec", "models", index, "modelfile", "configMapKeyRef")
        found = next((other for other in documents if _is_config_map(other, reference.name)), None)
        text = None if found is None else (found.body.get("data") or {}).get(reference.key)
        if found is None or not isinstance(text, str):
            raise ManifestError(
                document.error(field, f"there is no ConfigMap {reference.name} with the key {reference.key} in this "
                               "file; on one machine, add it to the file, or write the Modelfile inline")
            )  # fmt: skip
        texts[model.name] = text
        used.append(found)
    try:
        return with_modelfiles(spec, texts), used
    except ValueError as error:
        raise ManifestError(document.error(("spec", "models"), str(error))) from None


def _is_config_map(document: Document, name: str) -> bool:
    body = document.body
    return (
        isinstance(body, dict) and body.get("kind") == "ConfigMap" and (body.get("metadata") or {}).get("name") == name
    )


def _other(document: Document) -> str:
    metadata = document.body.get("metadata") if isinstance(document.body, dict) else None
    name = metadata.get("name", "") if isinstance(metadata, dict) else ""
    kind = _kind(document)
    hints = {
        "LoadTest": "llmendpoint load runs load tests on this machine",
        "LoadTestSchedule": "schedules run on a cluster",
        "Secret": "name the file of a key with --key TENANT=FILE",
    }
    return f"{kind}/{name}: {hints.get(kind, 'only the LLMEndpoint is used on one machine')}"


def _kind(document: Document) -> str:
    return str(document.body.get("kind", "no kind")) if isinstance(document.body, dict) else "no object"


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
