"""The HTTPRoute of an endpoint: `spec.httpRoute`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, WithJsonSchema

from llmendpoint_common.api.fields import ApiModel, HostName, Name, ObjectName, ShortText, rules

_OPTIONAL = ("__namespace__", "sectionName", "port")
#: Two references to one parent must name different listeners, as the Gateway API requires it. CEL reserves the word
#: namespace. Fields are compared without `?:`, because the API server estimates its result as a string without a bound.
_DIFFERENT_PARENTS = "self.all(p1, self.exists_one(p2, p1.name == p2.name && p1.group == p2.group && p1.kind == p2.kind"
_DIFFERENT_PARENTS += "".join(f" && has(p1.{name}) == has(p2.{name})" for name in _OPTIONAL)
_DIFFERENT_PARENTS += "".join(f" && (!has(p1.{name}) || p1.{name} == p2.{name})" for name in _OPTIONAL) + "))"


def _text(pattern: str, length: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "maxLength": length, "pattern": pattern})


_Group = Annotated[ShortText, _text(r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", 253)]
_Kind = Annotated[Name, _text(r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$", 63)]
_Namespace = Annotated[Name, _text(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", 63)]


class ParentReference(ApiModel):
    """Reference to a Gateway, or to another parent of an HTTPRoute."""

    name: ObjectName = Field(description="Name of the Gateway.")
    namespace: _Namespace | None = Field(
        None,
        description="Namespace of the Gateway. It must allow routes from the namespace of the endpoint (allowedRoutes "
        "of its listener). If absent, the namespace of the endpoint.",
    )
    section_name: ObjectName | None = Field(
        None, description="Name of the listener. If absent, the route is attached to all listeners that allow it."
    )
    port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of the listeners. If absent, listeners with any port. The Gateway controller must support "
        "this field.",
    )
    group: _Group = Field(
        "gateway.networking.k8s.io",
        description="API group of the parent. Defaults to gateway.networking.k8s.io, the group of Gateways.",
    )
    kind: _Kind = Field(
        "Gateway", description="Kind of the parent, for example Gateway, or ListenerSet. Defaults to Gateway."
    )


class HTTPRoute(ApiModel):
    """The HTTPRoute through which clients use an endpoint behind a Gateway."""

    parent_refs: list[ParentReference] = Field(
        min_length=1,
        max_length=8,
        description="Gateways that serve the endpoint, or their listeners: at least 1, at most 8.",
        json_schema_extra=rules((_DIFFERENT_PARENTS, "two parentRefs must not name the same listeners of a Gateway")),
    )
    hostnames: list[HostName] = Field(
        default_factory=list,
        max_length=16,
        description="Host names under which clients use the endpoint, for example llm.example.com, or a wildcard such "
        "as *.example.com. If metering.allowedHosts is set, these names are allowed in addition to it. If absent or "
        "empty, the route gets all requests for the host names of the listeners, and their names have to be in "
        "metering.allowedHosts if that is set.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
