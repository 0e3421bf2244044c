"""Observes an endpoint: the replicas of its StatefulSet, and the reports of the sidecars in its pods."""

from __future__ import annotations

from dataclasses import dataclass

from llmendpoint_common.contracts.sidecar import SidecarStatus
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.kube.scraping import Scraping
from llmendpoint_operator.policy.rules import Violation


@dataclass(frozen=True)
class PodView:
    """A pod. `status` is None if its sidecar does not answer. `trouble` is empty if there is no problem."""

    name: str
    ready: bool
    status: SidecarStatus | None
    trouble: str = ""


@dataclass(frozen=True)
class Observation:
    """The present state of an endpoint in the cluster.

    `refused` are the faults of its children that could not be written. `forbidden` are the values of its spec that the
    policy does not allow. If there are any, no child is written. `scraping` says which Prometheus servers select the
    ServiceMonitor; it is None if the operator cannot know this.
    """

    replicas: int
    ready_replicas: int
    up_to_date: bool
    pods: tuple[PodView, ...]
    refused: tuple[Fault, ...] = ()
    forbidden: tuple[Violation, ...] = ()
    scraping: Scraping | None = None


def is_ready(pod: Manifest) -> bool:
    """Return whether a pod is Ready and is not being deleted."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod.get("status", {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def trouble(pod: Manifest) -> str:
    """Return the reason why a pod does not run, as Kubernetes reports it, or an empty string if there is none."""
    status = pod.get("status", {})
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{pod['metadata']['name']}: {condition.get('message') or condition.get('reason', '')}"
    for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            words = f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
            return f"{pod['metadata']['name']}, container {container['name']}: {words}"
    return ""


def replicas_of(statefulset: Manifest | None) -> tuple[int, int, bool]:
    """Return the number of pods, the number of ready pods, and whether all pods have the latest template."""
    if statefulset is None:
        return 0, 0, False
    status = statefulset.get("status", {})
    existing = status.get("replicas", 0)
    observed = status.get("observedGeneration", 0) >= statefulset["metadata"].get("generation", 0)
    latest = observed and status.get("updatedReplicas", existing) == existing
    return existing, status.get("readyReplicas", 0), latest
