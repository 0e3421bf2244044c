"""The HTTPRoute of an endpoint: `spec.httpRoute`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, WithJsonSchema

from llmendpoint_common.api.fields import DNS_LABEL, SUBDOMAIN, ApiModel, HostName, Name, ObjectName, ShortText, rules

#: Two references to one parent must name different listeners: a rule of HTTPRoute in the standard channel. CEL reserves
#: the word namespace.
_DIFFERENT_PARENTS = (
    "self.all(p1, self.exists_one(p2, p1.name == p2.name && p1.group == p2.group && p1.kind == p2.kind"
    " && has(p1.__namespace__) == has(p2.__namespace__)"
    " && (!has(p1.__namespace__) || p1.__namespace__ == p2.__namespace__)"
    " && (!has(p1.sectionName) || !has(p2.sectionName) || p1.sectionName == p2.sectionName)))"
)


def _text(pattern: str, length: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "maxLength": length, "pattern": pattern})


_Group = Annotated[ShortText, _text(f"^$|^{SUBDOMAIN}$", 253)]
_Kind = Annotated[Name, _text(r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$", 63)]
_Namespace = Annotated[Name, _text(f"^{DNS_LABEL}$", 63)]


class ParentReference(ApiModel):
    """Reference to a Gateway, or to another parent of an HTTPRoute."""

    name: ObjectName = Field(description="Name of the Gateway.")
    namespace: _Namespace | None = Field(
        None,
        description="Namespace of the Gateway. It must allow routes from the namespace of the endpoint (allowedRoutes "
        "of its listener). If absent, it is the namespace of the endpoint.",
    )
    section_name: ObjectName | None = Field(
        None, description="Name of the listener. If absent, the route is attached to all listeners that allow it."
    )
    port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port of the listeners. If absent, the route is attached to listeners with any port. The "
        "Gateway controller must support this field.",
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
        json_schema_extra=rules(
            (_DIFFERENT_PARENTS, "several parentRefs to the same parent need different values of sectionName")
        ),
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
