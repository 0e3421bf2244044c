"""Fields of a pod that a spec sets: resources, placement and pull secrets. Empty fields are omitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from pydantic import BaseModel

from llmendpoint_common.api.fields import LocalReference, Resources, Toleration
from llmendpoint_common.api.quantity import with_defaults


def resources(
    given: Resources, requests: Mapping[str, str], limits: Mapping[str, str] | None = None
) -> dict[str, dict[str, str]]:
    """Return the resources of a container. `given` takes precedence over the defaults in `requests` and `limits`.

    A default that would contradict what is given is moved: a limit below the default request lowers the request.
    """
    requested, limited = with_defaults(given.requests, given.limits, requests, limits or {})
    merged = {"requests": requested, "limits": limited}
    return {name: value for name, value in merged.items() if value}


def placement(
    node_selector: dict[str, str], tolerations: Sequence[Toleration], priority_class_name: str | None
) -> dict[str, Any]:
    """Return the fields of a pod that the scheduler uses."""
    fields: dict[str, Any] = {
        "nodeSelector": node_selector,
        "tolerations": [toleration.model_dump(by_alias=True, exclude_none=True) for toleration in tolerations],
        "priorityClassName": priority_class_name,
    }
    return {name: value for name, value in fields.items() if value}


def pull_secrets(given: Sequence[LocalReference], default: Sequence[str]) -> dict[str, Any]:
    """Return `imagePullSecrets`: the Secrets of the spec, then those of the operator's settings, without duplicates."""
    names = dict.fromkeys([*(reference.name for reference in given), *default])
    return {"imagePullSecrets": [{"name": name} for name in names]} if names else {}


def manifest_of(model: BaseModel) -> dict[str, Any]:
    """Return an object of a spec as a part of a manifest, without absent fields, False, and empty lists and maps.

    An empty object stays: an empty label selector selects everything, and an absent one nothing.
    """
    values = ((field.alias or name, getattr(model, name)) for name, field in type(model).model_fields.items())
    return {name: _plain(value) for name, value in values if value is not None and value not in (False, [], {})}


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return manifest_of(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value
