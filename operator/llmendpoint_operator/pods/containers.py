"""Why a container of a pod does not run, from its state and its last state."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, TypeAlias

from llmendpoint_common.contracts.cluster import PodReason
from llmendpoint_common.diagnosis.sentences import image_cannot_be_pulled
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.pods.trouble import RECENT, Origin, Trouble, quoted

Container: TypeAlias = dict[str, Any]

#: Waiting is normal for these reasons.
_STARTING = frozenset({"", "PodInitializing", "ContainerCreating"})
_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "ErrImageNeverPull", "InvalidImageName"})
_MISSING = re.compile(r'(secret|configmap) "[^"]+" not found|couldn\'t find key')
#: Exit codes that need a word: 128 + the number of the signal.
_SIGNALS = {137: " (killed by SIGKILL)", 139: " (segmentation fault)", 143: " (ended by SIGTERM)"}
#: A container that fails once may recover by itself. From this number of restarts on, it is in a loop.
_LOOP_RESTARTS = 3
_OUT_OF_MEMORY = "OOMKilled"


def statuses(pod: Manifest) -> list[Container]:
    """Return the statuses of all containers, init containers first."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def is_starting(pod: Manifest) -> bool:
    """Return whether no container of the pod has been started yet."""
    return all(
        (_waiting(one) or {}).get("reason", "") in _STARTING and _waiting(one) is not None for one in statuses(pod)
    )


def container_trouble(pod: Manifest, origin: Origin, now: datetime) -> Trouble | None:
    """Return why a container of a pod that is not ready does not run, or None if all of them do."""
    name = pod["metadata"]["name"]
    for container in statuses(pod):
        found = _trouble(container, origin, now)
        if found is not None:
            reason, words = found
            return Trouble(reason, f"{name}, container {container['name']}: {words}")
    return None


def _trouble(container: Container, origin: Origin, now: datetime) -> tuple[PodReason, str] | None:
    waiting = _waiting(container)
    reason = (waiting or {}).get("reason", "")
    ended = _ended(container)
    if ended and ended.get("reason") == _OUT_OF_MEMORY and _is_recent(container, now):
        return PodReason.OOM_KILLED, _out_of_memory(container, ended, origin)
    if reason in _IMAGE:
        return PodReason.IMAGE_PULL_FAILED, _image(container, waiting or {})
    if reason == "CrashLoopBackOff" or (ended and _is_looping(container, now)):
        return PodReason.CRASH_LOOP, _crash(ended or {})
    if waiting is not None and reason not in _STARTING:
        return PodReason.CONTAINER_NOT_STARTED, _not_started(waiting)
    return None


def _waiting(container: Container) -> dict[str, Any] | None:
    waiting: dict[str, Any] | None = (container.get("state") or {}).get("waiting")
    return waiting


def _ended(container: Container) -> dict[str, Any]:
    """Return how the container ended: in its present state, or before its last restart."""
    for field in ("state", "lastState"):
        ended: dict[str, Any] | None = (container.get(field) or {}).get("terminated")
        if ended:
            return ended
    return {}


def _is_recent(container: Container, now: datetime) -> bool:
    """Return whether the container does not run, or has run for a short time only."""
    running = (container.get("state") or {}).get("running")
    started = (running or {}).get("startedAt")
    return not started or now - datetime.fromisoformat(started) < RECENT


def _is_looping(container: Container, now: datetime) -> bool:
    failed = _ended(container).get("exitCode", 0) != 0
    return failed and container.get("restartCount", 0) >= _LOOP_RESTARTS and _is_recent(container, now)


def _out_of_memory(container: Container, ended: dict[str, Any], origin: Origin) -> str:
    # Kubelet reports the limits since Kubernetes 1.33. They include what a LimitRange has added.
    reported = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    limit = reported or origin.memory_limits.get(container["name"])
    amount = f"its memory limit of {limit}" if limit else "its memory limit, or the memory of the node"
    field = origin.resources(container["name"])
    return (
        f"OOMKilled: it used more memory than {amount} (exit code {ended.get('exitCode', 137)}, "
        f"{container.get('restartCount', 0)} restarts). Raise limits.memory in {field}, or use a smaller model or "
        "context. If "
        f"{field} has no limit, a LimitRange of the namespace may set one."
    )


def _image(container: Container, waiting: dict[str, Any]) -> str:
    image = container.get("image") or "the image"
    return image_cannot_be_pulled(image, quoted(str(waiting.get("message") or waiting.get("reason"))))


def _crash(ended: dict[str, Any]) -> str:
    code = ended.get("exitCode")
    how = f"with exit code {code}{_SIGNALS.get(code or 0, '')}" if code is not None else "without an exit code"
    last = f" Its last words: {quoted(str(ended['message'])[-600:], 600)}." if ended.get("message") else ""
    return f"it ended {how}, and Kubernetes restarts it again and again.{last} See its logs (kubectl logs --previous)."


def _not_started(waiting: dict[str, Any]) -> str:
    text = quoted(str(waiting.get("message") or ""))
    advice = "Create the object, or correct the spec." if _MISSING.search(text) else "See the events of the pod."
    return f"it cannot be started. {advice} Kubernetes: {waiting['reason']}: {text or 'no message'}."
