"""MonitoringReady: Prometheus is configured to scrape the pods. It is absent if `monitoring.mode` is None."""

from __future__ import annotations

from llmendpoint_common.api.endpoint import LLMEndpointSpec, MonitoringMode
from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_common.contracts.sidecar import ADMIN_PORT
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.kube.conditions import Condition
from llmendpoint_operator.kube.fault import condition_of, is_lacking_kind

_TYPE = EndpointCondition.MONITORING_READY
_ADVICE = (
    "The cluster does not have the kind ServiceMonitor, so Prometheus is not configured to scrape this endpoint. "
    "Install the Prometheus Operator, or set spec.monitoring.mode to None."
)


def monitoring_ready(spec: LLMEndpointSpec, seen: Observation) -> Condition | None:
    """Return the condition."""
    if spec.monitoring.mode is MonitoringMode.NONE:
        return None
    faults = [fault for fault in seen.refused if fault.kind == "ServiceMonitor"]
    if not faults:
        message = "A ServiceMonitor configures Prometheus to scrape the pods."
        return Condition(_TYPE, True, EndpointReason.SERVICE_MONITOR, message)
    if not is_lacking_kind(faults[0]):
        return condition_of(_TYPE, faults, status=False)
    wanted = spec.monitoring.mode is MonitoringMode.SERVICE_MONITOR
    message = _ADVICE if wanted else f"{_ADVICE} Metrics are served on port {ADMIN_PORT} of each pod."
    return Condition(_TYPE, False, EndpointReason.SERVICE_MONITOR_UNKNOWN, message)
