"""How an endpoint is scraped, and which Prometheus servers select its monitor."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_common.api.endpoint.monitoring import MonitoringMode
from llmendpoint_operator.kube.capabilities import Capabilities
from llmendpoint_operator.kube.scraping import matches, scrape_mode, scraping, server_of

LABELS = {"release": "prometheus", "team": "ml"}
RELEASE = {"matchLabels": {"release": "prometheus"}}


def server(kind: str, monitors: Any, namespaces: Any, namespace: str = "monitoring") -> Any:
    prefix = kind[0].lower() + kind[1:]
    spec = {f"{prefix}Selector": monitors, f"{prefix}NamespaceSelector": namespaces}
    present = {name: value for name, value in spec.items() if value is not None}
    return server_of({"metadata": {"namespace": namespace, "name": "k8s"}, "spec": present})


@pytest.mark.parametrize(
    ("mode", "kinds", "expected"),
    [
        ("Auto", {"ServiceMonitor", "PodMonitor"}, "ServiceMonitor"),
        ("Auto", {"PodMonitor"}, "PodMonitor"),
        ("Auto", set(), "Annotations"),
        *((mode, kinds, mode) for mode in ("ServiceMonitor", "PodMonitor", "Annotations", "None")
          for kinds in ({"ServiceMonitor", "PodMonitor"}, set[str]())),
    ],
)  # fmt: skip
def test_only_auto_depends_on_the_kinds_of_the_cluster(mode: str, kinds: set[str], expected: str) -> None:
    assert scrape_mode(MonitoringMode(mode), Capabilities(frozenset(kinds))) == expected


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
@pytest.mark.parametrize(
    ("monitors", "namespaces", "expected"),
    [
        (RELEASE, {}, "selecting"),
        ({}, {}, "selecting"),
        # An absent selector for ServiceMonitors selects none.
        (None, {}, "others"),
        ({"matchLabels": {"release": "other"}}, {}, "others"),
        # An absent selector for namespaces selects the namespace of the Prometheus.
        (RELEASE, None, "others"),
        (RELEASE, {"matchLabels": {"kubernetes.io/metadata.name": "ns"}}, "selecting"),
        (RELEASE, {"matchLabels": {"kubernetes.io/metadata.name": "b"}}, "others"),
        # The operator does not read the labels of namespaces.
        (RELEASE, {"matchLabels": {"monitored": "yes"}}, "unclear"),
        ({"matchLabels": {"release": "other"}}, {"matchLabels": {"monitored": "yes"}}, "others"),
    ],
)
def test_a_server_selects_by_labels_and_namespaces(kind: str, monitors: Any, namespaces: Any, expected: str) -> None:
    one = server(kind, monitors, namespaces)
    assert getattr(scraping(kind, "ns", LABELS, [one]), expected) == (one,)


def test_a_server_selects_its_own_namespace_by_default() -> None:
    one = server("ServiceMonitor", RELEASE, None, namespace="ns")
    assert scraping("ServiceMonitor", "ns", LABELS, [one]).selecting == (one,)


def test_a_server_that_selects_service_monitors_does_not_select_pod_monitors() -> None:
    one = server("ServiceMonitor", RELEASE, {})
    assert scraping("PodMonitor", "ns", LABELS, [one]).others == (one,)


@pytest.mark.parametrize(
    ("operator", "key", "values", "expected"),
    [
        ("In", "team", ["ml", "data"], True),
        ("In", "absent", ["ml"], False),
        ("NotIn", "team", ["ml"], False),
        ("NotIn", "absent", ["ml"], True),
        ("Exists", "team", None, True),
        ("Exists", "absent", None, False),
        ("DoesNotExist", "team", None, False),
        ("DoesNotExist", "absent", None, True),
    ],
)
def test_expressions(operator: str, key: str, values: Any, expected: bool) -> None:
    assert matches({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}, LABELS) is expected


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (
            [{"type": "Available", "status": "False", "reason": "NoPodReady", "message": "no pod.\n"}],
            "NoPodReady: no pod",
        ),
        ([{"type": "Available", "status": "False"}], "no reason is given"),
        ([{"type": "Available", "status": "True"}], ""),
        # Some shards or replicas run.
        ([{"type": "Available", "status": "Degraded", "reason": "SomePodsNotReady"}], ""),
        ([{"type": "Reconciled", "status": "False", "reason": "ReconciliationFailed"}], ""),
        ([], ""),
    ],
)
def test_a_server_is_unavailable_if_its_object_says_so(conditions: list[dict[str, str]], expected: str) -> None:
    body = {"metadata": {"namespace": "monitoring", "name": "k8s"}, "status": {"conditions": conditions}}
    assert server_of(body).unavailable == expected
