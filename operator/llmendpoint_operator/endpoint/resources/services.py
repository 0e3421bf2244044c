"""Two Services: clients get ready pods, and only the headless one is scraped, so that nothing is scraped twice."""

from __future__ import annotations

from llmendpoint_common.api.endpoint import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import SCRAPE_LABEL
from llmendpoint_common.contracts.sidecar import ADMIN_PORT
from llmendpoint_operator.endpoint.resources.statefulset import CLIENT_PORT, selector
from llmendpoint_operator.kube.owner import Manifest, Owner


def client_service(owner: Owner, spec: LLMEndpointSpec) -> Manifest:
    """Return the Service for clients: Ollama's usual port, which leads to the meter."""
    return {
        **owner.child("Service", owner.name, "client", annotations=spec.service.annotations),
        "spec": {
            "type": spec.service.type.value,
            "selector": selector(owner),
            "ports": [{"name": "http", "port": spec.service.port, "targetPort": CLIENT_PORT, "protocol": "TCP"}],
        },
    }


def headless_service(owner: Owner) -> Manifest:
    """Return the headless Service: names for pods, and metrics of all of them, ready or not."""
    return {
        **owner.child("Service", f"{owner.name}-pods", "pods", labels={SCRAPE_LABEL: "true"}),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": selector(owner),
            "ports": [{"name": "metrics", "port": ADMIN_PORT, "targetPort": "metrics", "protocol": "TCP"}],
        },
    }
