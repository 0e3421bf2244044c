"""The Service that clients use."""

from __future__ import annotations

from support.in_memory.endpoints import children, pod


def test_clients_reach_the_meter() -> None:
    service = children(service={"port": 80})["Service/assistant"]["spec"]
    assert service["ports"] == [{"name": "http", "port": 80, "targetPort": "proxy", "protocol": "TCP"}]
    assert service["type"] == "ClusterIP"
    assert "proxy" in [port["name"] for port in pod()["containers"][0]["ports"]]


def test_type_and_annotations_come_from_the_spec() -> None:
    made = children(service={"type": "LoadBalancer", "annotations": {"a": "b"}})["Service/assistant"]
    assert made["spec"]["type"] == "LoadBalancer"
    assert made["metadata"]["annotations"] == {"a": "b"}
    assert "annotations" not in children()["Service/assistant"]["metadata"]


def test_clients_of_an_exporter_reach_ollama() -> None:
    (ollama,) = pod(metering={"mode": "Exporter"})["initContainers"]
    (port,) = ollama["ports"]
    service = children(metering={"mode": "Exporter"})["Service/assistant"]["spec"]
    # The named port of the Service is then the port of Ollama.
    assert service["ports"][0]["targetPort"] == port["name"]
