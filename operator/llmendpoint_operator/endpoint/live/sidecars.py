"""Polls the sidecars of endpoints, and decides when to poll them again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from llmendpoint_common.contracts.sidecar import ADMIN_PORT, SidecarStatus
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.cluster.pod_status import PodStatuses, Silence
from llmendpoint_operator.endpoint.layout import METERING_CONTAINER
from llmendpoint_operator.endpoint.observe import Observation, is_loading, is_ready
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.pods.device_claims import CONSIDERED

# Time until the sidecars are polled again: while models are being pulled or loaded, and if the endpoint is settled. If
# the operator cannot reach any sidecar that runs, the first of these doubles with each poll, up to the third.
_LOADING_SECONDS = 2.0
_STEADY_SECONDS = 30.0
_SILENT_SECONDS = 60.0
# Without a pod, the watches show every change.
_IDLE_SECONDS = 300.0
#: Some obstacles of a pod without an address count only when they last (`pods.classify`).
_PENDING_SECONDS = 15.0
#: A sidecar answers a few seconds after its start. After this time, silence needs an explanation.
_STARTED_SECONDS = 30.0


class Sidecars:
    """The sidecars of all endpoints, with what the operator remembers of their answers."""

    def __init__(self, statuses: PodStatuses) -> None:
        self._statuses = statuses
        #: The last reports of sidecars, by the UID of the pod, until they miss a poll.
        self._reports: dict[Key, dict[str, SidecarStatus]] = {}
        #: The number of polls since a sidecar of the endpoint last answered.
        self._silent: dict[Key, int] = {}

    async def poll(self, key: Key, pod: Manifest) -> SidecarStatus | Silence | None:
        """Return the report of a pod's sidecar, why there is none, or None if the pod cannot be polled yet."""
        answer, uid = await self._statuses.sidecar(pod), pod["metadata"]["uid"]
        if isinstance(answer, Silence):
            # One slow answer of a busy machine is not an outage: the last report stays for one poll.
            return self._reports.get(key, {}).pop(uid, answer)
        if answer is not None:
            self._reports.setdefault(key, {})[uid] = answer
        return answer

    def are_loading(self, key: Key, pods: Iterable[Manifest]) -> bool:
        """Return whether one of these pods loads its models, as far as its last report is known."""
        reports = self._reports.get(key, {})
        return any(is_loading(pod, reports.get(pod["metadata"]["uid"])) for pod in pods)

    def keep(self, key: Key, pods: Iterable[Manifest]) -> None:
        """Forget the reports of all pods of an endpoint except these."""
        uids = {pod["metadata"]["uid"] for pod in pods}
        self._reports[key] = {uid: report for uid, report in self._reports.get(key, {}).items() if uid in uids}

    def pause(self, key: Key, pods: Sequence[Manifest], seen: Observation, *, settled: bool) -> float:
        """Return the seconds until the next poll. `settled` is whether no change is expected soon."""
        # A pod without an address cannot be polled; the watch shows when it gets one.
        can_be_polled = any(pod.get("status", {}).get("podIP") for pod in pods)
        is_cut_off = any(view.silence for view in seen.pods) and not any(view.status for view in seen.pods)
        if can_be_polled and is_cut_off:
            polls = self._silent[key] = self._silent.get(key, 0) + 1
            return float(min(_SILENT_SECONDS, _LOADING_SECONDS * 2 ** min(polls - 1, 10)))
        self._silent.pop(key, None)
        if not can_be_polled:
            return _pause_without_sidecars(pods, seen)
        return _STEADY_SECONDS if seen.unwatched or settled else _LOADING_SECONDS

    def forget(self, key: Key) -> None:
        """Forget an endpoint that no longer exists."""
        self._reports.pop(key, None)
        self._silent.pop(key, None)


def _pause_without_sidecars(pods: Sequence[Manifest], seen: Observation) -> float:
    # A trouble becomes Stalled if it lasts, and a claim that the spec names is read again.
    if seen.invalid or seen.absent or any(view.trouble for view in seen.pods):
        return _STEADY_SECONDS
    # The scheduler does not report that a ResourceClaim does not exist.
    is_unconsidered = any(not pod.get("status", {}).get("conditions") for pod in pods)
    if is_unconsidered:
        return CONSIDERED.total_seconds()
    return _PENDING_SECONDS if pods else _IDLE_SECONDS


def silence_of(pod: Manifest, answer: Silence, now: datetime) -> str:
    """Return a sentence about a sidecar that does not answer the operator, or nothing while it may still start."""
    if not is_ready(pod) and not _runs_for(pod, METERING_CONTAINER, _STARTED_SECONDS, now):
        return ""
    state = "is Ready" if is_ready(pod) else "runs"
    return (
        f"The operator cannot reach port {ADMIN_PORT} of pod {pod['metadata']['name']} at {answer.url}: "
        f"{answer.error}. The pod {state}, so the network is the likely cause: allow TCP port {ADMIN_PORT} from the "
        "operator's namespace in the NetworkPolicies of this namespace, and exclude this port from a service mesh (for "
        f'Istio, with the pod annotation traffic.sidecar.istio.io/excludeInboundPorts: "{ADMIN_PORT}").'
    )


def _runs_for(pod: Manifest, container: str, seconds: float, now: datetime) -> bool:
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        started = ((status.get("state") or {}).get("running") or {}).get("startedAt")
        if status["name"] == container and started:
            return (now - datetime.fromisoformat(started)).total_seconds() >= seconds
    return False
