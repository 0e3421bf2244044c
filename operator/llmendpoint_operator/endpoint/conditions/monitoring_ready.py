"""MonitoringReady: a Prometheus server that runs is configured to scrape the pods.

It is absent if `monitoring.mode` is None.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.api.endpoint.monitoring import MonitoringMode
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_common.contracts.sidecar import ADMIN_PORT
from llmendpoint_common.diagnosis.sentences import monitors_selected_by, not_selected
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.kube.conditions import Condition
from llmendpoint_operator.kube.fault import condition_of, is_lacking_kind
from llmendpoint_operator.kube.scraping import PrometheusServer, Scraping, Selector
from llmendpoint_operator.kube.unwatched import sentence

_TYPE = EndpointCondition.MONITORING_READY
_MAX_NAMES = 5
_SELECTED = {
    MonitoringMode.SERVICE_MONITOR: EndpointReason.SERVICE_MONITOR,
    MonitoringMode.POD_MONITOR: EndpointReason.POD_MONITOR,
}
_LACKING = {
    "ServiceMonitor": EndpointReason.SERVICE_MONITOR_UNKNOWN,
    "PodMonitor": EndpointReason.POD_MONITOR_UNKNOWN,
}

# `{kind}` is ServiceMonitor or PodMonitor, and `{selector}` is the prefix of the selectors of this kind.
_NOT_APPLIED = (
    "The endpoint does not have a {kind}, because its spec is not applied. The conditions Stalled and Degraded say why."
)
_CANNOT_SEE = (
    "The endpoint has a {kind}. The operator cannot see Prometheus objects, because the cluster does not have this "
    "kind or because the operator is limited to namespaces, so it is not known whether a Prometheus selects it."
)
_UNCLEAR = (
    "Prometheus {names} selects the labels of the {kind}, but selects namespaces by labels, which the operator does "
    "not read. Compare its {selector}NamespaceSelector with the labels of the namespace of this endpoint."
)
_NO_SERVER = (
    "The endpoint has a {kind}, but the cluster does not have a Prometheus object that could select it. If an agent "
    "scrapes {kind}s, nothing has to be done."
)
_UNAVAILABLE = (
    "Nothing scrapes the pods: Prometheus {why}. See the conditions of this Prometheus object and the logs of its pods."
)
_ADVICE = (
    "The cluster does not have the kind {kind}, so Prometheus is not configured to scrape this endpoint. Install the "
    "Prometheus Operator, or set spec.monitoring.mode to Auto, which then uses what the cluster has."
)
_ANNOTATED = (
    "The headless Service of this endpoint, whose name ends with -pods, has the annotations prometheus.io/scrape, "
    "prometheus.io/port and prometheus.io/path{why}. The operator cannot see whether a Prometheus scrapes the "
    f"endpoints of annotated Services. If none does, scrape port {ADMIN_PORT} of each pod."
)
_WHY = ", because the cluster has neither the kind ServiceMonitor nor the kind PodMonitor"


def monitoring_ready(spec: LLMEndpointSpec, seen: Observation) -> Condition | None:
    """Return the condition."""
    mode = seen.scrape_mode
    if spec.monitoring.mode is MonitoringMode.NONE:
        return None
    if mode is MonitoringMode.ANNOTATIONS:
        return _annotated(spec, seen)
    kind = mode.value
    faults = [fault for fault in seen.refused if fault.kind == kind]
    lost = [each for each in seen.unwatched if each.kind == kind]
    if lost:
        return Condition(_TYPE, None, EndpointReason.NOT_WATCHED, sentence(lost))
    if not faults:
        return _selection(mode, seen.scraping) if seen.monitored else _not_applied(kind)
    if not is_lacking_kind(faults[0]):
        return condition_of(_TYPE, faults, status=False)
    return Condition(_TYPE, False, _LACKING[kind], _ADVICE.format(kind=kind))


def _not_applied(kind: str) -> Condition:
    return Condition(_TYPE, False, EndpointReason.NOT_APPLIED, _NOT_APPLIED.format(kind=kind))


def _annotated(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    """Return the condition of an endpoint that is scraped because its headless Service has annotations."""
    if not seen.monitored:
        return _not_applied("headless Service")
    why = _WHY if spec.monitoring.mode is MonitoringMode.AUTO else ""
    return Condition(_TYPE, None, EndpointReason.ANNOTATIONS, _ANNOTATED.format(why=why))


def _selection(mode: MonitoringMode, scraping: Scraping | None) -> Condition:
    """Return the condition of an endpoint that has a ServiceMonitor or a PodMonitor."""
    kind, selector = mode.value, f"{mode.value[0].lower()}{mode.value[1:]}"
    unknown = EndpointReason.PROMETHEUS_UNKNOWN
    if scraping is None:
        return Condition(_TYPE, None, unknown, _CANNOT_SEE.format(kind=kind))
    if scraping.selecting:
        return _selected(mode, scraping.selecting)
    if scraping.unclear:
        message = _UNCLEAR.format(names=_names(scraping.unclear), kind=kind, selector=selector)
        return Condition(_TYPE, None, unknown, message)
    if not scraping.others:
        return Condition(_TYPE, None, unknown, _NO_SERVER.format(kind=kind))
    wanted = "; ".join(_selects(server, kind) for server in scraping.others[:_MAX_NAMES])
    return Condition(_TYPE, False, EndpointReason.NOT_SELECTED, not_selected(kind, wanted, selector))


def _selected(mode: MonitoringMode, servers: Sequence[PrometheusServer]) -> Condition:
    """Return the condition of an endpoint whose monitor these servers select. One that runs is enough."""
    running = [server for server in servers if not server.unavailable]
    if running:
        message = f"Prometheus {_names(running)} selects the {mode.value} and scrapes the pods."
        return Condition(_TYPE, True, _SELECTED[mode], message)
    why = "; ".join(
        f"{server} selects the {mode.value} but is not available ({server.unavailable})"
        for server in servers[:_MAX_NAMES]
    )
    message = _UNAVAILABLE.format(why=why)
    return Condition(_TYPE, False, EndpointReason.PROMETHEUS_UNAVAILABLE, message)


def _selects(server: PrometheusServer, kind: str) -> str:
    """Return the monitors that a server selects, in words."""
    monitors, namespaces = server.selectors[kind]
    return monitors_selected_by(str(server), _labels(monitors, kind), _namespaces(namespaces))


def _labels(selector: Selector | None, kind: str) -> str:
    """Return the monitors of a kind that a selector selects, in words."""
    if selector is None:
        return f"no {kind}"
    return f"{kind}s with {rules}" if (rules := _rules(selector)) else f"all {kind}s"


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
