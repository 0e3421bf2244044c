"""Container of the metering sidecar.

It is the pod's regular container, and Ollama is a restartable init container. Kubernetes stops restartable init
containers last, so the sidecar can drain while Ollama still runs.
"""

from __future__ import annotations

from llmendpoint_common.api import defaults
from llmendpoint_common.api.endpoint.metering import MeteringMode
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.api.translate.sidecar_arguments import sidecar_arguments
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, ENVIRONMENT_PREFIX, PROXY_PORT
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.endpoint.pod.gguf import gguf_mounts
from llmendpoint_operator.kube import pod_security
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.kube.pod_fields import resources
from llmendpoint_operator.settings import Images


def metering_container(spec: LLMEndpointSpec, images: Images) -> Manifest:
    """Return the container with its probes, ports and mounts."""
    keys = layout.key_secrets(spec)
    return {
        "name": layout.METERING_CONTAINER,
        "image": spec.metering.image or images.sidecar,
        "imagePullPolicy": images.sidecar_pull_policy,
        "args": sidecar_arguments(
            spec,
            config_file=layout.CONFIG_PATH,
            key_folders=[secret.folder for secret in keys],
            restart_file=layout.RESTART_FILE,
        ),
        # A variable and no argument: an older sidecar, whose image a spec can choose, refuses an argument that it does
        # not know.
        "env": [{"name": f"{ENVIRONMENT_PREFIX}STATE_FOLDER", "value": layout.STATE_FOLDER}],
        "ports": _ports(spec),
        "resources": resources(spec.metering.resources, defaults.METERING_REQUESTS, defaults.METERING_LIMITS),
        # Conditions quote the end of the log of a container that fails repeatedly.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": pod_security.container_security_context(),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "livenessProbe": _probe("/livez", period=10, failures=6),
        "volumeMounts": [
            {"name": layout.CONFIG_VOLUME, "mountPath": layout.CONFIG_FOLDER, "readOnly": True},
            {"name": layout.MODELS_VOLUME, "mountPath": layout.MODELS_FOLDER},
            *_signals(spec),
            *gguf_mounts(spec),
            *({"name": secret.volume, "mountPath": secret.folder, "readOnly": True} for secret in keys),
        ],
    }


def _signals(spec: LLMEndpointSpec) -> list[Manifest]:
    """Return the mount of the volume in which the sidecar requests a restart of Ollama."""
    mount = {"name": layout.SIGNALS_VOLUME, "mountPath": layout.SIGNALS_FOLDER}
    return [mount] if spec.metering.restarts_ollama else []


def _ports(spec: LLMEndpointSpec) -> list[Manifest]:
    metrics = {"name": layout.METRICS_PORT, "containerPort": ADMIN_PORT, "protocol": "TCP"}
    if spec.metering.mode is MeteringMode.EXPORTER:
        return [metrics]
    return [{"name": layout.CLIENT_PORT, "containerPort": PROXY_PORT, "protocol": "TCP"}, metrics]


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    """Return a probe of the sidecar's admin server. `period` is in seconds."""
    return {
        "httpGet": {"path": path, "port": layout.METRICS_PORT},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 3,
    }
