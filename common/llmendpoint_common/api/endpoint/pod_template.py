"""`spec.podTemplate`: fields of the pods that have no field of their own in the spec."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from llmendpoint_common.api.endpoint.volumes import free_volume_name
from llmendpoint_common.api.fields import list_map, rules
from llmendpoint_common.contracts.pod import METERING_CONTAINER

_MAX_ITEMS = 16


def _named(description: str, *pairs: tuple[str, str]) -> dict[str, Any]:
    """Return the schema of a list of objects with a name, whose other fields are not specified."""
    name = {"type": "string", "minLength": 1, "maxLength": 63, "description": "Name, which identifies the item."}
    return {
        "type": "array",
        "maxItems": _MAX_ITEMS,
        "description": description,
        "items": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": name},
            "x-kubernetes-preserve-unknown-fields": True,
        },
        **list_map("name"),
        **rules(*pairs),
    }


_METER = (
    f"self.all(c, c.name != '{METERING_CONTAINER}')",
    f"the container {METERING_CONTAINER} cannot be changed; use spec.metering",
)
_IS_FREE, _NAME_IN_USE = free_volume_name("v.name")
_FREE_NAMES = (f"self.all(v, {_IS_FREE})", _NAME_IN_USE)
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 32,
            "description": "Fields of the PodSpec of Kubernetes, in its own notation, for example dnsConfig, "
            "hostAliases, schedulerName, containers and initContainers. They are merged with the pod of the operator.",
            "properties": {
                "containers": _named("Additional containers. They run beside the metering sidecar.", _METER),
                "initContainers": _named(
                    "Additional init containers, which run before Ollama starts, and additions to the container "
                    "ollama: env, volumeMounts, volumeDevices, lifecycle and resizePolicy.",
                    _METER,
                ),
                "volumes": _named(
                    "Additional volumes, for additional containers and for ollama.",
                    _FREE_NAMES,
                ),
            },
            "x-kubernetes-preserve-unknown-fields": True,
        }
    },
}

#: A template in the notation of Kubernetes, of which only the parts in `_SCHEMA` are specified.
PodTemplate = Annotated[dict[str, Any], Field(), WithJsonSchema(_SCHEMA)]
