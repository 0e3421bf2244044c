"""Observes an endpoint: the replicas of its StatefulSet, the reports of the sidecars in its pods, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from llmendpoint_common.api.endpoint.gpu import PodResourceClaim
from llmendpoint_common.api.endpoint.monitoring import MonitoringMode
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.sidecar import ModelPhase, SidecarStatus
from llmendpoint_operator.endpoint.layout import METERING_CONTAINER, OLLAMA_CONTAINER
from llmendpoint_operator.endpoint.pod.scheduling import product_label
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.kube.scraping import Scraping
from llmendpoint_operator.kube.unwatched import Unwatched
from llmendpoint_operator.pods.trouble import Origin, Trouble
from llmendpoint_operator.policy.rules import Violation

#: A pod that has been unschedulable for so long waits for a person. Kubernetes uses the same time for Deployments
#: (`progressDeadlineSeconds`), and a node for a GPU usually starts faster.
_STUCK = timedelta(minutes=10)
_UNFINISHED = frozenset({ModelPhase.PENDING, ModelPhase.PULLING, ModelPhase.LOADING})
#: The kinds that decide whether clients can reach a replica.
SERVING = ("StatefulSet", "Pod", "Service")


@dataclass(frozen=True)
class PodView:
    """A pod. `status` is None if its sidecar does not answer.

    `trouble` says why the pod is not ready, if that is known. `silence` is a sentence if the sidecar should answer the
    operator, but does not. `outdated` is whether its sidecar has not read the latest configuration yet.
    """

    name: str
    ready: bool
    status: SidecarStatus | None
    trouble: Trouble | None = None
    silence: str = ""
    outdated: bool = False


@dataclass(frozen=True)
class Observation:
    """The present state of an endpoint in the cluster.

    `refused` are the faults of its children that could not be written. `forbidden` are the values of its spec that the
    policy does not allow, and `invalid` is what is wrong with a spec that the operator cannot apply. If there are any,
    no child is written. `absent` is what is wrong with pods that do not exist. `deleting` are the names of children
    that are being deleted and are created again afterwards. `reachable` is whether the client Service exists and is
    ours. `stuck` is the trouble of a pod that waits for a person. `scrape_mode` is the way in which the pods are
    scraped; it is never Auto. `scraping` says which Prometheus servers select the ServiceMonitor or PodMonitor; it is
    None if the operator cannot know this. `monitored` is whether this monitor exists and is ours or, with annotations,
    whether the headless Service is. `unwatched` are the kinds of its children and pods that the operator may not watch,
    so that what is observed of them may be outdated. `resizing` has a sentence for each claim that grows. `paused` is
    whether the operator must not write, and `withheld` are the names of what it would write.
    `configuration` is the hash of its GPUs and its Ollama, and `measured` is what its load tests measured. `scaled_to`
    is the number of pods that an autoscaler has set in the StatefulSet; it is None if the spec has the number.
    `autoscaling` is a sentence if the number of pods should follow the load, but does not.
    """

    replicas: int
    ready_replicas: int
    up_to_date: bool
    pods: tuple[PodView, ...]
    refused: tuple[Fault, ...] = ()
    forbidden: tuple[Violation, ...] = ()
    scrape_mode: MonitoringMode = MonitoringMode.SERVICE_MONITOR
    scraping: Scraping | None = None
    invalid: str = ""
    absent: tuple[Trouble, ...] = ()
    deleting: tuple[str, ...] = ()
    reachable: bool = True
    stuck: Trouble | None = None
    monitored: bool = True
    unwatched: tuple[Unwatched, ...] = ()
    resizing: tuple[str, ...] = ()
    paused: bool = False
    withheld: tuple[str, ...] = ()
    configuration: str = ""
    measured: tuple[dict[str, Any], ...] = ()
    scaled_to: int | None = None
    autoscaling: str = ""

    def wanted(self, spec: LLMEndpointSpec) -> int:
        """Return the number of pods that should exist."""
        return spec.wanted_replicas if self.scaled_to is None else self.scaled_to

    @property
    def unseen(self) -> list[Unwatched]:
        """The kinds that cannot be watched and that decide whether clients can reach a replica that is ready."""
        return [each for each in self.unwatched if each.kind in SERVING]


class Replicas(NamedTuple):
    """The number of pods, the number of ready pods, and whether all pods have the latest template."""

    existing: int
    ready: int
    up_to_date: bool


def is_ready(pod: Manifest) -> bool:
    """Return whether a pod is Ready and is not being deleted."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod.get("status", {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def is_loading(pod: Manifest, report: SidecarStatus | None) -> bool:
    """Return whether a pod is not ready because its models are being pulled or loaded. `report` is its last one."""
    if report is None or is_ready(pod) or pod["metadata"].get("deletionTimestamp"):
        return False
    phases = {model.phase for model in report.models}
    return bool(phases & _UNFINISHED) and ModelPhase.FAILED not in phases


def origin_of(spec: LLMEndpointSpec) -> Origin:
    """Return what the spec says about its pods, as far as advice depends on it."""
    gpu = spec.wanted_gpu
    limits = {
        OLLAMA_CONTAINER: spec.ollama.resources.limits.get("memory", ""),
        METERING_CONTAINER: spec.metering.resources.limits.get("memory", spec.metering.default_limits["memory"]),
    }
    return Origin(
        gpu=gpu.device_resource if gpu.devices else "",
        gpus=gpu.devices,
        products=tuple(gpu.products),
        product_label=product_label(gpu),
        selectors=tuple(_selectors(spec)),
        claims=tuple(_claim_text(claim) for claim in gpu.resource_claims),
        fields={OLLAMA_CONTAINER: "spec.ollama.resources", METERING_CONTAINER: "spec.metering.resources"},
        memory_limits={container: limit for container, limit in limits.items() if limit},
    )


def _selectors(spec: LLMEndpointSpec) -> Iterator[str]:
    if spec.pod.node_selector:
        yield "spec.pod.nodeSelector"
    if spec.pod.affinity is not None:
        yield "spec.pod.affinity"


def _claim_text(claim: PodResourceClaim) -> str:
    template, name = claim.resource_claim_template_name, claim.resource_claim_name
    return f"ResourceClaimTemplate {template}" if template else f"ResourceClaim {name}"


def stuck(troubles: Sequence[Trouble | None], now: datetime) -> Trouble | None:
    """Return the trouble of the first pod that has been unschedulable for so long that a person is needed."""
    return next((each for each in troubles if each and each.since and now - each.since >= _STUCK), None)
