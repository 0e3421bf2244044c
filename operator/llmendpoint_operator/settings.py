"""The operator's settings, parsed from flags and environment variables at the start."""

from __future__ import annotations

import os
import re
import socket
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from llmendpoint_common.contracts.cluster import GROUP, OWN_LABELS, RESERVED_LABELS
from llmendpoint_common.process.errors import PolicyError
from llmendpoint_common.process.flags import Flags, choice
from llmendpoint_common.process.logs import parse_level
from llmendpoint_common.process.units import Address, parse_address
from llmendpoint_common.process.version import VERSION
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy, read_policy

ENVIRONMENT_PREFIX = "LLMENDPOINT_OPERATOR_"

_EXAMPLES = """examples:
  python -m llmendpoint_operator
      watch all namespaces; connect with the ServiceAccount of the pod or, outside a pod, with KUBECONFIG
  python -m llmendpoint_operator --namespace models --namespace staging
      watch two namespaces

exit codes: 0 stopped by a signal, 1 failed, 2 invalid option, 130 interrupted twice
"""


# The syntax of labels: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_LABEL_NAME = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
# A label as in RFC 1123: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Images:
    """Images, pull policies and pull secrets of the containers in endpoint and load pods."""

    sidecar: str
    loadjob: str
    ollama: str
    sidecar_pull_policy: str = "IfNotPresent"
    loadjob_pull_policy: str = "IfNotPresent"
    ollama_pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    ollama_rocm: str = ""

    @property
    def rocm(self) -> str:
        """The default image of Ollama for GPUs of AMD: `ollama_rocm` or, if it is empty, the variant of `ollama`.

        It is empty if the variant cannot be derived, because the default image has a digest or no tag.
        """
        name, separator, tag = self.ollama.rpartition(":")
        has_tag = bool(separator) and "/" not in tag and "@" not in self.ollama
        if self.ollama_rocm or not has_tag:
            return self.ollama_rocm
        if tag == "rocm" or tag.endswith("-rocm"):
            return self.ollama
        return f"{name}:rocm" if tag == "latest" else f"{name}:{tag}-rocm"


#: Allows all namespaces, as the only value of --monitoring-namespace.
ALL_NAMESPACES = "*"


@dataclass(frozen=True)
class MetricsAccess:
    """Who may connect to the metrics and the status of endpoints, if their NetworkPolicy is enforced.

    `namespaces` are those of the monitoring; `*` stands for all. The operator's own pods are always allowed.
    """

    operator_namespace: str = "llmendpoint-system"
    namespaces: tuple[str, ...] = ()

    @property
    def all_namespaces(self) -> bool:
        """Whether pods of all namespaces may connect."""
        return ALL_NAMESPACES in self.namespaces


class Actuator(StrEnum):
    """What scales the endpoints with `spec.autoscaling`."""

    KEDA = "KEDA"
    HPA = "HPA"


@dataclass(frozen=True)
class ChildSettings:
    """The settings that the manifests of children depend on.

    If `openshift` is true, pods have no fixed user and group: the platform assigns them. `monitor_labels` are labels of
    the endpoints' ServiceMonitors, for the selector of a Prometheus. `prometheus_url` is the address at which KEDA
    queries Prometheus; it is not empty if `actuator` is KEDA.
    """

    images: Images
    openshift: bool = False
    monitor_labels: Mapping[str, str] = field(default_factory=dict)
    actuator: Actuator | None = None
    prometheus_url: str = ""
    metrics_access: MetricsAccess = MetricsAccess()


@dataclass(frozen=True)
class Process:
    """Identity of this process for leader election. `pod_uid` is empty outside a pod."""

    leader_election: bool
    installation: str
    pod: str
    pod_uid: str


@dataclass(frozen=True)
class Settings:
    """The settings of the process. `own_namespace` is the namespace of the ConfigMaps with the default questions."""

    namespaces: tuple[str, ...]
    own_namespace: str
    process: Process
    children: ChildSettings
    policy: Policy
    health_listen: Address
    log_level: str


def parse_pull_policy(text: str) -> str:
    """Return an image pull policy. Raises ValueError if Kubernetes does not define it."""
    if text not in ("Always", "IfNotPresent", "Never"):
        raise ValueError(f"{text!r} is not a pull policy; choose Always, IfNotPresent or Never")
    return text


def parse_label(text: str) -> tuple[str, str]:
    """Return the name and the value of a label that is written as NAME=VALUE.

    Raises ValueError if it is not one, or if the operator sets it itself.
    """
    name, separator, value = text.partition("=")
    if not separator or not _LABEL_NAME.fullmatch(name) or not _LABEL_VALUE.fullmatch(value):
        raise ValueError(f"{text!r} is not a label; write NAME=VALUE, such as release=prometheus")
    if name in OWN_LABELS or name.startswith(f"{GROUP}/"):
        raise ValueError(f"{name!r} cannot be set: {RESERVED_LABELS}")
    return name, value


def parse_namespace(text: str) -> str:
    """Return the name of a namespace. Raises ValueError if a namespace cannot have it."""
    if not _NAMESPACE.fullmatch(text):
        raise ValueError(
            f"{text!r} is not the name of a namespace; use at most 63 lowercase letters, digits and '-', and begin and "
            "end with a letter or digit"
        )
    return text


def parse_monitoring_namespace(text: str) -> str:
    """Return the name of a namespace, or `*`. Raises ValueError if it is neither."""
    return text if text == ALL_NAMESPACES else parse_namespace(text)


