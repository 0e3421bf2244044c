"""NetworkPolicy of an endpoint: connections to the ports of the sidecar only, and to its metrics only from a few.

The policy selects pods by labels that no pod of an endpoint gets from a spec. Kubelet's probes are not restricted,
because connections from the node of a pod are always allowed.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.api.endpoint.metering import MeteringMode
from llmendpoint_common.api.endpoint.network_policy import NetworkPeer
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import DASHBOARD_LABEL, LOADTEST_LABEL, OPERATOR_LABEL
from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, PROXY_PORT
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.settings import MetricsAccess

#: The API server sets this label on each namespace, and nobody can change it.
_NAMESPACE_NAME = "kubernetes.io/metadata.name"
_LOAD_PODS = {"podSelector": {"matchExpressions": [{"key": LOADTEST_LABEL, "operator": "Exists"}]}}


def network_policy(owner: Owner, spec: LLMEndpointSpec, access: MetricsAccess) -> Manifest:
    """Return the NetworkPolicy. It does not restrict connections from the pods."""
    # Numbers and not names of ports: in the mode Exporter, the port is that of an init container.
    is_exporter = spec.metering.mode is MeteringMode.EXPORTER
    clients = {"ports": [_port(OLLAMA_PORT if is_exporter else PROXY_PORT)], **_clients(spec.network_policy.from_)}
    metrics = {"ports": [_port(ADMIN_PORT)], "from": _readers(access)}
    return {
        **owner.child("NetworkPolicy", layout.network_policy_name(owner), "network"),
        "spec": {
            "podSelector": {"matchLabels": layout.selector(owner)},
            "policyTypes": ["Ingress"],
            "ingress": [clients, metrics],
        },
    }


def _port(number: int) -> Manifest:
    return {"port": number, "protocol": "TCP"}


def _clients(peers: Sequence[NetworkPeer] | None) -> Manifest:
    """Return the sources that may connect to the port for clients. Without the field, every source may."""
    if peers is None:
        return {}
    given = [peer.model_dump(mode="json", by_alias=True, exclude_defaults=True) for peer in peers]
    return {"from": [*given, _LOAD_PODS]}


def _readers(access: MetricsAccess) -> list[Manifest]:
    """Return the sources that may connect to the port for metrics and status.

    Load pods of the namespace read the records of their own requests there. The dashboard is in the namespace of the
    operator; whoever may create pods there could also give them the label of the operator.
    """
    names = sorted(access.namespaces)
    own = [_labelled(access.operator_namespace, label) for label in (OPERATOR_LABEL, DASHBOARD_LABEL)]
    if not names:
        return [*own, _LOAD_PODS]
    if access.all_namespaces:
        return [{"namespaceSelector": {}}]
    named = {"key": _NAMESPACE_NAME, "operator": "In", "values": names}
    return [{"namespaceSelector": {"matchExpressions": [named]}}, *own, _LOAD_PODS]


def _labelled(namespace: str, label: str) -> Manifest:
    """Return the pods of a namespace that have a label with the value `true`."""
    return {
        "namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: namespace}},
        "podSelector": {"matchLabels": {label: "true"}},
    }
