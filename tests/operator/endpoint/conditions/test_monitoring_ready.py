"""The condition MonitoringReady."""

from __future__ import annotations

import pytest

from llmendpoint_common.contracts.cluster import FaultReason
from llmendpoint_operator.endpoint.conditions.monitoring_ready import monitoring_ready
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.kube.fault import Fault
from support.endpoints import endpoint_spec
from support.observations import CONFLICT, NO_MONITORS, NO_PODS, observed, outcome

FORBIDDEN_MONITOR = Fault(FaultReason.FORBIDDEN, "ServiceMonitor/assistant", "no rights")


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (NO_PODS, (True, "ServiceMonitor")),
        (observed(refused=(CONFLICT,)), (True, "ServiceMonitor")),
        (observed(refused=(NO_MONITORS,)), (False, "ServiceMonitorUnknown")),
        (observed(refused=(FORBIDDEN_MONITOR,)), (False, "Forbidden")),
    ],
)
def test_status_and_reason(seen: Observation, expected: tuple[bool | None, str]) -> None:
    assert outcome(monitoring_ready(endpoint_spec(), seen)) == expected


def test_it_is_absent_if_nothing_is_to_be_scraped() -> None:
    assert monitoring_ready(endpoint_spec(monitoring={"mode": "None"}), NO_PODS) is None


def test_the_message_gives_the_port_unless_a_service_monitor_is_required() -> None:
    seen = observed(refused=(NO_MONITORS,))
    automatic = monitoring_ready(endpoint_spec(), seen)
    required = monitoring_ready(endpoint_spec(monitoring={"mode": "ServiceMonitor"}), seen)
    assert automatic is not None
    assert required is not None
    assert "port 8001" in automatic.message
    assert "port 8001" not in required.message
    assert "Install the Prometheus Operator" in required.message
