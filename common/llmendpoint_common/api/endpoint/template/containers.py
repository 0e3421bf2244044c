"""Containers of `spec.podTemplate`: additional ones, and additions to the container of Ollama."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from llmendpoint_common.api.endpoint.template.part import (
    NOT_A_SECRET,
    OPERATOR,
    RESTRICTED,
    UNSUPPORTED,
    Object,
    Part,
    Path,
    instead,
    reasons,
)
from llmendpoint_common.api.endpoint.template.volumes import Device, Mount
from llmendpoint_common.contracts import pod
from llmendpoint_common.contracts.ollama import OLLAMA_PORT
from llmendpoint_common.contracts.ollama_variables import template_problem
from llmendpoint_common.contracts.sidecar import ADMIN_PORT, PROXY_PORT

# Environment


class EnvironmentSource(Part):
    """Origin of the value of an environment variable."""

    refused = reasons({"secretKeyRef": NOT_A_SECRET})

    config_map_key_ref: Object | None = None
    field_ref: Object | None = None
    resource_field_ref: Object | None = None


class Variable(Part):
    """An environment variable."""

    name: str
    value: str | None = None
    value_from: EnvironmentSource | None = None


class Variables(Part):
    """Environment variables from all keys of an object."""

    refused = reasons({"secretRef": NOT_A_SECRET})

    prefix: str | None = None
    config_map_ref: Object | None = None


_NO_HOST = {"host": f"{RESTRICTED}; without it, the address of the pod is used"}


class Exec(Part):
    """A command in the container."""

    command: list[str]


class HttpGet(Part):
    """A request to the container."""

    refused = _NO_HOST

    path: str | None = None
    port: int | str
    scheme: str | None = None
    http_headers: list[Any] | None = None


class TcpSocket(Part):
    """A connection to the container."""

    refused = _NO_HOST

    port: int | str


class Action(Part):
    """An action of a lifecycle hook."""

    exec: Exec | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    sleep: Object | None = None


class Lifecycle(Part):
    """Actions after the start and before the end of a container."""

    post_start: Action | None = None
    pre_stop: Action | None = None
    stop_signal: str | None = None


class Probe(Part):
    """A probe of a container."""

    exec: Exec | None = None
    http_get: HttpGet | None = None
    tcp_socket: TcpSocket | None = None
    grpc: Object | None = None
    initial_delay_seconds: int | None = None
    period_seconds: int | None = None
    timeout_seconds: int | None = None
    success_threshold: int | None = None
    failure_threshold: int | None = None
    termination_grace_period_seconds: int | None = None


_PORTS = {OLLAMA_PORT: "Ollama", PROXY_PORT: "the proxy", ADMIN_PORT: "the metrics"}
_PORT_NAMES = ("proxy", "metrics")


class Port(Part):
    """A port of an additional container."""

    refused = dict.fromkeys(("hostPort", "hostIP"), RESTRICTED)

    name: str | None = None
    container_port: int
    protocol: str | None = None

    def conflicts(self) -> Iterator[tuple[Path, str]]:
        """Yield numbers and names of the ports of our own containers: Services find them by name."""
        if self.container_port in _PORTS:
            yield ("containerPort",), f"{self.container_port} is the port of {_PORTS[self.container_port]}"
        if self.name in _PORT_NAMES:
            yield ("name",), f"{self.name} is a port of the operator; choose another name"


class ContainerSecurity(Part):
    """The fields of a security context that do not weaken a container."""

    refused = dict.fromkeys(
        (
            "allowPrivilegeEscalation",
            "appArmorProfile",
            "capabilities",
            "privileged",
            "procMount",
            "runAsNonRoot",
            "seLinuxOptions",
            "seccompProfile",
            "windowsOptions",
        ),
        f"{OPERATOR}, so that the pod meets the restricted Pod Security Standard",
    )

    read_only_root_filesystem: bool | None = None
    run_as_user: Annotated[int, Field(ge=1)] | None = None
    run_as_group: Annotated[int, Field(ge=0)] | None = None


class ContainerResources(Part):
    """Compute resources of an additional container."""

    refused = reasons({"claims": "not supported in podTemplate; spec.gpu.resourceClaims gives claims to Ollama"})

    requests: Object | None = None
    limits: Object | None = None


class OllamaAddition(Part):
    """Additions to the container of Ollama."""

    refused = reasons(
        {
            "image": instead("ollama.image"),
            "resources": instead("ollama.resources"),
            "envFrom": "not supported for Ollama: set each variable in spec.ollama.env",
            "lifecycle": "not supported for Ollama: a hook could start a second Ollama that is not metered. Use an "
            "additional container",
            **dict.fromkeys(
                (
                    "args",
                    "command",
                    "imagePullPolicy",
                    "livenessProbe",
                    "ports",
                    "readinessProbe",
                    "restartPolicy",
                    "securityContext",
                    "startupProbe",
                    "terminationMessagePolicy",
                ),
                OPERATOR,
            ),
        }
    )

    name: Literal["ollama"]
    env: list[Variable] | None = None
    volume_mounts: list[Mount] | None = None
    volume_devices: list[Device] | None = None
    resize_policy: list[Any] | None = None

    def conflicts(self) -> Iterator[tuple[Path, str]]:
        """Yield variables that belong elsewhere, mounts of the operator's volumes, and mounts in reserved folders."""
        for index, variable in enumerate(self.env or []):
            problem = template_problem(variable.name)
            if problem:
                yield ("env", index, "name"), problem
        for index, mount in enumerate(self.volume_mounts or []):
            if pod.is_own_volume(mount.name):
                yield ("volumeMounts", index, "name"), f"{mount.name} is a volume of the operator"
            folder = pod.own_folder(mount.mount_path)
            if folder:
                yield ("volumeMounts", index, "mountPath"), f"{mount.mount_path} hides {folder}, or is in it"


class AddedContainer(Part):
    """An additional container."""

    refused = reasons(
        {
            "restartPolicy": "only supported in initContainers",
            **dict.fromkeys(("stdin", "stdinOnce", "tty"), UNSUPPORTED),
        }
    )

    name: str
    image: Annotated[str, Field(min_length=1, pattern=r"^\S+$")]
    image_pull_policy: str | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    working_dir: str | None = None
    ports: list[Port] | None = None
    env: list[Variable] | None = None
    env_from: list[Variables] | None = None
    resources: ContainerResources | None = None
    resize_policy: list[Any] | None = None
    volume_mounts: list[Mount] | None = None
    volume_devices: list[Device] | None = None
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    termination_message_path: str | None = None
    termination_message_policy: str | None = None
    security_context: ContainerSecurity | None = None

    def conflicts(self) -> Iterator[tuple[Path, str]]:
        """Yield names of the operator's containers, and mounts of its volumes, except the one with the models."""
        if self.name == pod.METERING_CONTAINER:
            yield ("name",), f"the container {self.name} cannot be changed; use spec.metering"
        if self.name == pod.OLLAMA_CONTAINER:
            yield ("name",), f"{self.name} is an init container; add to it in initContainers"
        for index, mount in enumerate(self.volume_mounts or []):
            if pod.is_own_volume(mount.name) and mount.name != pod.MODELS_VOLUME:
                yield (
                    ("volumeMounts", index, "name"),
                    f"{mount.name} is a volume of the operator; of these, only {pod.MODELS_VOLUME} can be mounted",
                )


class AddedInitContainer(AddedContainer):
    """An additional init container. With `restartPolicy: Always`, it runs as long as the pod."""

    restart_policy: Literal["Always"] | None = None
