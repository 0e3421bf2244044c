"""Names the fields of an LLMEndpoint that have no meaning on one machine, each with the reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llmendpoint_cli.manifest.endpoint import Endpoint
from llmendpoint_cli.manifest.source import field_name

_IMAGE = "programs run from this installation, not from images"
_NO_POD = "there is no pod on one machine"
#: Fields that are left out if they are set.
LEFT_OUT: Mapping[tuple[str, ...], str] = {
    ("replicas",): "one machine has one Ollama for each --upstream; more of them need a cluster",
    ("autoscaling",): "one machine cannot add machines",
    **dict.fromkeys(
        (("gpu", name) for name in ("count", "resource", "products", "runtimeClassName", "resourceClaims")),
        "Ollama uses the GPUs that it finds on this machine",
    ),
    ("ollama", "image"): "the Ollama of this machine is used",
    ("ollama", "caBundleRef"): "Ollama trusts the certificates of this machine",
    ("ollama", "resources"): "processes of one machine share it without limits",
    **dict.fromkeys(
        (("storage", name) for name in ("type", "size", "storageClassName", "claimName", "sizeLimit")),
        "models are in the folder of this machine's Ollama",
    ),
    ("storage", "retentionPolicy"): "models that the file does not name stay, because other programs may use them",
    ("metering", "image"): _IMAGE,
    ("metering", "resources"): "processes of one machine share it without limits",
    ("metering", "stall", "restart"): "a hung Ollama is reported, and not restarted",
    ("service",): "clients use the address of the proxy; choose it with --listen",
    ("ingress",): "clients use the address of the proxy; choose it with --listen",
    ("httpRoute",): "clients use the address of the proxy; choose it with --listen",
    ("networkPolicy",): "the firewall of this machine decides who can connect",
    ("monitoring",): "Prometheus is started with its own configuration, if it is found",
    ("pod",): _NO_POD,
    ("podTemplate",): _NO_POD,
    ("disruptionBudget",): _NO_POD,
}
#: Objects of which each field is listed here or in LEFT_OUT. A test compares them with the schema.
HONOURED = frozenset(
    {
        ("models",),
        ("gpu", "requireFullOffload"),
        ("ollama", "numParallel"),
        ("ollama", "maxLoadedModels"),
        ("ollama", "maxQueue"),
        ("ollama", "contextLength"),
        ("ollama", "keepAlive"),
        ("ollama", "flashAttention"),
        ("ollama", "kvCacheType"),
        ("ollama", "env"),
        ("metering", "mode"),
        ("metering", "workers"),
        ("metering", "modelManagement"),
        ("metering", "auth"),
        ("metering", "tenants"),
        ("metering", "defaultTenant"),
        ("metering", "maxWaiting"),
        ("metering", "timeouts"),
        ("metering", "stall"),
        ("metering", "includeUsage"),
        ("metering", "allowedHosts"),
    }
)


def left_out(endpoint: Endpoint, *, has_keys: bool, ollama_variables: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each field that is set and left out, with its line, and for each other object of the file.

    `has_keys` is whether files with API keys were given. `ollama_variables` are those that an Ollama which runs already
    would need, by name; they are empty if it is started with them.
    """
    document = endpoint.document
    spec: dict[str, Any] = document.body.get("spec") or {}
    for path, reason in LEFT_OUT.items():
        value = _get(spec, path)
        if value is None or (path == ("replicas",) and value == 1) or value is False:
            continue
        yield _line(endpoint, path, reason)
    if endpoint.spec.metering.auth is not None and not has_keys:
        reason = "Secrets cannot be read here, so no API key is required; name the files with --key TENANT=FILE"
        yield _line(endpoint, ("metering", "auth"), reason)
        if endpoint.spec.metering.tenants:
            yield _line(endpoint, ("metering", "tenants"), "without API keys, all clients are one tenant")
    for name, value in ollama_variables.items():
        yield (
            f"{name}={value} cannot be set in an Ollama that already runs; set it in its environment, and restart it, "
            "for example with `systemctl edit ollama`"
        )
    yield from endpoint.others


def _line(endpoint: Endpoint, path: tuple[str, ...], reason: str) -> str:
    field = ("spec", *path)
    return f"{field_name(field)} (line {endpoint.document.line(field)}): {reason}"


def _get(spec: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if not isinstance(spec, dict):
            return None
        spec = spec.get(step)
    return spec