def parse_url(text: str) -> str:
    """Return the base URL of an HTTP server, without a slash at the end. Raises ValueError if it is not one."""
    address = urlsplit(text)
    if address.scheme not in ("http", "https") or not address.hostname or address.query or address.fragment:
        raise ValueError(f"{text!r} is not a URL; write it like http://prometheus.monitoring.svc:9090")
    return text.rstrip("/")


def parse_policy_file(text: str) -> Policy:
    """Return the policy in the file with this path. Raises ValueError, whose message names the file."""
    try:
        return read_policy(Path(text))
    except PolicyError as error:
        raise ValueError(str(error)) from None


def command_line() -> Flags:
    """Return the options of the operator."""
    description = "Run the operator for LLMEndpoint and LoadTest resources."
    flags = Flags("llmendpoint_operator", ENVIRONMENT_PREFIX, description, _EXAMPLES)
    scope = flags.group("scope")
    scope.option("namespace", parse_namespace, [], "namespace to watch; if absent, all namespaces are watched",
                 value="NAME")  # fmt: skip
    scope.option("own-namespace", parse_namespace, os.environ.get("POD_NAMESPACE", "llmendpoint-system"),
                 "namespace of the ConfigMaps with the default questions; if POD_NAMESPACE is set, it is the default",
                 value="NAME")  # fmt: skip
    scope.option("policy", parse_policy_file, None, "file with the values that the creators of resources may use; if "
                 "absent, all values are allowed (docs/security.md)", value="FILE")  # fmt: skip
    election = flags.group("leader election")
    election.switch("leader-election", "write only while holding a Lease, so that several operators can run; without "
                    "it, make sure that no other operator serves the same namespaces")  # fmt: skip
    election.option("installation", str, "llmendpoint", "name of this installation in its namespace; its replicas "
                    "share Leases, and of two installations with common namespaces only one serves them",
                    value="NAME")  # fmt: skip
    images = flags.group("images")
    images.option("sidecar-image", str, f"ghcr.io/llmendpoint/sidecar:{VERSION}", "image of the sidecar", value="IMAGE")
    images.option(
        "loadjob-image", str, f"ghcr.io/llmendpoint/loadjob:{VERSION}", "image of the load generator", value="IMAGE"
    )
    images.option("ollama-image", str, "docker.io/ollama/ollama:0.17.4", "image of Ollama for endpoints that do not "
                  "set an image", value="IMAGE")  # fmt: skip
    images.option("ollama-rocm-image", str, "", "image of Ollama for endpoints with GPUs of amd.com that do not set an "
                  "image; if empty, the tag of --ollama-image with the suffix -rocm", value="IMAGE")  # fmt: skip
    for name in ("sidecar", "loadjob", "ollama"):
        images.option(f"{name}-pull-policy", parse_pull_policy, "IfNotPresent",
                      "image pull policy: Always, IfNotPresent or Never",
                      value="POLICY")  # fmt: skip
    images.option("image-pull-secret", str, [], "name of a Secret with credentials for the registries of these "
                  "images, in the namespace of each endpoint and load test", value="NAME")  # fmt: skip
    children = flags.group("children")
    children.switch("openshift", "set no user, group and fsGroup in pods, because OpenShift assigns them")
    children.option("monitor-label", parse_label, [], "label of the endpoints' ServiceMonitors, for the selector of a "
                    "Prometheus; labels in spec.monitoring.labels take precedence", value="NAME=VALUE")  # fmt: skip
    children.option("autoscaling-actuator", choice(Actuator), None, "what scales endpoints with spec.autoscaling: KEDA "
                    "or HPA, a HorizontalPodAutoscaler with an adapter for metrics of Prometheus; if absent, they are "
                    "not scaled, and say so in their status", value="NAME")  # fmt: skip
    children.option("prometheus-url", parse_url, None, "address of the Prometheus that scrapes the endpoints, such as "
                    "http://prometheus.monitoring.svc:9090; required with --autoscaling-actuator KEDA, which queries "
                    "it", value="URL")  # fmt: skip
    children.option("monitoring-namespace", parse_monitoring_namespace, [], "namespace whose pods may read the metrics "
                    "of endpoints, besides the operator, if NetworkPolicies are enforced; * allows all namespaces",
                    value="NAME")  # fmt: skip
    process = flags.group("process")
    process.option("health-listen", parse_address, ":8080", "listen address for /livez, /readyz and /metrics")
    process.option("log-level", parse_level, "info", "debug, info, warning or error")
    return flags


def parse_settings(arguments: Sequence[str] | None = None) -> Settings:
    """Return the settings of a command line. An invalid setting ends the process with exit code 2."""
    flags = command_line()
    options = flags.parse(arguments)
    if options.autoscaling_actuator is Actuator.KEDA and not options.prometheus_url:
        flags.refuse("--autoscaling-actuator KEDA requires --prometheus-url, the address that KEDA queries")
    return Settings(
        namespaces=tuple(options.namespace),
        own_namespace=options.own_namespace,
        process=Process(
            options.leader_election,
            options.installation,
            os.environ.get("POD_NAME") or socket.gethostname(),
            os.environ.get("POD_UID", ""),
        ),
        children=ChildSettings(
            _images(options),
            options.openshift,
            dict(options.monitor_label),
            options.autoscaling_actuator,
            options.prometheus_url or "",
            MetricsAccess(options.own_namespace, tuple(options.monitoring_namespace)),
        ),
        policy=options.policy or ALLOW_ALL,
        health_listen=options.health_listen,
        log_level=options.log_level,
    )


def _images(options: Namespace) -> Images:
    return Images(
        options.sidecar_image,
        options.loadjob_image,
        options.ollama_image,
        options.sidecar_pull_policy,
        options.loadjob_pull_policy,
        options.ollama_pull_policy,
        tuple(options.image_pull_secret),
        options.ollama_rocm_image,
    )
