"""The condition MonitoringReady."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmendpoint_common.api.endpoint.monitoring import MonitoringMode
from llmendpoint_common.contracts.cluster import FaultReason
from llmendpoint_operator.endpoint.conditions.monitoring_ready import monitoring_ready
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.scraping import PrometheusServer, Scraping, Selectors
from llmendpoint_operator.policy.rules import Violation
from llmendpoint_operator.policy.use import Use
from support.in_memory.endpoints import endpoint_spec
from support.in_memory.observations import CONFLICT, NO_MONITORS, NO_PODS, UNWATCHED, observed, outcome

SELECTORS = Selectors({"matchLabels": {"release": "prometheus"}}, {})
SERVER = PrometheusServer("monitoring", "k8s", {"ServiceMonitor": SELECTORS, "PodMonitor": SELECTORS})
FORBIDDEN_MONITOR = Fault(FaultReason.FORBIDDEN, "ServiceMonitor/assistant", "no rights")

VIOLATION = Violation("serviceTypes", Use("spec.service.type", "NodePort"), ())


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (NO_PODS, (None, "PrometheusUnknown")),
        (replace(NO_PODS, scraping=Scraping()), (None, "PrometheusUnknown")),
        (replace(NO_PODS, scraping=Scraping(selecting=(SERVER,))), (True, "ServiceMonitor")),
        (replace(NO_PODS, scraping=Scraping(selecting=(SERVER,), others=(SERVER,))), (True, "ServiceMonitor")),
        (replace(NO_PODS, scraping=Scraping(unclear=(SERVER,))), (None, "PrometheusUnknown")),
        (replace(NO_PODS, scraping=Scraping(others=(SERVER,))), (False, "NotSelected")),
        (replace(NO_PODS, scraping=Scraping(selecting=(SERVER,)), refused=(CONFLICT,)), (True, "ServiceMonitor")),
        (replace(NO_PODS, invalid="spec.replicas: two", monitored=False), (False, "NotApplied")),
        (replace(NO_PODS, forbidden=(VIOLATION,), monitored=False), (False, "NotApplied")),
        (
            replace(NO_PODS, invalid="spec.replicas: two", scraping=Scraping(selecting=(SERVER,))),
            (True, "ServiceMonitor"),
        ),
        (observed(refused=(NO_MONITORS,)), (False, "ServiceMonitorUnknown")),
        (observed(refused=(FORBIDDEN_MONITOR,)), (False, "Forbidden")),
    ],
)
def test_status_and_reason(seen: Observation, expected: tuple[bool | None, str]) -> None:
    assert outcome(monitoring_ready(endpoint_spec(), seen)) == expected


def test_a_prometheus_that_is_not_available_scrapes_nothing() -> None:
    down = replace(SERVER, unavailable="NoPodReady: shard 0: pod prometheus-k8s-0: CrashLoopBackOff")
    condition = monitoring_ready(endpoint_spec(), replace(NO_PODS, scraping=Scraping(selecting=(down,))))
    assert outcome(condition) == (False, "PrometheusUnavailable")
    assert condition is not None
    assert condition.message == (
        "Nothing scrapes the pods: Prometheus monitoring/k8s selects the ServiceMonitor but is not available (NoPodReady: "
        "shard 0: pod prometheus-k8s-0: CrashLoopBackOff). See the conditions of this Prometheus object and the logs of "
        "its pods."
    )


def test_one_available_prometheus_is_enough() -> None:
    down = replace(SERVER, name="down", unavailable="NoPodReady")
    condition = monitoring_ready(endpoint_spec(), replace(NO_PODS, scraping=Scraping(selecting=(down, SERVER))))
    assert outcome(condition) == (True, "ServiceMonitor")
    assert condition is not None
    assert condition.message == "Prometheus monitoring/k8s selects the ServiceMonitor and scrapes the pods."


def test_it_is_absent_if_nothing_is_to_be_scraped() -> None:
    assert monitoring_ready(endpoint_spec(monitoring={"mode": "None"}), NO_PODS) is None


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_a_required_kind_that_the_cluster_lacks(kind: str) -> None:
    fault = Fault(FaultReason.UNKNOWN_KIND, f"{kind}/assistant", "404")
    seen = replace(observed(refused=(fault,)), scrape_mode=MonitoringMode(kind))
    condition = monitoring_ready(endpoint_spec(monitoring={"mode": kind}), seen)
    assert outcome(condition) == (False, f"{kind}Unknown")
    assert condition is not None
    assert f"does not have the kind {kind}" in condition.message
    assert "set spec.monitoring.mode to Auto" in condition.message


def test_a_pod_monitor_is_judged_by_the_selectors_for_pod_monitors() -> None:
    spec, seen = endpoint_spec(), replace(NO_PODS, scrape_mode=MonitoringMode.POD_MONITOR)
    assert outcome(monitoring_ready(spec, replace(seen, scraping=Scraping(selecting=(SERVER,))))) == (
        True,
        "PodMonitor",
    )
    condition = monitoring_ready(spec, replace(seen, scraping=Scraping(others=(SERVER,))))
    assert outcome(condition) == (False, "NotSelected")
    assert condition is not None
    assert "PodMonitors with release=prometheus" in condition.message
    assert "change podMonitorSelector or podMonitorNamespaceSelector" in condition.message


@pytest.mark.parametrize(
    ("mode", "words"),
    [("Auto", "because the cluster has neither the kind ServiceMonitor nor"), ("Annotations", "prometheus.io/scrape")],
)
def test_whether_annotations_are_read_is_not_known(mode: str, words: str) -> None:
    seen = replace(NO_PODS, scrape_mode=MonitoringMode.ANNOTATIONS)
    condition = monitoring_ready(endpoint_spec(monitoring={"mode": mode}), seen)
    assert outcome(condition) == (None, "Annotations")
    assert condition is not None
    assert words in condition.message
    assert "port 8001 of each pod" in condition.message


def test_annotations_on_a_service_that_is_not_applied() -> None:
    seen = replace(NO_PODS, scrape_mode=MonitoringMode.ANNOTATIONS, monitored=False)
    assert outcome(monitoring_ready(endpoint_spec(), seen)) == (False, "NotApplied")


@pytest.mark.parametrize(
    ("monitors", "namespaces", "words"),
    [
        ({"matchLabels": {"release": "prometheus"}}, {}, "ServiceMonitors with release=prometheus in all namespaces"),
        ({}, None, "all ServiceMonitors in its own namespace"),
        (None, {}, "no ServiceMonitor in all namespaces"),
        (
            {"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]},
            {"matchExpressions": [{"key": "monitored", "operator": "Exists"}]},
            "ServiceMonitors with team In (a, b) in namespaces with monitored Exists",
        ),
    ],
)
def test_the_message_says_what_each_prometheus_selects(monitors: Any, namespaces: Any, words: str) -> None:
    server = PrometheusServer("monitoring", "k8s", {"ServiceMonitor": Selectors(monitors, namespaces)})
    condition = monitoring_ready(endpoint_spec(), replace(NO_PODS, scraping=Scraping(others=(server,))))
    assert condition is not None
    assert f"monitoring/k8s selects {words}. Set these labels in spec.monitoring.labels" in condition.message


def test_service_monitors_that_cannot_be_watched() -> None:
    seen = replace(NO_PODS, scraping=Scraping(), unwatched=(UNWATCHED["ServiceMonitor"],))
    condition = monitoring_ready(endpoint_spec(), seen)
    assert outcome(condition) == (None, "NotWatched")
