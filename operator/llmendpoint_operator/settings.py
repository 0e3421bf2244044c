"""The operator's settings: parsed once, frozen, and passed on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from llmendpoint_common.process.flags import Flags
from llmendpoint_common.process.logs import parse_level
from llmendpoint_common.process.units import Address, parse_address

_EXAMPLES = """examples:
  python -m llmendpoint_operator
      watch all namespaces of the cluster that KUBECONFIG, or the pod's ServiceAccount, names
  python -m llmendpoint_operator --namespace models --namespace staging
"""


@dataclass(frozen=True)
class Images:
    """Images of the containers that the operator makes."""

    sidecar: str
    loadjob: str
    ollama: str
    sidecar_pull_policy: str = "IfNotPresent"
    loadjob_pull_policy: str = "IfNotPresent"
    ollama_pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """What to watch, and what to deploy. `own_namespace` is where the chart keeps its questions."""

    namespaces: tuple[str, ...]
    own_namespace: str
    images: Images
    health_listen: Address
    log_level: str


def parse_pull_policy(text: str) -> str:
    """Return an image pull policy."""
    if text not in ("Always", "IfNotPresent", "Never"):
        raise ValueError(f"{text!r} is not a pull policy; choose Always, IfNotPresent or Never")
    return text


def parse_settings(arguments: Sequence[str] | None = None) -> Settings:
    """Return the settings of a command line; ends the process with 2 where one is wrong."""
    flags = Flags("llmendpoint_operator", "Makes a cluster be what LLMEndpoints and LoadTests say.", _EXAMPLES)
    scope = flags.group("scope")
    scope.option("namespace", str, [], "watch only this one; repeatable; none: all", action="append")
    scope.option("own-namespace", str, os.environ.get("POD_NAMESPACE", "llmendpoint-system"),
                 "where the question ConfigMaps are")  # fmt: skip
    images = flags.group("images")
    images.option("sidecar-image", str, "ghcr.io/llmendpoint/sidecar:0.1.0", "of the metering sidecar")
    images.option("loadjob-image", str, "ghcr.io/llmendpoint/loadjob:0.1.0", "of load tests")
    images.option("ollama-image", str, "docker.io/ollama/ollama:0.17.4", "where an endpoint names none")
    for name in ("sidecar", "loadjob", "ollama"):
        images.option(f"{name}-pull-policy", parse_pull_policy, "IfNotPresent", "Always, IfNotPresent or Never")
    images.option("image-pull-secret", str, [], "Secret for these images; repeatable", action="append")
    process = flags.group("process")
    process.option("health-listen", parse_address, Address(None, 8080), "where /livez and /metrics are served")
    process.option("log-level", parse_level, "info", "debug, info, warning or error")
    options = flags.parse(arguments)
    return Settings(
        namespaces=tuple(options.namespace),
        own_namespace=options.own_namespace,
        images=Images(
            options.sidecar_image,
            options.loadjob_image,
            options.ollama_image,
            options.sidecar_pull_policy,
            options.loadjob_pull_policy,
            options.ollama_pull_policy,
            tuple(options.image_pull_secret),
        ),
        health_listen=options.health_listen,
        log_level=options.log_level,
    )
