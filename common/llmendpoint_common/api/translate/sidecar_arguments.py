"""Translates the spec of an LLMEndpoint into the sidecar's command line (settings that are read once)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmendpoint_common.api import defaults
from llmendpoint_common.api.endpoint.metering import MeteringMode
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, PROXY_PORT


@dataclass(frozen=True)
class SidecarAddresses:
    """Addresses of a sidecar. The defaults are for a pod. An address without a host means every interface."""

    listen: str = f":{PROXY_PORT}"
    admin_listen: str = f":{ADMIN_PORT}"
    upstream: str = f"http://127.0.0.1:{OLLAMA_PORT}"


IN_POD = SidecarAddresses()


def sidecar_arguments(
    spec: LLMEndpointSpec,
    *,
    config_file: str,
    key_folders: Sequence[str],
    addresses: SidecarAddresses = IN_POD,
    restart_file: str = "",
) -> list[str]:
    """Return the arguments after `python -m llmendpoint_sidecar`.

    `key_folders` has one folder of API keys for each Secret in `metering.auth.secretRefs`. `restart_file` is the file
    with which the sidecar requests a restart of Ollama, used if the spec asks for it.
    """
    restart = [f"--stall-restart-file={restart_file}"] if restart_file and spec.metering.restarts_ollama else []
    return [
        *_mode(spec, key_folders, addresses),
        f"--admin-listen={addresses.admin_listen}",
        f"--upstream={addresses.upstream}",
        f"--config={config_file}",
        f"--parallel={spec.ollama.num_parallel}",
        *restart,
        f"--drain-delay={defaults.DRAIN_DELAY_SECONDS}s",
        f"--drain-timeout={drain_timeout_seconds(spec.pod.termination_grace_period_seconds)}s",
    ]


def drain_timeout_seconds(grace_period_seconds: int) -> int:
    """Return the time in seconds for streams to finish, so that the process ends within the pod's grace period."""
    return max(1, grace_period_seconds - defaults.DRAIN_DELAY_SECONDS - defaults.STOP_MARGIN_SECONDS)


def _mode(spec: LLMEndpointSpec, key_folders: Sequence[str], addresses: SidecarAddresses) -> list[str]:
    """Return the arguments that apply only to a proxy, or `--exporter`."""
    if spec.metering.mode is MeteringMode.EXPORTER:
        return ["--exporter"]
    keys = [f"--keys={folder}" for folder in key_folders]
    return [f"--listen={addresses.listen}", *_workers(spec), *_timeouts(spec), *keys]


def _workers(spec: LLMEndpointSpec) -> list[str]:
    """Return the number of processes, or nothing if it is the sidecar's default."""
    workers = spec.metering.processes
    return [] if workers == defaults.WORKERS else [f"--workers={workers}"]


def _timeouts(spec: LLMEndpointSpec) -> list[str]:
    """Return the timeouts, or nothing if the spec has none: the sidecar has the same defaults."""
    timeouts = spec.metering.timeouts
    if timeouts is None:
        return []
    return [
        f"--connect-timeout={timeouts.connect}",
        f"--first-byte-timeout={timeouts.first_byte}",
        f"--idle-timeout={timeouts.idle}",
        f"--keep-alive-timeout={timeouts.keep_alive}",
    ]
