"""Addresses of the sidecars: the pods behind the headless Services of endpoints. Has no side effects.

Kubernetes writes EndpointSlices, but users who may create Services or EndpointSlices in a namespace could name any
address. Therefore only pods count, only the port for status and metrics, and only Services that are named like those of
an endpoint that exists in this namespace.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from llmendpoint_common.contracts.cluster import ENDPOINT_LABEL, pods_service
from llmendpoint_common.contracts.sidecar import ADMIN_PORT
from llmendpoint_dashboard.cluster.reading import items, number, section, text
from llmendpoint_dashboard.cluster.reflector import Manifest

_SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, order=True)
class SidecarAddress:
    """The admin address of the sidecar in one pod. `name` is NAMESPACE/POD, and `endpoint` NAMESPACE/NAME."""

    name: str
    url: str
    endpoint: str


def slice_addresses(body: Manifest) -> tuple[SidecarAddress, ...]:
    """Return the sidecars of an EndpointSlice. A pod that is being deleted still meters its last requests."""
    metadata = body["metadata"]
    namespace, labels = metadata["namespace"], section(metadata, "labels")
    endpoint = text(labels, ENDPOINT_LABEL)
    has_port = any(number(port, "port") == ADMIN_PORT for port in items(body, "ports"))
    if not endpoint or labels.get(_SERVICE_LABEL) != pods_service(endpoint) or not has_port:
        return ()
    found = []
    for item in items(body, "endpoints"):
        pod, addresses = section(item, "targetRef"), item.get("addresses")
        if pod.get("kind") != "Pod" or pod.get("namespace") != namespace or not addresses:
            continue
        url = _url(str(addresses[0]))
        if url:
            found.append(SidecarAddress(f"{namespace}/{text(pod, 'name')}", url, f"{namespace}/{endpoint}"))
    return tuple(found)


def chosen(slices: Iterable[tuple[SidecarAddress, ...]], limit: int) -> tuple[SidecarAddress, ...]:
    """Return one address per pod, sorted by name. A pod of a dual-stack Service is in two slices."""
    by_name: dict[str, SidecarAddress] = {}
    for address in sorted(address for addresses in slices for address in addresses):
        by_name.setdefault(address.name, address)
    return tuple(by_name.values())[:limit]


def _url(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""
    if parsed.is_loopback or parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified:
        return ""
    return f"http://[{parsed}]:{ADMIN_PORT}" if parsed.version == 6 else f"http://{parsed}:{ADMIN_PORT}"
