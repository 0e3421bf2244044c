"""The NetworkPolicy of an endpoint: `spec.networkPolicy`."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, WithJsonSchema

from llmendpoint_common.api.fields import ApiModel, Name, rules
from llmendpoint_common.api.label_selector import LabelSelector

_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_BYTE}(\.{_BYTE}){{3}}/(3[0-2]|[12]?[0-9])"
# An IPv6 address has many forms. The API server checks the rest when the operator writes the NetworkPolicy.
_IPV6 = r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9])"
Cidr = Annotated[Name, WithJsonSchema({"type": "string", "maxLength": 64, "pattern": f"^({_IPV4}|{_IPV6})$"})]


class IPBlock(ApiModel):
    """A range of IP addresses."""

    cidr: Cidr = Field(description="Range of addresses in CIDR notation, for example 192.0.2.0/24 or 2001:db8::/64.")
    except_: list[Cidr] = Field(
        default_factory=list,
        alias="except",
        max_length=16,
        description="Ranges inside cidr that are not allowed, in CIDR notation.",
    )


class NetworkPeer(ApiModel):
    """Sources of connections, as in the field `from` of a NetworkPolicy."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "has(self.podSelector) || has(self.namespaceSelector) || has(self.ipBlock)",
                "set podSelector, namespaceSelector or both, or ipBlock",
            ),
            (
                "!has(self.ipBlock) || !(has(self.podSelector) || has(self.namespaceSelector))",
                "ipBlock may not be set together with podSelector or namespaceSelector",
            ),
        )
    )

    pod_selector: LabelSelector | None = Field(
        None,
        description="Pods, by their labels. If namespaceSelector is absent, only pods in the namespace of the endpoint."
        " The empty selector {} selects all pods.",
    )
    namespace_selector: LabelSelector | None = Field(
        None,
        description="Namespaces, by their labels. Without podSelector, all their pods are allowed. The empty selector "
        "{} selects all namespaces. Each namespace has the label kubernetes.io/metadata.name with its name.",
    )
    ip_block: IPBlock | None = Field(
        None,
        description="Addresses outside the cluster. Which address a network plugin compares, if a load balancer or a "
        "node forwards the connection, differs between clusters: test it.",
    )


class NetworkPolicy(ApiModel):
    """The NetworkPolicy of the pods."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("self.enabled || !has(self.from)", "from has no effect if enabled is false; remove it"),
        )
    )

    enabled: bool = Field(
        True,
        description="Whether the pods get a NetworkPolicy. It allows connections to two ports only: the port for "
        "clients, from the peers in the field from, and the port for metrics and status (8001), from the namespaces of "
        "the monitoring and from the operator. Connections from the pods, for example to pull models, are not "
        "restricted. The policy has an effect only if the network plugin of the cluster enforces NetworkPolicies. "
        "Further NetworkPolicies in the namespace can allow more connections. Defaults to true.",
    )
    from_: list[NetworkPeer] | None = Field(
        None,
        alias="from",
        min_length=1,
        max_length=16,
        description="Sources that may connect to the port for clients, in addition to the pods of load tests in the "
        "namespace. If spec.ingress or spec.httpRoute is set, the pods of the controller have to be among them. If "
        "absent, every source is allowed.",
    )
