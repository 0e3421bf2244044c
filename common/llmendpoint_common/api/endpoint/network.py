"""Ways to an endpoint: `spec.service`."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import Annotations, ApiModel


class ServiceType(StrEnum):
    """Types of a Service."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class Service(ApiModel):
    """The Service that clients use."""

    type: ServiceType = Field(
        ServiceType.CLUSTER_IP,
        description="Type of the Service: ClusterIP, NodePort or LoadBalancer. Defaults to ClusterIP.",
    )
    port: int = Field(
        defaults.SERVICE_PORT,
        ge=1,
        le=65535,
        description="Port of the Service. It leads to the metering proxy, or to Ollama if metering.mode is Exporter. "
        f"Defaults to {defaults.SERVICE_PORT}, which is also the port of Ollama.",
    )
    annotations: Annotations = Field(
        default_factory=dict, description="Annotations of the Service, for example for a cloud's load balancer."
    )
