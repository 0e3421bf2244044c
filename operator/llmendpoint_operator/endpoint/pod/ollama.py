"""Container of Ollama. It is a restartable init container, so that kubelet stops it after the sidecar has drained."""

from __future__ import annotations

from llmendpoint_common.api import defaults
from llmendpoint_common.api.endpoint.gpu import Gpu
from llmendpoint_common.api.endpoint.metering import MeteringMode
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.api.translate.ollama_environment import ollama_environment
from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube import pod_security
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.kube.pod_fields import manifest_of, resources
from llmendpoint_operator.settings import Images


def ollama_container(spec: LLMEndpointSpec, images: Images) -> Manifest:
    """Return the container with its environment, probes, ports and mounts."""
    gpu = spec.wanted_gpu
    restarts = spec.metering.restarts_ollama
    devices = {gpu.device_resource: str(gpu.devices)} if gpu.devices else {}
    return {
        "name": layout.OLLAMA_CONTAINER,
        "image": ollama_image(spec, images),
        "imagePullPolicy": images.ollama_pull_policy,
        "restartPolicy": "Always",
        "args": ["serve"],
        **_ports(spec),
        "env": _environment(spec),
        "resources": {
            **resources(spec.ollama.resources, {**defaults.OLLAMA_REQUESTS, **devices}, devices),
            **_claims(gpu),
        },
        # Conditions quote the end of the log of a container that fails repeatedly.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": pod_security.container_security_context(),
        "startupProbe": _probe(spec, period=2, failures=150, timeout=5),
        "livenessProbe": _restart_probe() if restarts else _probe(spec, period=30, failures=10, timeout=20),
        "volumeMounts": [
            {"name": layout.MODELS_VOLUME, "mountPath": layout.MODELS_FOLDER},
            {"name": layout.HOME_VOLUME, "mountPath": layout.HOME_FOLDER},
            {"name": layout.TMP_VOLUME, "mountPath": layout.TMP_FOLDER},
            *([_SIGNALS] if restarts else []),
            *([_CA_BUNDLE] if spec.ollama.ca_bundle_ref else []),
            *(manifest_of(mount) for mount in spec.pod.ollama_volume_mounts),
        ],
    }


def ollama_image(spec: LLMEndpointSpec, images: Images) -> str:
    """Return the image. It is empty if the operator's settings do not have one for the GPUs of the endpoint."""
    default = images.rocm if spec.wanted_gpu.vendor == "amd.com" else images.ollama
    return spec.ollama.image or default


def image_problem(spec: LLMEndpointSpec, images: Images) -> str:
    """Return a sentence if there is no image for the GPUs of the endpoint, else an empty string."""
    if ollama_image(spec, images):
        return ""
    return (
        f"spec.gpu.resource is {spec.wanted_gpu.device_resource}, which needs the ROCm variant of Ollama's image. Its "
        f"name cannot be derived from the operator's image {images.ollama}. Set spec.ollama.image, or the operator's "
        "flag --ollama-rocm-image (in the chart, ollama.rocmImage)."
    )


def _claims(gpu: Gpu) -> Manifest:
    """Return the claims of the container, if the GPUs come from dynamic resource allocation."""
    claims = [
        {"name": claim.name, **({"request": claim.request} if claim.request else {})} for claim in gpu.resource_claims
    ]
    return {"claims": claims} if claims else {}


_CA_BUNDLE = {"name": layout.CA_BUNDLE_VOLUME, "mountPath": layout.CA_BUNDLE_FOLDER, "readOnly": True}
_SIGNALS = {"name": layout.SIGNALS_VOLUME, "mountPath": layout.SIGNALS_FOLDER, "readOnly": True}


def _is_open(spec: LLMEndpointSpec) -> bool:
    """Return whether clients connect to Ollama directly, because the sidecar is only an exporter."""
    return spec.metering.mode is MeteringMode.EXPORTER


def _ports(spec: LLMEndpointSpec) -> Manifest:
    port = {"name": layout.CLIENT_PORT, "containerPort": OLLAMA_PORT, "protocol": "TCP"}
    return {"ports": [port]} if _is_open(spec) else {}


def _environment(spec: LLMEndpointSpec) -> list[Manifest]:
    # On loopback, only the sidecar can connect to Ollama, so no request bypasses the meter.
    host = "0.0.0.0" if _is_open(spec) else "127.0.0.1"
    variables = ollama_environment(
        spec,
        address=f"{host}:{OLLAMA_PORT}",
        models_folder=layout.MODELS_FOLDER,
        home_folder=layout.HOME_FOLDER,
        ca_folder=layout.CA_BUNDLE_FOLDER,
    )
    return [{"name": name, "value": value} for name, value in variables.items()]


def _probe(spec: LLMEndpointSpec, *, period: int, failures: int, timeout: int) -> Manifest:
    """Return a probe, with its times in seconds.

    Kubelet cannot reach a server on loopback, so the probe is a command inside the container. An exporter's Ollama
    listens on 0.0.0.0, to which the command would connect through the proxy in HTTP_PROXY. Programs of Go never use a
    proxy for a loopback address (net/http, ProxyFromEnvironment).
    """
    address = ["env", f"OLLAMA_HOST=127.0.0.1:{OLLAMA_PORT}"] if _is_open(spec) else []
    return {
        "exec": {"command": [*address, "ollama", "list"]},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": timeout,
    }


def _restart_probe() -> Manifest:
    """Return the probe that fails while the sidecar requests a restart, because Ollama is hung or does not answer.

    A container has only one liveness probe, so with it, the sidecar also checks whether Ollama answers at all. A hung
    process is killed after a few seconds: its requests have already ended with an error.
    """
    return {
        "exec": {"command": ["test", "!", "-e", layout.RESTART_FILE]},
        "periodSeconds": 5,
        "failureThreshold": 1,
        "timeoutSeconds": 5,
        "terminationGracePeriodSeconds": 5,
    }
