"""Tells which Prometheus servers of the Prometheus Operator select a ServiceMonitor.

A Prometheus object has two selectors: `serviceMonitorNamespaceSelector` for the labels of namespaces, and
`serviceMonitorSelector` for the labels of ServiceMonitors in them. An absent selector for namespaces selects the
namespace of the Prometheus object, an absent selector for ServiceMonitors selects none, and an empty selector selects
all (https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.CommonPrometheusFields).

The operator does not read namespaces. It only knows the label that every namespace has, `kubernetes.io/metadata.name`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

Selector: TypeAlias = Mapping[str, Any]

_NAME_OF_NAMESPACE = "kubernetes.io/metadata.name"


@dataclass(frozen=True, slots=True)
class PrometheusServer:
    """The selectors of a Prometheus object. None stands for an absent selector."""

    namespace: str
    name: str
    monitors: Selector | None
    namespaces: Selector | None

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Scraping(NamedTuple):
    """The Prometheus servers of a cluster, by whether they select a ServiceMonitor.

    `unclear` are those that select its labels, but select namespaces by labels that the operator does not know.
    """

    selecting: tuple[PrometheusServer, ...] = ()
    unclear: tuple[PrometheusServer, ...] = ()
    others: tuple[PrometheusServer, ...] = ()


def server_of(body: Mapping[str, Any]) -> PrometheusServer:
    """Return the selectors of a Prometheus object as read from the API."""
    spec, metadata = body.get("spec") or {}, body["metadata"]
    return PrometheusServer(
        metadata["namespace"],
        metadata["name"],
        spec.get("serviceMonitorSelector"),
        spec.get("serviceMonitorNamespaceSelector"),
    )


def scraping(namespace: str, labels: Mapping[str, str], servers: Iterable[PrometheusServer]) -> Scraping:
    """Return which servers select a ServiceMonitor with these labels in this namespace."""
    found: dict[bool | None, list[PrometheusServer]] = {True: [], None: [], False: []}
    for server in sorted(servers, key=str):
        selects = server.monitors is not None and matches(server.monitors, labels)
        found[selects and _selects_namespace(server, namespace)].append(server)
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


def _selects_namespace(server: PrometheusServer, namespace: str) -> bool | None:
    """Return whether a server looks for ServiceMonitors in a namespace, or None if this is not known."""
    selector = server.namespaces
    if selector is None:
        return server.namespace == namespace
    names = {*(selector.get("matchLabels") or {}), *(item["key"] for item in selector.get("matchExpressions") or ())}
    return matches(selector, {_NAME_OF_NAMESPACE: namespace}) if names <= {_NAME_OF_NAMESPACE} else None
