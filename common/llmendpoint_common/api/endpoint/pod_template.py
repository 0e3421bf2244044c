"""`spec.podTemplate`: fields of the pods that have no field of their own in the spec.

The schema only specifies the names of containers and volumes, so that the API server and clients merge the lists by
name. The package `template` lists what is allowed. What is not allowed makes the spec invalid, with a sentence for each
field: nothing in a template is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Final

from pydantic import AfterValidator, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

from llmendpoint_common.api.endpoint.template.part import SENTENCE, Path, errors
from llmendpoint_common.api.endpoint.template.pod import NO_METADATA, TAGS, Template
from llmendpoint_common.api.endpoint.volumes import free_volume_name
from llmendpoint_common.api.fields import cel_list, list_map, rules
from llmendpoint_common.contracts.pod import METERING_CONTAINER, OLLAMA_CONTAINER

#: Maximum size of a template as JSON. The children are stored in etcd, which limits objects to 1.5 MiB.
MAX_TEMPLATE_BYTES: Final = 64 * 1024
#: Maximum depth. The deepest field of a container in Kubernetes is at half of it.
_MAX_DEPTH = 24
_MAX_ITEMS = 16
_MAX_FIELDS = 32


#: Messages by pydantic's types of errors, with the names of their values.
_WORDS: Final = {
    "missing": "required",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
}


def _named(description: str, *pairs: tuple[str, str], **fields: Any) -> dict[str, Any]:
    """Return the schema of a list of objects with a name, whose other fields are not specified, except `fields`."""
    name = {
        "type": "string",
        "minLength": 1,
        "maxLength": 63,
        "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "description": "Name, which identifies the item: lowercase letters, digits and dashes.",
    }
    return {
        "type": "array",
        "maxItems": _MAX_ITEMS,
        "description": description,
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": name, **fields},
            "x-kubernetes-preserve-unknown-fields": True,
        },
        **list_map("name"),
        **rules(*pairs),
    }


_METER = (
    f"self.all(c, c.name != '{METERING_CONTAINER}')",
    f"the container {METERING_CONTAINER} cannot be changed; use spec.metering",
)
_IMAGE = {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Image of an additional container."}
_HAS_IMAGE = (
    f"self.all(c, has(c.image) || c.name in {cel_list((OLLAMA_CONTAINER, METERING_CONTAINER))})",
    "image is required for an additional container; to add to the container ollama, use initContainers",
)
_IS_FREE, _NAME_IN_USE = free_volume_name("v.name")
_METADATA = f"metadata is {NO_METADATA}"
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    # A pod template of Kubernetes has metadata. Without this field, the API server would drop it without a word if a
    # client does not validate strictly.
    **rules(("!has(self.metadata)", _METADATA)),
    "properties": {
        "metadata": {
            "type": "object",
            "description": f"Always refused: {_METADATA}.",
            "x-kubernetes-preserve-unknown-fields": True,
        },
        "spec": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": _MAX_FIELDS,
            "description": "Fields of the PodSpec of Kubernetes, in its own notation: containers, initContainers, "
            "volumes, dnsConfig, dnsPolicy, hostAliases, hostUsers, readinessGates, resources, schedulerName, "
            "schedulingGates and setHostnameAsFQDN. They are merged with the pod of the operator.",
            "properties": {
                "containers": _named(
                    "Additional containers. They run beside the metering sidecar.", _METER, _HAS_IMAGE, image=_IMAGE
                ),
                "initContainers": _named(
                    "Additional init containers, which run before Ollama starts, and additions to the container "
                    "ollama: env, volumeMounts, volumeDevices and resizePolicy.",
                    _METER,
                    _HAS_IMAGE,
                    image=_IMAGE,
                ),
                "volumes": _named(
                    "Additional volumes, for additional containers and for ollama.",
                    (f"self.all(v, {_IS_FREE})", _NAME_IN_USE),
                ),
            },
            "x-kubernetes-preserve-unknown-fields": True,
        },
    },
}


def _checked(template: dict[str, Any]) -> dict[str, Any]:
    """Return the template. Raises ValidationError with the paths of the fields that are not allowed."""
    directives = dict(_directives(template, ()))
    if directives:
        raise errors("podTemplate", directives)
    if len(json.dumps(template, separators=(",", ":"), ensure_ascii=False).encode()) > MAX_TEMPLATE_BYTES:
        raise ValueError(f"must have at most {MAX_TEMPLATE_BYTES} bytes as JSON")
    try:
        Template.model_validate(template)
    except ValidationError as error:
        raise errors("podTemplate", dict(_sentences(error))) from None
    return template


def _directives(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the fields that would remove something from the pod in a strategic merge patch."""
    if len(path) > _MAX_DEPTH:
        yield path[:2], f"more than {_MAX_DEPTH} levels are not supported"
    elif value is None:
        yield path, "null is not supported: podTemplate can add to the pod, but not remove fields from it"
    elif isinstance(value, dict):
        for name, item in value.items():
            if str(name).startswith("$"):
                yield (*path, name), "not supported: podTemplate can add to the pod, but not remove fields from it"
            else:
                yield from _directives(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _directives(item, (*path, index))


def _sentences(error: ValidationError) -> Iterator[tuple[Path, str]]:
    for each in error.errors():
        path = tuple(part for index, part in enumerate(each["loc"]) if not _is_tag(each["loc"], index))
        yield path, each["msg"] if each["type"] == SENTENCE else _plain(each)


def _plain(error: ErrorDetails) -> str:
    """Return an error of pydantic in the words of Kubernetes."""
    words = _WORDS.get(error["type"])
    return f"invalid value: {error['msg']}" if words is None else words.format(**error.get("ctx", {}))


def _is_tag(path: Path, index: int) -> bool:
    """Return whether a part of a path is the tag of a union, which follows the index of an init container."""
    return index == 3 and path[index] in TAGS and path[1] == "initContainers"


#: A template in the notation of Kubernetes, of which only the parts in `_SCHEMA` are specified.
PodTemplate = Annotated[dict[str, Any], AfterValidator(_checked), WithJsonSchema(_SCHEMA)]
