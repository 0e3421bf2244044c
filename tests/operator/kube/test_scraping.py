"""Which Prometheus servers select a ServiceMonitor: the rules of the Prometheus Operator."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_operator.kube.scraping import matches, scraping, server_of

LABELS = {"release": "prometheus", "team": "ml"}
RELEASE = {"matchLabels": {"release": "prometheus"}}


def server(monitors: Any, namespaces: Any, namespace: str = "monitoring") -> Any:
    spec = {"serviceMonitorSelector": monitors, "serviceMonitorNamespaceSelector": namespaces}
    present = {name: value for name, value in spec.items() if value is not None}
    return server_of({"metadata": {"namespace": namespace, "name": "k8s"}, "spec": present})


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
def test_a_server_selects_by_labels_and_namespaces(monitors: Any, namespaces: Any, expected: str) -> None:
    one = server(monitors, namespaces)
    assert getattr(scraping("ns", LABELS, [one]), expected) == (one,)


def test_a_server_selects_its_own_namespace_by_default() -> None:
    one = server(RELEASE, None, namespace="ns")
    assert scraping("ns", LABELS, [one]).selecting == (one,)


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
