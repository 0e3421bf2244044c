"""Finds out why a pod does not run, or does not exist, from its status and from Warning Events.

An Event is only used while it can still be true: an Event about the creation of a pod as long as the pod does not
exist, one about its volumes until they are mounted, one about a claim as long as its pod is not scheduled, and one
about an eviction for some minutes, if the successor of the pod is not ready.

During a normal start, an attempt to provision, attach or mount a volume or to create the sandbox may fail and be
repeated. An Event about it counts when this lasts for `LASTING`, or immediately if a person has to do something.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from llmendpoint_common.contracts.cluster import PodReason
from llmendpoint_common.diagnosis.sentences import WAITS_FOR_CLAIM
from llmendpoint_operator.cluster.warning_events import WarningEvent
from llmendpoint_operator.kube.admission import quoted_refusal
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.pods.containers import container_trouble, is_starting
from llmendpoint_operator.pods.device_claims import claim_trouble
from llmendpoint_operator.pods.scheduling import scheduling_trouble
from llmendpoint_operator.pods.trouble import RECENT, Origin, Trouble, quoted

_EVICTED = "Evicted"
#: Times of Events have whole seconds, and come from the clocks of other machines.
_CLOCKS = timedelta(seconds=5)
#: The provisioners of the Kubernetes project repeat a failed attempt after 15 s, and kubelet sooner.
LASTING = timedelta(seconds=30)
#: A pod whose grace period ended so long ago is not deleted by its node.
_OVERDUE = timedelta(minutes=2)
_VOLUME_REASONS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
_CLAIM_REASONS = frozenset({"ProvisioningFailed", "FailedBinding", "VolumeMismatch"})
_DEVICE_REASON = "FailedPrepareDynamicResources"
_SANDBOX_REASONS = frozenset({"FailedCreatePodSandBox", "NetworkNotReady", "FailedSync"})
_BEFORE_CONTAINERS = _VOLUME_REASONS | _SANDBOX_REASONS | {_DEVICE_REASON}
_FAILED_CREATE = "FailedCreate"
_NO_CLASS = re.compile(r"storageclass\S* \"?[^\"]+\"? not found")
#: An object is missing that a person has to create. Kubernetes creates the other one in each new namespace.
_MISSING = re.compile(r"(?<!kube-root-ca\.crt\" )not found|non-existent|no runtime for")
_EMPTY_DIR_LIMIT = re.compile(r'Usage of EmptyDir volume "models" exceeds the limit')


def pod_trouble(pod: Manifest, warnings: Sequence[WarningEvent], origin: Origin, now: datetime) -> Trouble | None:
    """Return why an existing pod is not ready, or None if nothing is known to be wrong. `warnings` are newest first."""
    if pod["metadata"].get("deletionTimestamp"):
        return _stuck_in_deletion(pod, now)
    if _is_ready(pod):
        return None
    name = pod["metadata"]["name"]
    mine = [event for event in warnings if event.kind == "Pod" and event.name == name]
    return (
        _evicted(pod)
        or _claim_trouble(pod, warnings, now)
        or claim_trouble(pod, mine, origin, now)
        or scheduling_trouble(pod, origin, now)
        or container_trouble(pod, origin, now)
        or _volume_trouble(pod, mine, now)
        or eviction_trouble(name, mine, now)
    )


def absent_pod_trouble(
    name: str, warnings: Iterable[WarningEvent], now: datetime, existed: datetime | None = None
) -> Trouble | None:
    """Return why a pod that should exist does not: admission refused the pod or its claim, or it was evicted.

    `existed` is the time at which a pod of this name was last seen. An older refusal is over.
    """
    events = list(warnings)
    for event in events:
        if existed is not None and event.last_seen < existed - _CLOCKS:
            continue
        if event.reason == _FAILED_CREATE and re.search(rf"\b(Pod|pods?) \"?{re.escape(name)}\b", event.message):
            return _refused(name, event)
    mine = [event for event in events if event.kind == "Pod" and event.name == name]
    return eviction_trouble(name, mine, now)


def refused_pod_trouble(controller: str, uid: str, warnings: Iterable[WarningEvent]) -> Trouble | None:
    """Return why a controller cannot create a pod whose name is not known: that of a Job is random.

    `controller` is "Kind/name", and `uid` its UID: Events about a deleted controller of the same name do not count.
    """
    for event in warnings:
        if event.uid == uid and event.reason == _FAILED_CREATE:
            return _refused(f"The pod of {controller}", event)
    return None


def eviction_trouble(name: str, mine: Iterable[WarningEvent], now: datetime) -> Trouble | None:
    """Return that the predecessor of a pod was evicted some minutes ago. `mine` are the Events about its name."""
    for event in mine:
        if event.reason == _EVICTED and now - event.last_seen < RECENT:
            return _eviction(name, event.message)
    return None


def _is_ready(pod: Manifest) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def _stuck_in_deletion(pod: Manifest, now: datetime) -> Trouble | None:
    """Return that a pod still exists although its grace period, which ends at `deletionTimestamp`, is over."""
    name, ends = pod["metadata"]["name"], pod["metadata"]["deletionTimestamp"]
    if now - datetime.fromisoformat(ends) < _OVERDUE:
        return None
    words = (
        f"{name} should have ended at {ends}, and is not replaced before it has. Its node may be unreachable: repair "
        "the "
        f"node, or delete it (kubectl delete node), or check the finalizers of the pod."
    )
    return Trouble(PodReason.POD_NOT_RUNNING, words)


def _is_true(pod: Manifest, condition: str) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item["type"] == condition and item["status"] == "True" for item in conditions)


def _evicted(pod: Manifest) -> Trouble | None:
    status = pod.get("status") or {}
    if status.get("phase") != "Failed":
        return None
    name, message = pod["metadata"]["name"], str(status.get("message") or "")
    if status.get("reason") == _EVICTED:
        return _eviction(name, message)
    if not status.get("reason"):
        return None
    words = f"{name} failed: {status['reason']}: {quoted(message) or 'no message'}. Kubernetes creates it again."
    return Trouble(PodReason.POD_NOT_RUNNING, words)


def _eviction(name: str, message: str) -> Trouble:
    if _EMPTY_DIR_LIMIT.search(message):
        advice = "Raise spec.storage.sizeLimit, or use storage of the type PersistentVolumeClaim."
    elif "ephemeral" in message:
        advice = "Request more ephemeral-storage in the resources of the spec, or free storage on the node."
    else:
        advice = "Free this resource on the node, or request what the pod uses."
    return Trouble(PodReason.EVICTED, f"{name} was evicted: {quoted(message)}. {advice}")


def _refused(name: str, event: WarningEvent) -> Trouble:
    """Return the refusal of a pod or of its claim that the StatefulSet or Job controller quotes."""
    # "create Pod assistant-0 in StatefulSet assistant failed error: pods "assistant-0" is forbidden: ..."
    _, _, error = event.message.partition("failed error: ")
    text = quoted(error or event.message, 600)
    found = quoted_refusal(text)
    if found is None:
        return Trouble(
            PodReason.POD_NOT_RUNNING, f"{name} cannot be created: {text}. See the events of its {event.kind}."
        )
    return Trouble(found.reason, f"{name} cannot be created: {text}. {found.advice}")


def _claim_trouble(pod: Manifest, warnings: Iterable[WarningEvent], now: datetime) -> Trouble | None:
    if _is_true(pod, "PodScheduled"):
        return None
    name = pod["metadata"]["name"]
    created = pod["metadata"].get("creationTimestamp")
    told = [
        event
        for event in warnings
        if event.kind == "PersistentVolumeClaim"
        and event.name.endswith(f"-{name}")
        and event.reason in _CLAIM_REASONS
        and not _is_older(event, created)
    ]
    for event in told:
        if not _NO_CLASS.search(event.message) and not _is_lasting(told, created, now):
            continue
        advice = (
            "Create the StorageClass. The class of an existing claim cannot be changed."
            if _NO_CLASS.search(event.message)
            else "Check the StorageClass, its provisioner and its quota (kubectl describe pvc)."
        )
        words = f"{name} {WAITS_FOR_CLAIM} {event.name}: {quoted(event.message)}. {advice}"
        return Trouble(PodReason.VOLUME_NOT_READY, words)
    return None


def _is_older(event: WarningEvent, created: str | None) -> bool:
    return bool(created) and event.last_seen < datetime.fromisoformat(str(created))


def _is_lasting(told: Iterable[WarningEvent], created: str | None, now: datetime) -> bool:
    """Return whether Events about one obstacle of a pod go back for longer than a normal start takes to get over it."""
    begun = min(event.first_seen for event in told)
    if created:
        begun = max(begun, datetime.fromisoformat(str(created)))
    return now - begun >= LASTING


def _volume_trouble(pod: Manifest, mine: Iterable[WarningEvent], now: datetime) -> Trouble | None:
    # The second one is True when the volumes are mounted and the sandbox runs (since Kubernetes 1.29).
    if not is_starting(pod) or _is_true(pod, "PodReadyToStartContainers"):
        return None
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    told = [event for event in mine if event.uid == uid and event.reason in _BEFORE_CONTAINERS]
    event = next((one for one in told if _MISSING.search(one.message) or _is_lasting(told, None, now)), None)
    if event is None:
        return None
    if event.reason in _VOLUME_REASONS:
        return Trouble(PodReason.VOLUME_NOT_READY, f"{name}: {quoted(event.message)}. {_volume_advice(event.message)}")
    if event.reason == _DEVICE_REASON:
        advice = "Check the DRA driver of the devices on the node of the pod (kubectl get resourceslices)."
    else:
        advice = "Check the container runtime and the network of the node, and spec.gpu.runtimeClassName."
    return Trouble(PodReason.CONTAINER_NOT_STARTED, f"{name}: {quoted(event.message)}. {advice}")


def _volume_advice(message: str) -> str:
    if "Multi-Attach" in message:
        return (
            "The access mode of the claim allows one node only. Use one claim per replica (spec.storage.type: "
            "PersistentVolumeClaim), or a claim with ReadWriteMany."
        )
    if "non-existent" in message:
        return "Add the key to the ConfigMap or Secret, or correct the spec."
    if "not found" in message:
        return "Create the missing object, or correct the spec."
    return "Check the volume and its storage driver (kubectl describe pod)."
