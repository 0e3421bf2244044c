"""Starts the pods of a run together: when all of them wait, each one is told in how many seconds to start.

The remaining time is computed when an order is sent, so the pods start together within the difference of the transit
times. An order whose answer takes longer than that may have arrived late, so it is sent again: the last one counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from llmendpoint_common.contracts.loadrun import Progress, StartOrder, StartState
from llmendpoint_operator.cluster.pod_status import PodStatuses
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.loadtest.observe import is_over
from llmendpoint_operator.loadtest.progress import RunProgress
from llmendpoint_operator.loadtest.resources.rbac import result_name

#: Time from the first order until the start: enough for a repetition after each timeout of a request.
LEAD_SECONDS = 5.0
#: A pod may start this much later than the others.
_TOLERANCE_SECONDS = 0.03
_ATTEMPTS = 4
#: The Job controller sets this label since Kubernetes 1.28.
_INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
_UNREACHABLE = (
    "The operator cannot reach {} on port 8001, and has to order the pods of the run to start together. Check that "
    "NetworkPolicies and the service mesh allow connections from the operator to load pods, or set load.parallelism to "
    "1."
)


class Starter:
    """Asks load pods for their progress, and orders them to start."""

    def __init__(self, pods: PodStatuses, clock: Callable[[], float] = time.monotonic) -> None:
        self._pods = pods
        self._clock = clock

    async def ask(self, pods: Sequence[Manifest]) -> list[Progress | None]:
        """Return the progress of each pod, or None if it has ended or does not answer."""
        return [*await asyncio.gather(*(self._ask_one(pod) for pod in pods))]

    async def start(self, owner: Owner, progress: RunProgress) -> str:
        """Order all pods to start if all of them wait for it. Return what they wait for otherwise, or nothing."""
        if len(progress.pods) < progress.wanted:
            return f"{len(progress.pods)} of {progress.wanted} pods exist."
        silent = [pod for pod, answer in zip(progress.pods, progress.answers, strict=True) if answer is None]
        if silent:
            return _UNREACHABLE.format(_names(silent))
        ready = sum(answer.start is not StartState.PREPARING for answer in progress.known)
        if ready < progress.wanted:
            return f"{ready} of {progress.wanted} pods are ready to start."
        waiting = [
            pod
            for pod, answer in zip(progress.pods, progress.answers, strict=True)
            if answer is not None and answer.start is StartState.READY
        ]
        at = self._clock() + LEAD_SECONDS
        refused = [pod for pod, taken in zip(waiting, await self._order(owner, waiting, at), strict=True) if not taken]
        return _UNREACHABLE.format(_names(refused)) if refused else ""

    async def _ask_one(self, pod: Manifest) -> Progress | None:
        # The address of a pod that has ended may belong to another pod by now.
        return None if is_over(pod) else await self._pods.load(pod)

    async def _order(self, owner: Owner, pods: Sequence[Manifest], at: float) -> list[bool]:
        return [*await asyncio.gather(*(self._order_one(owner, pod, at) for pod in pods))]

    async def _order_one(self, owner: Owner, pod: Manifest, at: float) -> bool:
        """Order a pod to start at a time of the clock. Return whether it has taken the order."""
        taken = False
        for _ in range(_ATTEMPTS):
            sent = self._clock()
            if sent >= at:
                break
            order = StartOrder(f"{owner.namespace}/{result_name(owner, index_of(pod))}", at - sent)
            if await self._pods.start(pod, order):
                taken = True
                if self._clock() - sent <= _TOLERANCE_SECONDS:
                    break
        return taken


def index_of(pod: Manifest) -> str:
    """Return the index of a pod of an Indexed Job, which is `0` for the pod of another Job."""
    return str((pod["metadata"].get("labels") or {}).get(_INDEX_LABEL, "0"))


def _names(pods: Sequence[Manifest]) -> str:
    return " and ".join(f"pod {pod['metadata']['name']}" for pod in pods)
