"""The headless Service: DNS names of the pods, and their metrics."""

from __future__ import annotations

from support.in_memory.endpoints import children


def test_it_includes_pods_that_are_not_ready() -> None:
    spec = children()["Service/assistant-pods"]["spec"]
    assert spec["clusterIP"] == "None"
    assert spec["publishNotReadyAddresses"] is True
    assert spec["ports"] == [{"name": "metrics", "port": 8001, "targetPort": "metrics", "protocol": "TCP"}]


def test_it_gives_the_pods_their_names_and_selects_the_same_pods_as_the_client_service() -> None:
    made = children()
    assert made["StatefulSet/assistant"]["spec"]["serviceName"] == "assistant-pods"
    assert made["Service/assistant-pods"]["spec"]["selector"] == made["Service/assistant"]["spec"]["selector"]
