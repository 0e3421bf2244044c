"""MonitoringReady: a Prometheus server is configured to scrape the pods. It is absent if `monitoring.mode` is None."""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.api.endpoint.monitoring import MonitoringMode
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_common.contracts.sidecar import ADMIN_PORT
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.kube.conditions import Condition
from llmendpoint_operator.kube.fault import condition_of, is_lacking_kind
from llmendpoint_operator.kube.scraping import PrometheusServer, Scraping, Selector
from llmendpoint_operator.kube.unwatched import sentence

_TYPE = EndpointCondition.MONITORING_READY
_NOT_APPLIED = Condition(
    _TYPE,
    False,
    EndpointReason.NOT_APPLIED,
    "The endpoint does not have a ServiceMonitor, because its spec is not applied. The conditions Stalled and Degraded "
    "say why.",
)
_MAX_NAMES = 5
_CANNOT_SEE = (
    "The endpoint has a ServiceMonitor. The operator cannot see Prometheus objects, because the cluster does not have "
    "this kind or because the operator is limited to namespaces, so it is not known whether a Prometheus selects it."
)
_UNCLEAR = (
    "Prometheus {} selects the labels of the ServiceMonitor, but selects namespaces by labels, which the operator does "
    "not read. Compare its serviceMonitorNamespaceSelector with the labels of the namespace of this endpoint."
)
_NO_SERVER = (
    "The endpoint has a ServiceMonitor, but the cluster does not have a Prometheus object that could select it. If an "
    "agent scrapes ServiceMonitors, nothing has to be done."
)
_NOT_SELECTED = (
    "No Prometheus selects the ServiceMonitor: {}. Set these labels in spec.monitoring.labels or, for all endpoints, "
    "in the chart's value monitoring.labels, or change serviceMonitorSelector or serviceMonitorNamespaceSelector of "
    "the Prometheus."
)
_ADVICE = (
    "The cluster does not have the kind ServiceMonitor, so Prometheus is not configured to scrape this endpoint. "
    "Install the Prometheus Operator, or set spec.monitoring.mode to None."
)


def monitoring_ready(spec: LLMEndpointSpec, seen: Observation) -> Condition | None:
    """Return the condition."""
    if spec.monitoring.mode is MonitoringMode.NONE:
        return None
    faults = [fault for fault in seen.refused if fault.kind == "ServiceMonitor"]
    lost = [each for each in seen.unwatched if each.kind == "ServiceMonitor"]
    if lost:
        return Condition(_TYPE, None, EndpointReason.NOT_WATCHED, sentence(lost))
    if not faults:
        return _selection(seen.scraping) if seen.monitored else _NOT_APPLIED
    if not is_lacking_kind(faults[0]):
        return condition_of(_TYPE, faults, status=False)
    wanted = spec.monitoring.mode is MonitoringMode.SERVICE_MONITOR
    message = _ADVICE if wanted else f"{_ADVICE} Metrics are served on port {ADMIN_PORT} of each pod."
    return Condition(_TYPE, False, EndpointReason.SERVICE_MONITOR_UNKNOWN, message)


def _selection(scraping: Scraping | None) -> Condition:
    """Return the condition of an endpoint that has a ServiceMonitor."""
    if scraping is None:
        return Condition(_TYPE, None, EndpointReason.PROMETHEUS_UNKNOWN, _CANNOT_SEE)
    if scraping.selecting:
        message = f"Prometheus {_names(scraping.selecting)} selects the ServiceMonitor and scrapes the pods."
        return Condition(_TYPE, True, EndpointReason.SERVICE_MONITOR, message)
    if scraping.unclear:
        message = _UNCLEAR.format(_names(scraping.unclear))
        return Condition(_TYPE, None, EndpointReason.PROMETHEUS_UNKNOWN, message)
    if not scraping.others:
        return Condition(_TYPE, None, EndpointReason.PROMETHEUS_UNKNOWN, _NO_SERVER)
    wanted = [
        f"{server} selects {_labels(server.monitors)} in {_namespaces(server.namespaces)}"
        for server in scraping.others[:_MAX_NAMES]
    ]
    return Condition(_TYPE, False, EndpointReason.NOT_SELECTED, _NOT_SELECTED.format("; ".join(wanted)))


def _labels(selector: Selector | None) -> str:
    """Return the ServiceMonitors that a selector selects, in words."""
    if selector is None:
        return "no ServiceMonitor"
    return f"ServiceMonitors with {rules}" if (rules := _rules(selector)) else "all ServiceMonitors"


def _namespaces(selector: Selector | None) -> str:
    """Return the namespaces that a selector selects, in words."""
    if selector is None:
        return "its own namespace"
    return f"namespaces with {rules}" if (rules := _rules(selector)) else "all namespaces"


def _rules(selector: Selector) -> str:
    """Return the labels that a selector requires, as in kubectl's `--selector`."""
    labels = [f"{name}={value}" for name, value in (selector.get("matchLabels") or {}).items()]
    rules = [
        f"{rule['key']} {rule['operator']} ({', '.join(rule.get('values') or ())})".removesuffix(" ()")
        for rule in selector.get("matchExpressions") or ()
    ]
    return ", ".join([*labels, *rules])


def _names(servers: Sequence[PrometheusServer]) -> str:
    names = [str(server) for server in servers[:_MAX_NAMES]]
    return ", ".join(names) + (", …" if len(servers) > _MAX_NAMES else "")
