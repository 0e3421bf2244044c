"""Names, paths and ports of an endpoint's children, each defined once.

Names that are used in several places (for example, the name of a port in a container and in a Service) are defined
here. If a later version of the operator changes the name of a child, it creates a new object and prunes the old one.
The selector must not change, because the selector of a StatefulSet is immutable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import COMPONENT_LABEL, ENDPOINT_LABEL, pods_service
from llmendpoint_common.contracts.pod import (
    CA_BUNDLE_FOLDER,
    CA_BUNDLE_VOLUME,
    CONFIG_FOLDER,
    CONFIG_VOLUME,
    GGUF_ROOT,
    HOME_FOLDER,
    HOME_VOLUME,
    KEYS_FOLDER,
    KEYS_VOLUME_PREFIX,
    METERING_CONTAINER,
    MODELS_FOLDER,
    MODELS_VOLUME,
    OLLAMA_CONTAINER,
    SIGNALS_FOLDER,
    SIGNALS_VOLUME,
    STATE_FOLDER,
    TMP_FOLDER,
    TMP_VOLUME,
)
from llmendpoint_operator.kube.owner import Owner

__all__ = [
    "CA_BUNDLE_FOLDER",
    "CA_BUNDLE_VOLUME",
    "CONFIG_FOLDER",
    "CONFIG_VOLUME",
    "GGUF_ROOT",
    "HOME_FOLDER",
    "HOME_VOLUME",
    "METERING_CONTAINER",
    "MODELS_FOLDER",
    "MODELS_VOLUME",
    "OLLAMA_CONTAINER",
    "SIGNALS_FOLDER",
    "SIGNALS_VOLUME",
    "STATE_FOLDER",
    "TMP_FOLDER",
    "TMP_VOLUME",
]

#: Value of the component label of the StatefulSet and of its pods.
COMPONENT = "endpoint"

# Names of ports. Clients connect to CLIENT_PORT of the pod: the port of the proxy, or of Ollama if the sidecar is an
# exporter.
CLIENT_PORT = "proxy"
METRICS_PORT = "metrics"
SERVICE_PORT = "http"

# Files in the containers
#: Key of the ConfigMap, and name of the file in CONFIG_FOLDER.
CONFIG_FILE = "models.json"
CONFIG_PATH = f"{CONFIG_FOLDER}/{CONFIG_FILE}"
#: While this file exists, kubelet restarts the container of Ollama. The sidecar creates and removes it.
RESTART_FILE = f"{SIGNALS_FOLDER}/restart-ollama"
#: Name of the file with the bundle in CA_BUNDLE_FOLDER.
CA_BUNDLE_FILE = "bundle.crt"


def selector(owner: Owner) -> dict[str, str]:
    """Return the labels that select an endpoint's pods."""
    return {ENDPOINT_LABEL: owner.name, COMPONENT_LABEL: COMPONENT}


def statefulset_name(owner: Owner) -> str:
    """Return the name of the StatefulSet; its pods are called NAME-0, NAME-1 and so on."""
    return owner.name


def ordinal_of(name: str, prefix: str) -> int | None:
    """Return the number at the end of PREFIX-0, PREFIX-1 and so on, or None if the name does not have this form."""
    match = re.fullmatch(rf"{re.escape(prefix)}-(\d+)", name)
    return int(match[1]) if match else None


def config_map_name(owner: Owner) -> str:
    """Return the name of the ConfigMap with the sidecar's configuration."""
    return owner.name


def service_account_name(owner: Owner) -> str:
    """Return the name of the ServiceAccount of the pods."""
    return owner.name


def client_service_name(owner: Owner) -> str:
    """Return the name of the Service that clients use."""
    return owner.name


def headless_service_name(owner: Owner) -> str:
    """Return the name of the headless Service. Prometheus scrapes it, and it gives each pod a DNS name."""
    return pods_service(owner.name)


def monitor_name(owner: Owner) -> str:
    """Return the name of the ServiceMonitor or PodMonitor."""
    return owner.name


def ingress_name(owner: Owner) -> str:
    """Return the name of the Ingress."""
    return owner.name


def http_route_name(owner: Owner) -> str:
    """Return the name of the HTTPRoute."""
    return owner.name


def network_policy_name(owner: Owner) -> str:
    """Return the name of the NetworkPolicy."""
    return owner.name


def autoscaler_name(owner: Owner) -> str:
    """Return the name of the ScaledObject or of the HorizontalPodAutoscaler."""
    return owner.name


def disruption_budget_name(owner: Owner) -> str:
    """Return the name of the PodDisruptionBudget."""
    return owner.name


def client_hosts(owner: Owner) -> tuple[str, ...]:
    """Return the host names under which clients in the cluster reach the endpoint."""
    name = client_service_name(owner)
    return name, f"{name}.{owner.namespace}", f"{name}.{owner.namespace}.svc"


def outer_hosts(spec: LLMEndpointSpec) -> tuple[str, ...]:
    """Return the host names of the Ingress and the HTTPRoute. Some may be wildcards such as *.example.com."""
    names = [spec.ingress.host] if spec.ingress else []
    return tuple(dict.fromkeys([*names, *(spec.http_route.hostnames if spec.http_route else ())]))


def client_url(owner: Owner, port: int) -> str:
    """Return the base URL for clients in any namespace of the cluster."""
    return f"http://{client_hosts(owner)[-1]}:{port}"


@dataclass(frozen=True)
class KeySecret:
    """A Secret with API keys: its name, the name of its volume, and the folder at which the volume is mounted."""

    name: str
    volume: str
    folder: str


def key_secrets(spec: LLMEndpointSpec) -> list[KeySecret]:
    """Return the Secrets with API keys."""
    references = spec.metering.auth.secret_refs if spec.metering.auth else []
    return [
        KeySecret(reference.name, f"{KEYS_VOLUME_PREFIX}{index}", f"{KEYS_FOLDER}/{index}")
        for index, reference in enumerate(references)
    ]
