"""Why a pod does not run: one classifier for the pods of endpoints and of load tests.

Kubernetes reports the reason in several places: the scheduler and kubelet in the status of the pod, kubelet's mounts
only in Warning Events about the pod, and admission (quotas, policies, webhooks) only in Warning Events about the
StatefulSet or Job that could not create the pod. A message quotes Kubernetes, and then says what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from llmendpoint_common.contracts.cluster import PodReason
from llmendpoint_operator.kube.owner import Manifest


class Warned(Protocol):
    """A Warning Event about the object with this UID. Several of them are sorted, newest first."""

    @property
    def uid(self) -> str: ...

    @property
    def reason(self) -> str: ...

    @property
    def message(self) -> str: ...


class Trouble(NamedTuple):
    """The reason why a pod does not run, for conditions and Events, and a sentence for users."""

    reason: PodReason
    message: str


_ADVICE = {
    PodReason.UNSCHEDULABLE: "Free or add what it lacks, or change the resources, nodeSelector or tolerations of the "
    "pod.",
    PodReason.IMAGE_PULL_FAILED: "Check the name of the image, the credentials (imagePullSecrets), and whether the "
    "node reaches the registry.",
    PodReason.VOLUME_NOT_MOUNTED: "Create the object that it names, or correct the reference to it.",
    PodReason.CONTAINER_NOT_CREATED: "Correct what the message names.",
    PodReason.CONTAINER_FAILED: "Check the logs of the container (kubectl logs --previous).",
    PodReason.OOM_KILLED: "Raise its memory limit, or make it use less memory.",
    PodReason.EVICTED: "Check the resources that the node ran out of.",
    PodReason.QUOTA_EXCEEDED: "Raise the ResourceQuota of the namespace, request less, or delete pods that are not "
    "needed.",
    PodReason.POD_REFUSED: "Change the spec, or what refused the pod: a policy, a webhook, a LimitRange, or a missing "
    "class.",
}
_OF_WAITING = {
    "ErrImagePull": PodReason.IMAGE_PULL_FAILED,
    "ImagePullBackOff": PodReason.IMAGE_PULL_FAILED,
    "InvalidImageName": PodReason.IMAGE_PULL_FAILED,
    "ErrImageNeverPull": PodReason.IMAGE_PULL_FAILED,
    "RegistryUnavailable": PodReason.IMAGE_PULL_FAILED,
    "SignatureValidationFailed": PodReason.IMAGE_PULL_FAILED,
    "CrashLoopBackOff": PodReason.CONTAINER_FAILED,
}
_NOT_A_PROBLEM = (None, "", "PodInitializing", "ContainerCreating")
#: Reasons of Warning Events about a pod whose containers have not been started.
_OF_EVENTS = {
    "FailedMount": PodReason.VOLUME_NOT_MOUNTED,
    "FailedAttachVolume": PodReason.VOLUME_NOT_MOUNTED,
    "FailedMapVolume": PodReason.VOLUME_NOT_MOUNTED,
    "FailedCreatePodSandBox": PodReason.CONTAINER_NOT_CREATED,
    "FailedScheduling": PodReason.UNSCHEDULABLE,
}


def trouble(pod: Manifest, warnings: Iterable[Warned] = ()) -> Trouble | None:
    """Return why a pod does not run, or None if nothing keeps it from running."""
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    if status.get("reason") == "Evicted":
        return _trouble(PodReason.EVICTED, f"Pod {name} was evicted: {status.get('message', '')}")
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            words = condition.get("message") or condition.get("reason", "")
            return _trouble(PodReason.UNSCHEDULABLE, f"Pod {name} cannot be scheduled: {words}")
    return next(_of_containers(name, status), None) or _of_warnings(pod, warnings)


def creation_trouble(controller: str, uid: str, warnings: Iterable[Warned]) -> Trouble | None:
    """Return why a StatefulSet or Job cannot create a pod, or None. `controller` is "Kind/name", and `uid` its UID.

    Only for a controller that lacks a pod: an Event stays for an hour after its cause has gone.
    """
    for event in warnings:
        if event.uid == uid and event.reason == "FailedCreate":
            reason = PodReason.QUOTA_EXCEEDED if "exceeded quota" in event.message else PodReason.POD_REFUSED
            return _trouble(reason, f"{controller} cannot create its pod: {event.message}")
    return None


def _of_containers(name: str, status: dict[str, Any]) -> Iterator[Trouble]:
    for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        where = f"Pod {name}, container {container['name']}"
        state, last = container.get("state") or {}, container.get("lastState") or {}
        waiting = state.get("waiting") or {}
        ended = (state if "terminated" in state else last).get("terminated") or {}
        if ended.get("reason") == "OOMKilled" and "running" not in state:
            yield _trouble(PodReason.OOM_KILLED, f"{where}: OOMKilled: it used more memory than its limit")
        elif waiting.get("reason") not in _NOT_A_PROBLEM:
            reason = _OF_WAITING.get(waiting["reason"], PodReason.CONTAINER_NOT_CREATED)
            yield _trouble(reason, f"{where}: {waiting['reason']}: {waiting.get('message') or _exit(ended)}")


def _exit(ended: dict[str, Any]) -> str:
    return f"it ended with exit code {ended['exitCode']}" if "exitCode" in ended else ""


def _of_warnings(pod: Manifest, warnings: Iterable[Warned]) -> Trouble | None:
    if (pod.get("status") or {}).get("phase", "Pending") != "Pending":
        return None
    for event in warnings:
        if event.uid == pod["metadata"]["uid"] and event.reason in _OF_EVENTS:
            return _trouble(_OF_EVENTS[event.reason], f"Pod {pod['metadata']['name']}: {event.message}")
    return None


def _trouble(reason: PodReason, words: str) -> Trouble:
    sentence = " ".join(words.split()).rstrip(".: ")
    return Trouble(reason, f"{sentence}. {_ADVICE[reason]}")
