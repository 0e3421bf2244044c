"""Two Services: clients get ready pods, and only the headless one is scraped, so that nothing is scraped twice."""

from __future__ import annotations

from llmendpoint_common.api.endpoint import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import ENDPOINT_LABEL, SCRAPE_LABEL
from llmendpoint_common.contracts.sidecar import ADMIN_PORT
from llmendpoint_operator.endpoint.resources.statefulset import CLIENT_PORT, selector
from llmendpoint_operator.kube.labels import child_labels
from llmendpoint_operator.kube.owner import Manifest, Owner


def client_service(owner: Owner, spec: LLMEndpointSpec) -> Manifest:
    """Return the Service for clients: Ollama's usual port, which leads to the meter."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(
            owner.name, child_labels(ENDPOINT_LABEL, owner.name, "client"), spec.service.annotations
        ),
        "spec": {
            "type": spec.service.type.value,
            "selector": selector(owner),
            "ports": [{"name": "http", "port": spec.service.port, "targetPort": CLIENT_PORT, "protocol": "TCP"}],
        },
    }


def headless_service(owner: Owner) -> Manifest:
    """Return the headless Service: names for pods, and metrics of all of them, ready or not."""
    labels = child_labels(ENDPOINT_LABEL, owner.name, "pods") | {SCRAPE_LABEL: "true"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": owner.metadata(f"{owner.name}-pods", labels),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": selector(owner),
            "ports": [{"name": "metrics", "port": ADMIN_PORT, "targetPort": "metrics", "protocol": "TCP"}],
        },
    }
