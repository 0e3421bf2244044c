"""Service that clients use. It selects ready pods only, and is not scraped."""

from __future__ import annotations

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube.owner import Manifest, Owner


def client_service(owner: Owner, spec: LLMEndpointSpec) -> Manifest:
    """Return the Service. Its port is Ollama's by default, and leads to the proxy."""
    port = {
        "name": layout.SERVICE_PORT,
        "port": spec.service.port,
        "targetPort": layout.CLIENT_PORT,
        "protocol": "TCP",
    }
    return {
        **owner.child("Service", layout.client_service_name(owner), "client", annotations=spec.service.annotations),
        "spec": {"type": spec.service.type.value, "selector": layout.selector(owner), "ports": [port]},
    }
