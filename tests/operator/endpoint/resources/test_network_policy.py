"""The NetworkPolicy of an endpoint."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmendpoint_operator.settings import MetricsAccess, parse_settings
from support.in_memory.endpoints import SETTINGS, children

OPERATOR = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "llmendpoint-system"}},
    "podSelector": {"matchLabels": {"llmendpoint.dev/operator": "true"}},
}
DASHBOARD = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "llmendpoint-system"}},
    "podSelector": {"matchLabels": {"llmendpoint.dev/dashboard": "true"}},
}
LOAD_PODS = {"podSelector": {"matchExpressions": [{"key": "llmendpoint.dev/loadtest", "operator": "Exists"}]}}


def policy(access: MetricsAccess = SETTINGS.metrics_access, **spec: Any) -> dict[str, Any]:
    settings = replace(SETTINGS, metrics_access=access)
    return dict(children(settings, **spec)["NetworkPolicy/assistant"]["spec"])


def test_an_endpoint_has_a_policy_unless_it_is_switched_off() -> None:
    assert policy() == policy(networkPolicy={}) == policy(networkPolicy={"enabled": True})
    assert "NetworkPolicy/assistant" not in children(networkPolicy={"enabled": False})


def test_every_source_may_connect_to_the_port_for_clients_by_default_and_to_no_other() -> None:
    clients, metrics = policy()["ingress"]
    assert clients == {"ports": [{"port": 11435, "protocol": "TCP"}]}
    assert [port["port"] for port in metrics["ports"]] == [8001]


def test_in_exporter_mode_clients_connect_to_ollama() -> None:
    assert policy(metering={"mode": "Exporter"})["ingress"][0]["ports"] == [{"port": 11434, "protocol": "TCP"}]


def test_given_sources_and_load_tests_of_the_namespace_may_connect() -> None:
    given = [
        {"podSelector": {"matchLabels": {"app": "web"}}, "namespaceSelector": {}},
        {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.1/32"]}},
    ]
    assert policy(networkPolicy={"from": given})["ingress"][0]["from"] == [*given, LOAD_PODS]


@pytest.mark.parametrize(
    ("flags", "readers"),
    [
        ([], [OPERATOR, DASHBOARD, LOAD_PODS]),
        (
            ["--monitoring-namespace=monitoring", "--monitoring-namespace=agents"],
            [
                {
                    "namespaceSelector": {
                        "matchExpressions": [
                            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["agents", "monitoring"]}
                        ]
                    }
                },
                OPERATOR,
                DASHBOARD,
                LOAD_PODS,
            ],
        ),
        (["--monitoring-namespace=*"], [{"namespaceSelector": {}}]),
    ],
)
def test_only_operator_dashboard_monitoring_and_load_pods_read_metrics(
    flags: list[str], readers: list[dict[str, Any]]
) -> None:
    access = parse_settings(["--own-namespace=llmendpoint-system", *flags]).children.metrics_access
    assert policy(access)["ingress"][1]["from"] == readers


def test_the_policy_selects_by_labels_that_pods_cannot_be_given() -> None:
    selector = policy()["podSelector"]["matchLabels"]
    reserved = ("llmendpoint.dev/operator", "llmendpoint.dev/dashboard", "llmendpoint.dev/loadtest")
    stolen = dict.fromkeys(selector, "another") | dict.fromkeys(reserved, "true")
    labels = children(pod={"labels": stolen})["StatefulSet/assistant"]["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()
    assert not set(reserved) & labels.keys()


def test_connections_from_the_pods_are_not_restricted() -> None:
    assert policy()["policyTypes"] == ["Ingress"]
