"""The steps of a reconcile that are specific to LLMEndpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

from llmendpoint_common.api.endpoint.monitoring import MonitoringMode
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec, parse_spec
from llmendpoint_common.contracts.cluster import LLMENDPOINT, EndpointCondition, EndpointReason
from llmendpoint_common.contracts.sidecar import SidecarStatus
from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.cluster.kinds import children_of
from llmendpoint_operator.cluster.pod_status import Silence
from llmendpoint_operator.cluster.snapshots import Child
from llmendpoint_operator.cluster.warning_events import WarningEvent
from llmendpoint_operator.endpoint.autoscaling import KINDS_OF_ACTUATORS, autoscaling_trouble
from llmendpoint_operator.endpoint.claims import SharedClaims
from llmendpoint_operator.endpoint.desired import Present, desired
from llmendpoint_operator.endpoint.layout import (
    autoscaler_name,
    client_service_name,
    headless_service_name,
    monitor_name,
    statefulset_name,
)
from llmendpoint_operator.endpoint.observe import (
    SERVING,
    Observation,
    PodView,
    absent_troubles,
    is_loading,
    is_ready,
    origin_of,
    replicas_of,
    silence_of,
    stuck,
)
from llmendpoint_operator.endpoint.pod.ollama import image_problem
from llmendpoint_operator.endpoint.progress import Throttle, is_failure, new_reasons, quarters_passed
from llmendpoint_operator.endpoint.replicas import scaled_to, to_start_with
from llmendpoint_operator.endpoint.stall_events import StallEvents
from llmendpoint_operator.endpoint.status import endpoint_status, unparsed_status
from llmendpoint_operator.kube.capabilities import Capabilities, capabilities_without
from llmendpoint_operator.kube.conditions import is_true
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest, owner_of
from llmendpoint_operator.kube.scraping import MONITORS, Scraping, scrape_mode, scraping
from llmendpoint_operator.kube.unwatched import Unwatched
from llmendpoint_operator.pods.classify import pod_trouble
from llmendpoint_operator.pods.trouble import Trouble
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.reconcile.controller import Cluster, Controller, Course, Resource
from llmendpoint_operator.reconcile.plan import key_of
from llmendpoint_operator.settings import ChildSettings

# Time until the sidecars are polled again: while models are being pulled or loaded, and if the endpoint is settled. If
# the operator cannot reach any sidecar that runs, the first of these doubles with each poll, up to the third.
_LOADING_SECONDS = 2.0
_STEADY_SECONDS = 30.0
_SILENT_SECONDS = 60.0
# Without a pod that can be polled, the watches show every change. Only `MonitoringReady` depends on objects whose
# changes do not make an endpoint dirty.
_IDLE_SECONDS = 300.0
#: The children of an endpoint, and its pods.
_OBSERVED = (*(kind.name for kind in children_of(LLMENDPOINT)), "Pod")


class EndpointController(Controller[LLMEndpointSpec]):
    """Creates the children of LLMEndpoints, and writes their status from the reports of the sidecars."""

    kind = LLMENDPOINT

    def __init__(self, cluster: Cluster, settings: ChildSettings, policy: Policy = ALLOW_ALL) -> None:
        super().__init__(cluster, policy)
        self._settings = settings
        self._pods = cluster.pods
        self._throttle = Throttle()
        self._claims = SharedClaims(cluster.objects)
        #: What was wrong with pods that do not exist. Events expire, and the reason may last.
        self._absent: dict[Key, dict[str, Trouble]] = {}
        #: When the pods of an endpoint were last seen, by name.
        self._existed: dict[Key, dict[str, datetime]] = {}
        #: The last reports of sidecars, by the UID of the pod, until they miss a poll.
        self._reports: dict[Key, dict[str, SidecarStatus]] = {}
        #: The number of polls since a sidecar of the endpoint last answered.
        self._silent: dict[Key, int] = {}
        self._stall_events = StallEvents(self._now())

    def parse(self, manifest: Manifest) -> LLMEndpointSpec:
        """Return the parsed spec."""
        return parse_spec(manifest)

    def invalid_status(self, manifest: Manifest, sentence: str) -> dict[str, Any]:
        """Return a status with Stalled=True and the reason InvalidSpec. Replicas that run stay Ready."""
        owner = owner_of(manifest)
        key = Key(self.kind, owner.namespace, owner.name)
        statefulset = self._inventory.own_child(key, "StatefulSet", statefulset_name(owner), owner.uid)
        replicas = replicas_of(statefulset.body if statefulset else None)
        unseen = self._inventory.unwatched(owner.namespace, SERVING)
        return unparsed_status(manifest, sentence, replicas, self._now(), unseen)

    async def course(self, resource: Resource[LLMEndpointSpec]) -> Course:
        """Return the steps: write all children, then poll the sidecars and write the status.

        The children of an endpoint whose spec has a forbidden or invalid value are left as they are.
        """
        generation = resource.manifest["metadata"]["generation"]
        invalid = image_problem(resource.spec, self._settings.images) or await self._claims.problem(
            resource.key, generation, resource.spec
        )
        present = Present(self._present_replicas(resource), self._is_loading(resource))
        wanted = desired(resource.owner, resource.spec, self._settings, self._capabilities, present)
        children = None if resource.forbidden or invalid else wanted
        conclude = partial(self._conclude, resource, invalid, [key_of(child) for child in wanted])
        return Course(children, conclude, self._initial(resource))

    async def gone(self, key: Key) -> None:
        """Forget an endpoint that no longer exists."""
        self._throttle.forget(key)
        self._claims.forget(key)
        self._absent.pop(key, None)
        self._existed.pop(key, None)
        self._silent.pop(key, None)
        self._reports.pop(key, None)
        self._stall_events.forget(key)

    async def _conclude(
        self, resource: Resource[LLMEndpointSpec], invalid: str, wanted: list[ChildKey], refused: tuple[Fault, ...]
    ) -> float:
        name = statefulset_name(resource.owner)
        statefulset = self._inventory.own_child(resource.key, "StatefulSet", name, resource.owner.uid)
        pods = self._inventory.pods(resource.key, statefulset.uid) if statefulset else []
        warnings = self._inventory.warnings(resource.key)
        views = await asyncio.gather(*(self._view(resource, pod, warnings) for pod in pods))
        uids = {pod["metadata"]["uid"] for pod in pods}
        self._reports[resource.key] = {
            uid: report for uid, report in self._reports.get(resource.key, {}).items() if uid in uids
        }
        replicas = replicas_of(statefulset.body if statefulset else None)
        absent = self._absent_troubles(resource, pods, warnings) if statefulset else {}
        troubles = [*(view.trouble for view in views), *absent.values()]
        seen = Observation(
            *replicas,
            pods=tuple(views),
            refused=refused,
            forbidden=resource.forbidden,
            scrape_mode=self._scrape_mode(resource),
            scraping=self._scraping(resource),
            monitored=self._monitor(resource) is not None,
            invalid=invalid,
            absent=tuple(absent.values()),
            deleting=self._deleting(resource, wanted),
            reachable=self._has_service(resource),
            # A pod that is not seen may have been scheduled.
            stuck=None if self._unwatched(resource, "Pod") else stuck(troubles, self._now()),
            unwatched=self._unwatched(resource, *_OBSERVED),
            scaled_to=scaled_to(resource.spec, self._present_replicas(resource)),
            autoscaling=self._autoscaling_trouble(resource),
        )
        status = endpoint_status(resource.manifest, resource.owner, resource.spec, seen, self._now())
        await self._report(resource, status)
        for message in self._stall_events.new(resource.key, views):
            await self.emit(resource, EndpointReason.OLLAMA_HUNG, message, warning=True)
        return self._pause(resource, pods, seen, status)

    @property
    def _capabilities(self) -> Capabilities:
        return capabilities_without(self._cluster.discovery.missing)

    def _present_replicas(self, resource: Resource[LLMEndpointSpec]) -> int | None:
        """Return the number of pods in the spec of the StatefulSet, or None if there is no StatefulSet."""
        name = statefulset_name(resource.owner)
        child = self._inventory.own_child(resource.key, "StatefulSet", name, resource.owner.uid)
        return None if child is None else child.body.get("spec", {}).get("replicas")

    def _initial(self, resource: Resource[LLMEndpointSpec]) -> dict[ChildKey, Manifest]:
        """Return the number of pods that a StatefulSet gets when it is created, if it then belongs to an autoscaler."""
        if resource.spec.autoscaling is None:
            return {}
        reported = resource.status.get("replicas") or 0
        replicas = to_start_with(resource.spec, resource.owner, self._inventory.pods(resource.key, ""), reported)
        return {ChildKey("StatefulSet", statefulset_name(resource.owner)): {"spec": {"replicas": replicas}}}

    def _is_loading(self, resource: Resource[LLMEndpointSpec]) -> bool:
        """Return whether a pod loads its models, as far as its last report is known."""
        name = statefulset_name(resource.owner)
        child = self._inventory.own_child(resource.key, "StatefulSet", name, resource.owner.uid)
        pods = self._inventory.pods(resource.key, child.uid) if child else []
        reports = self._reports.get(resource.key, {})
        return any(is_loading(pod, reports.get(pod["metadata"]["uid"])) for pod in pods)

    def _autoscaling_trouble(self, resource: Resource[LLMEndpointSpec]) -> str:
        actuator = self._settings.actuator
        child = actuator and self._inventory.own_child(
            resource.key, KINDS_OF_ACTUATORS[actuator], autoscaler_name(resource.owner), resource.owner.uid
        )
        return autoscaling_trouble(resource.spec, actuator, child.body if child else None)

    def _unwatched(self, resource: Resource[LLMEndpointSpec], *kinds: str) -> tuple[Unwatched, ...]:
        return self._inventory.unwatched(resource.owner.namespace, kinds)

    async def _view(
        self, resource: Resource[LLMEndpointSpec], pod: Manifest, warnings: Sequence[WarningEvent]
    ) -> PodView:
        now, uid = self._now(), pod["metadata"]["uid"]
        answer = await self._pods.sidecar(pod)
        if isinstance(answer, Silence):
            # One slow answer of a busy machine is not an outage: the last report stays for one poll.
            answer = self._reports.get(resource.key, {}).pop(uid, answer)
        elif answer is not None:
            self._reports.setdefault(resource.key, {})[uid] = answer
        # A pod that is not seen may not exist, or run no longer.
        is_blind = bool(self._unwatched(resource, "Pod"))
        silence = silence_of(pod, answer, now) if isinstance(answer, Silence) and not is_blind else ""
        status = None if isinstance(answer, Silence) else answer
        trouble = pod_trouble(pod, warnings, origin_of(resource.spec), now)
        return PodView(pod["metadata"]["name"], is_ready(pod), status, trouble, silence)

    def _absent_troubles(
        self, resource: Resource[LLMEndpointSpec], pods: Sequence[Manifest], warnings: Sequence[WarningEvent]
    ) -> dict[str, Trouble]:
        """Return what is wrong with pods that do not exist. Without a newer Event, it is what was wrong before."""
        now, existing = self._now(), {pod["metadata"]["name"] for pod in pods}
        existed = self._existed.setdefault(resource.key, {})
        existed.update(dict.fromkeys(existing, now))
        name, number = statefulset_name(resource.owner), scaled_to(resource.spec, self._present_replicas(resource))
        wanted = range(resource.spec.wanted_replicas if number is None else number)
        absent = {f"{name}-{ordinal}" for ordinal in wanted} - existing
        before = self._absent.get(resource.key, {})
        kept = {pod: trouble for pod, trouble in before.items() if pod in absent}
        found = kept | absent_troubles(sorted(absent), warnings, existed, now)
        if found:
            self._absent[resource.key] = found
        else:
            self._absent.pop(resource.key, None)
        return found

    def _deleting(self, resource: Resource[LLMEndpointSpec], wanted: Sequence[ChildKey]) -> tuple[str, ...]:
        found = ((name, self._inventory.own_child(resource.key, *name, resource.owner.uid)) for name in wanted)
        return tuple(str(name) for name, child in found if child is not None and child.terminating)

    def _has_service(self, resource: Resource[LLMEndpointSpec]) -> bool:
        name = client_service_name(resource.owner)
        return self._inventory.own_child(resource.key, "Service", name, resource.owner.uid) is not None

    def _pause(
        self, resource: Resource[LLMEndpointSpec], pods: Sequence[Manifest], seen: Observation, status: dict[str, Any]
    ) -> float:
        """Return the seconds until the next poll."""
        # A pod without an address cannot be polled; the watch shows when it gets one.
        can_be_polled = any(pod.get("status", {}).get("podIP") for pod in pods)
        is_cut_off = any(view.silence for view in seen.pods) and not any(view.status for view in seen.pods)
        if not can_be_polled or not is_cut_off:
            self._silent.pop(resource.key, None)
            if not can_be_polled:
                # A trouble becomes Stalled if it lasts, and a claim that the spec names is read again.
                has_trouble = seen.invalid or seen.absent or any(view.trouble for view in seen.pods)
                return _STEADY_SECONDS if has_trouble else _IDLE_SECONDS
            return _STEADY_SECONDS if seen.unwatched or _is_settled(resource.spec, seen, status) else _LOADING_SECONDS
        polls = self._silent[resource.key] = self._silent.get(resource.key, 0) + 1
        return float(min(_SILENT_SECONDS, _LOADING_SECONDS * 2 ** min(polls - 1, 10)))

    def _scrape_mode(self, resource: Resource[LLMEndpointSpec]) -> MonitoringMode:
        return scrape_mode(resource.spec.monitoring.mode, self._capabilities)

    def _monitor(self, resource: Resource[LLMEndpointSpec]) -> Child | None:
        """Return the object from which Prometheus knows the pods, if it is ours."""
        mode, owner = self._scrape_mode(resource), resource.owner
        is_annotated = mode is MonitoringMode.ANNOTATIONS
        kind, name = ("Service", headless_service_name(owner)) if is_annotated else (mode.value, monitor_name(owner))
        return self._inventory.own_child(resource.key, kind, name, owner.uid)

    def _scraping(self, resource: Resource[LLMEndpointSpec]) -> Scraping | None:
        monitor, servers = self._monitor(resource), self._inventory.prometheus_servers()
        kind = self._scrape_mode(resource).value
        if monitor is None or servers is None or kind not in MONITORS:
            return None
        return scraping(kind, resource.owner.namespace, monitor.body["metadata"].get("labels") or {}, servers)

    async def _report(self, resource: Resource[LLMEndpointSpec], status: dict[str, Any]) -> None:
        """Write the status, and Events about its changes."""
        before = resource.status
        if before == status or not self._throttle.is_due(resource.key, before, status, self._now()):
            return
        await self.write_status(resource.manifest, status)
        for condition in new_reasons(before, status):
            await self.emit(resource, condition["reason"], condition["message"], warning=is_failure(condition))
        for model in quarters_passed(before, status):
            message = f"{model['name']}: {model['message']} ({model['progressPercent']} %)"
            await self.emit(resource, "PullProgress", message)


def _is_settled(spec: LLMEndpointSpec, seen: Observation, status: dict[str, Any]) -> bool:
    """Return whether no change is expected soon. An endpoint with zero replicas does not have to load models."""
    complete = seen.ready_replicas == seen.replicas == seen.wanted(spec)
    loaded = is_true(status["conditions"], EndpointCondition.MODELS_LOADED)
    return complete and (loaded or not seen.wanted(spec))
