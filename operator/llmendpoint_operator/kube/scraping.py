"""Tells how an endpoint is scraped, and which Prometheus servers of the Prometheus Operator select its monitor.

A monitor is a ServiceMonitor or a PodMonitor. For each of these kinds, a Prometheus object has two selectors:
`serviceMonitorNamespaceSelector` or `podMonitorNamespaceSelector` for the labels of namespaces, and
`serviceMonitorSelector` or `podMonitorSelector` for the labels of monitors in them. An absent selector for namespaces
selects the namespace of the Prometheus object, an absent selector for monitors selects none, and an empty selector
selects all (https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.CommonPrometheusFields).

The operator does not read namespaces. It only knows the label that every namespace has, `kubernetes.io/metadata.name`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from llmendpoint_common.api.endpoint.monitoring import MonitoringMode
from llmendpoint_operator.kube.capabilities import Capabilities

Selector: TypeAlias = Mapping[str, Any]

_NAME_OF_NAMESPACE = "kubernetes.io/metadata.name"


def scrape_mode(mode: MonitoringMode, capabilities: Capabilities) -> MonitoringMode:
    """Return the way in which an endpoint is scraped. For Auto, it depends on the kinds that the cluster has."""
    if mode is not MonitoringMode.AUTO:
        return mode
    if capabilities.has("ServiceMonitor"):
        return MonitoringMode.SERVICE_MONITOR
    return MonitoringMode.POD_MONITOR if capabilities.has("PodMonitor") else MonitoringMode.ANNOTATIONS


class Selectors(NamedTuple):
    """The selectors of a Prometheus object for one kind of monitor. None stands for an absent selector."""

    monitors: Selector | None
    namespaces: Selector | None


#: The kinds of monitors, and the fields of a Prometheus object with their selectors.
MONITORS = {
    "ServiceMonitor": ("serviceMonitorSelector", "serviceMonitorNamespaceSelector"),
    "PodMonitor": ("podMonitorSelector", "podMonitorNamespaceSelector"),
}


@dataclass(frozen=True, slots=True)
class PrometheusServer:
    """The selectors of a Prometheus object, by the kind of monitor.

    `unavailable` says why the server does not run, and is empty if it runs or if this is not known.
    """

    namespace: str
    name: str
    selectors: Mapping[str, Selectors]
    unavailable: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Scraping(NamedTuple):
    """The Prometheus servers of a cluster, by whether they select a monitor.

    `unclear` are those that select its labels, but select namespaces by labels that the operator does not know.
    """

    selecting: tuple[PrometheusServer, ...] = ()
    unclear: tuple[PrometheusServer, ...] = ()
    others: tuple[PrometheusServer, ...] = ()


def server_of(body: Mapping[str, Any]) -> PrometheusServer:
    """Return the selectors and the state of a Prometheus object as read from the API."""
    spec, metadata = body.get("spec") or {}, body["metadata"]
    selectors = {kind: Selectors(*(spec.get(field) for field in fields)) for kind, fields in MONITORS.items()}
    return PrometheusServer(metadata["namespace"], metadata["name"], selectors, _unavailable(body.get("status") or {}))


def _unavailable(status: Mapping[str, Any]) -> str:
    """Return the reason and the message of Available=False. Versions of the kind before 0.59 have no conditions."""
    for row in status.get("conditions") or []:
        if row["type"] == "Available" and row["status"] == "False":
            words = ": ".join(text for text in (row.get("reason"), row.get("message")) if text)
            return words.strip().rstrip(". ") or "no reason is given"
    return ""


def scraping(kind: str, namespace: str, labels: Mapping[str, str], servers: Iterable[PrometheusServer]) -> Scraping:
    """Return which servers select a monitor of this kind, with these labels, in this namespace."""
    found: dict[bool | None, list[PrometheusServer]] = {True: [], None: [], False: []}
    for server in sorted(servers, key=str):
        monitors, namespaces = server.selectors[kind]
        selects = monitors is not None and matches(monitors, labels)
        found[selects and _selects_namespace(server.namespace, namespaces, namespace)].append(server)
    return Scraping(tuple(found[True]), tuple(found[None]), tuple(found[False]))


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Return whether a selector (`matchLabels`, `matchExpressions`) selects an object with these labels."""
    equal = all(labels.get(name) == value for name, value in (selector.get("matchLabels") or {}).items())
    return equal and all(_holds(expression, labels) for expression in selector.get("matchExpressions") or ())


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    name, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return labels.get(name) in values
        case "NotIn":
            return labels.get(name) not in values
        case "Exists":
            return name in labels
        case _:
            return name not in labels


def _selects_namespace(own: str, selector: Selector | None, namespace: str) -> bool | None:
    """Return whether a server in the namespace `own` looks for monitors in a namespace, or None if it is not known."""
    if selector is None:
        return own == namespace
    names = {*(selector.get("matchLabels") or {}), *(item["key"] for item in selector.get("matchExpressions") or ())}
    return matches(selector, {_NAME_OF_NAMESPACE: namespace}) if names <= {_NAME_OF_NAMESPACE} else None
