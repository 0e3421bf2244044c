"""Observes an endpoint: the counts of its StatefulSet, and what the sidecar of each pod reports."""

from __future__ import annotations

from dataclasses import dataclass

from llmendpoint_common.contracts.sidecar import SidecarStatus
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest


@dataclass(frozen=True)
class PodView:
    """One pod. `status` is None if its sidecar does not answer."""

    name: str
    ready: bool
    status: SidecarStatus | None
    trouble: str = ""


@dataclass(frozen=True)
class Observation:
    """An endpoint as the cluster shows it now, and its children that could not be written."""

    replicas: int
    ready_replicas: int
    up_to_date: bool
    pods: tuple[PodView, ...]
    refused: tuple[Fault, ...] = ()


def is_ready(pod: Manifest) -> bool:
    """Tell whether a pod is Ready and is not being deleted."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod.get("status", {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def trouble(pod: Manifest) -> str:
    """Return why a pod does not run, in Kubernetes' words; an empty string if nothing is wrong."""
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
    """Return the numbers of pods and of ready pods, and whether all pods have the latest template."""
    if statefulset is None:
        return 0, 0, False
    status = statefulset.get("status", {})
    existing = status.get("replicas", 0)
    observed = status.get("observedGeneration", 0) >= statefulset["metadata"].get("generation", 0)
    latest = observed and status.get("updatedReplicas", existing) == existing
    return existing, status.get("readyReplicas", 0), latest
