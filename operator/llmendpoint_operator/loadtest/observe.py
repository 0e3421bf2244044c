"""Observes a started run: its Job and its pods, as the watches last showed them. Has no side effects.

A pod can be deleted or evicted at any time, and the Job controller may say that the Job has failed while the pod is
still writing its partial result. Therefore an interruption and the end of the pod are two separate observations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from llmendpoint_operator.cluster.inventory import Child
from llmendpoint_operator.cluster.warning_events import WarningEvent
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.loadtest.last_words import plain
from llmendpoint_operator.loadtest.resources.volumes import CLAIM_FIELD
from llmendpoint_operator.pods.classify import pod_trouble, refused_pod_trouble
from llmendpoint_operator.pods.trouble import Origin, Trouble

#: Reasons in the status of a pod that was ended by its node, the scheduler, or the garbage collector of pods.
_ENDED_FROM_OUTSIDE = frozenset({"Evicted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "Preempting",
                                 "NodeAffinity"})  # fmt: skip
_ORIGIN = Origin(claim=CLAIM_FIELD)
_CANCELED = "The run was canceled, because spec.suspend is true."

T = TypeVar("T")


@dataclass(frozen=True)
class RunView:
    """The Job of a started run, or None if it does not exist, and its pods.

    `wanted` is the number of pods of the run. `canceled` is whether the run is to be canceled.
    """

    name: str
    job: Child | None
    pods: Sequence[Manifest]
    wanted: int = 1
    canceled: bool = False

    @property
    def has_started(self) -> bool:
        """Whether all load generators run, or have run."""
        return sum(_has_started(pod) for pod in self.pods) >= self.wanted

    @property
    def has_ended(self) -> bool:
        """Whether the Job controller says that the Job has ended."""
        return self.job is not None and _condition(self.job.body, "Complete", "Failed") is not None

    @property
    def is_at_work(self) -> bool:
        """Whether a load generator may still write a result."""
        return any(not is_over(pod) for pod in self.pods)

    @property
    def interruption(self) -> str:
        """A sentence about what ended the run from outside, or an empty string.

        If one of several pods is interrupted, the others continue.
        """
        if self.job is None or self.job.terminating:
            return _CANCELED if self.canceled else f"Job/{self.name} was deleted during the run."
        if self.wanted > 1:
            return ""
        found = next(filter(None, map(_interruption, self.pods)), "")
        if not found and self.has_ended and not self.pods:
            return f"The pod of Job/{self.name} was deleted during the run."
        return found

    @property
    def lost(self) -> str:
        """A sentence about the pods of a run with several pods that were interrupted or have failed, or nothing."""
        sentences = [_interruption(pod) or _failure(pod) for pod in self.pods]
        if self._gone > 0:
            verb = "was" if self._gone == 1 else "were"
            sentences.append(f"{self._gone} of {self.wanted} pods {verb} deleted during the run.")
        return " ".join(sentence for sentence in sentences if sentence)

    @property
    def has_failed(self) -> bool:
        """Whether a load generator failed by itself, and not because its pod was interrupted."""
        return any(_failure(pod) and not _interruption(pod) for pod in self.pods)

    @property
    def _gone(self) -> int:
        """The number of pods of a run with several pods that were deleted and no longer exist."""
        if self.has_ended:
            return self.wanted - len(self.pods)
        # The Job controller counts a pod before it lets the pod disappear.
        failed = (self.job.body.get("status") or {}).get("failed", 0) if self.job is not None else 0
        return int(failed) - sum(bool(_interruption(pod) or _failure(pod)) for pod in self.pods)

    def trouble(self, warnings: Sequence[WarningEvent], now: datetime) -> Trouble | None:
        """Return what keeps the load generator from starting, if it has not started."""
        if self.has_started or self.job is None:
            return None
        if not self.pods:
            return refused_pod_trouble(f"Job/{self.name}", self.job.uid, warnings)
        return _first(pod_trouble(pod, warnings, _ORIGIN, now) for pod in self.pods)

    def last_words(self) -> str:
        """Return the reason why the load generator ended, as Kubernetes reports it."""
        for pod in self.pods:
            for ended in _terminations(pod):
                if ended.get("message"):
                    return plain(str(ended["message"]))
                if ended.get("reason"):
                    return f"The load pod ended with {ended['reason']} (exit code {ended.get('exitCode')})."
        failed = _condition(self.job.body, "Failed") if self.job is not None else None
        quoted = f": {failed['message']}" if failed and failed.get("message") else ""
        return f"Job/{self.name} ended without a result{quoted}. Check the Events of the Job and its pod."


def _condition(body: Manifest, *types: str) -> dict[str, Any] | None:
    conditions = (body.get("status") or {}).get("conditions") or []
    return _first(item if item["type"] in types and item["status"] == "True" else None for item in conditions)


def _has_started(pod: Manifest) -> bool:
    status = pod.get("status") or {}
    states = [container.get("state") or {} for container in status.get("containerStatuses") or []]
    return status.get("phase") in ("Running", "Succeeded") or any("running" in s or "terminated" in s for s in states)


def is_over(pod: Manifest) -> bool:
    """Return whether all containers of a pod have ended."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _interruption(pod: Manifest) -> str:
    status, name = pod.get("status") or {}, pod["metadata"]["name"]
    disruption = _condition(pod, "DisruptionTarget")
    if disruption is not None:
        words = disruption.get("message") or disruption.get("reason", "")
        return f"Pod {name} was stopped: {words.rstrip('. ')}."
    if status.get("reason") in _ENDED_FROM_OUTSIDE:
        return f"Pod {name} was stopped: {status['reason']}: {status.get('message', '').rstrip('. ')}."
    return f"Pod {name} was deleted during the run." if pod["metadata"].get("deletionTimestamp") else ""


def _failure(pod: Manifest) -> str:
    if (pod.get("status") or {}).get("phase") != "Failed":
        return ""
    words = next((ended["message"] for ended in _terminations(pod) if ended.get("message")), "")
    quoted = f": {plain(str(words))}" if words else "."
    return f"Pod {pod['metadata']['name']} has failed{quoted}"


def _terminations(pod: Manifest) -> Iterable[dict[str, Any]]:
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        yield (container.get("state") or {}).get("terminated") or {}


def _first(found: Iterable[T | None]) -> T | None:
    return next((item for item in found if item is not None), None)
