"""The steps of a reconcile that are specific to LLMEndpoints."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from llmendpoint_common.api.endpoint.monitoring import MonitoringMode
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec, parse_spec
from llmendpoint_common.contracts.cluster import LLMENDPOINT, PAUSED_ANNOTATION, EndpointCondition, EndpointReason
from llmendpoint_common.contracts.sidecar import SidecarStatus
from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.cluster.kinds import children_of
from llmendpoint_operator.cluster.pod_status import Silence
from llmendpoint_operator.cluster.snapshots import Child
from llmendpoint_operator.cluster.warning_events import WarningEvent
from llmendpoint_operator.endpoint.autoscaling import KINDS_OF_ACTUATORS, autoscaling_trouble
from llmendpoint_operator.endpoint.capacity import configuration_hash
from llmendpoint_operator.endpoint.claims import SharedClaims
from llmendpoint_operator.endpoint.conditions.model_reports import unfinished
from llmendpoint_operator.endpoint.desired import Present, desired
from llmendpoint_operator.endpoint.growth import Growth, claims_in_use, sentences, too_small, wanted_size
from llmendpoint_operator.endpoint.handover import with_account_in_use
from llmendpoint_operator.endpoint.layout import (
    autoscaler_name,
    client_service_name,
    headless_service_name,
    monitor_name,
    service_account_name,
    statefulset_name,
)
from llmendpoint_operator.endpoint.modelfiles import Modelfiles
from llmendpoint_operator.endpoint.observe import (
    SERVING,
    Observation,
    PodView,
    Replicas,
    absent_troubles,
    counted,
    counts_pods,
    is_loading,
    is_ready,
    ordinal_of,
    origin_of,
    replicas_of,
    silence_of,
    stuck,
)
from llmendpoint_operator.endpoint.pod.ollama import image_problem, ollama_image
from llmendpoint_operator.endpoint.progress import Throttle, is_failure, new_reasons, quarters_passed
from llmendpoint_operator.endpoint.replicas import scaled_to, to_start_with
from llmendpoint_operator.endpoint.resources.config_map import config_file
from llmendpoint_operator.endpoint.resources.statefulset import pod_template_problem
from llmendpoint_operator.endpoint.stall_events import StallEvents
from llmendpoint_operator.endpoint.status import endpoint_status, unparsed_status
from llmendpoint_operator.kube.capabilities import Capabilities, capabilities_without
from llmendpoint_operator.kube.conditions import is_true
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest, Owner, owner_of
from llmendpoint_operator.kube.scraping import MONITORS, Scraping, scrape_mode, scraping
from llmendpoint_operator.kube.unwatched import Unwatched
from llmendpoint_operator.pods.classify import pod_trouble
from llmendpoint_operator.pods.device_claims import CONSIDERED
from llmendpoint_operator.pods.trouble import Trouble
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.reconcile.claim_templates import with_sizes_of
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
# A ConfigMap that does not exist is often created a moment later.
_MISSING_SECONDS = 10.0
#: The children of an endpoint, its pods, and their claims.
_OBSERVED = (*(kind.name for kind in children_of(LLMENDPOINT)), "Pod", "PersistentVolumeClaim")


@dataclass(frozen=True)
class _Intent:
    """What a reconcile wants to apply.

    `invalid` is what is wrong with the spec. `children` are the desired children, and `config_digest` is the SHA-256 of
    the sidecar's configuration file among them. `refused` are faults that were found before any child was written.
    `withheld` are the names of the objects that the operator would write if it might.
    """

    invalid: str = ""
    children: tuple[ChildKey, ...] = ()
    config_digest: str = ""
    refused: tuple[Fault, ...] = ()
    withheld: tuple[str, ...] = ()

    def is_outdated(self, config_digest: str) -> bool:
        """Return whether a sidecar with this configuration has not read the desired one yet.

        An older sidecar does not report its configuration.
        """
        return bool(self.config_digest and config_digest and config_digest != self.config_digest)


class EndpointController(Controller[LLMEndpointSpec]):
    """Creates the children of LLMEndpoints, and writes their status from the reports of the sidecars."""

    kind = LLMENDPOINT

    def __init__(self, cluster: Cluster, settings: ChildSettings, policy: Policy = ALLOW_ALL) -> None:
        super().__init__(cluster, policy)
        self._settings = settings
        self._pods = cluster.pods
        self._measurements = cluster.measurements
        self._throttle = Throttle()
        self._claims = SharedClaims(cluster.objects)
        self._modelfiles = Modelfiles(cluster.objects)
        self._growth = Growth(cluster.objects, cluster.inventory)
        #: The UID of a StatefulSet that is replaced. Its pods have no controller for a moment.
        self._replaced: dict[Key, str] = {}
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
        _, replicas = self._replicas(Key(self.kind, owner.namespace, owner.name), owner)
        unseen = self._inventory.unwatched(owner.namespace, SERVING)
        return unparsed_status(manifest, sentence, replicas, self._now(), unseen)

    async def course(self, resource: Resource[LLMEndpointSpec]) -> Course:
        """Return the steps: write all children, then poll the sidecars and write the status.

        The children of an endpoint whose spec has a forbidden or invalid value are left as they are.
        """
        generation = resource.manifest["metadata"]["generation"]
        resolved = await self._modelfiles.resolve(resource.key, generation, resource.spec, self._now())
        if resolved.fault is not None or resolved.invalid:
            # Without its Modelfiles, the spec cannot be rendered.
            refused = () if resolved.fault is None else (resolved.fault,)
            return Course(None, partial(self._conclude, resource, _Intent(resolved.invalid, refused=refused)))
        resource = replace(resource, spec=resolved.spec)
        invalid = (
            image_problem(resource.spec, self._settings.images)
            or pod_template_problem(resource.owner, resource.spec, self._settings)
            or await self._claims.problem(resource.key, generation, resource.spec)
        )
        wanted = self._desired(resource)
        held = bool(resource.forbidden or invalid) or _is_paused(resource)
        digest = "" if held else hashlib.sha256(config_file(resource.owner, resource.spec).encode()).hexdigest()
        # What others change meanwhile is repaired afterwards, so it must not be accepted.
        withheld = self._withheld(resource, wanted) if held else ()
        intent = _Intent(invalid, tuple(key_of(child) for child in wanted), digest, withheld=withheld)
        conclude = partial(self._conclude, resource, intent)
        return Course(None if held else wanted, conclude, judges=held, initial=self._initial(resource))

    def _desired(self, resource: Resource[LLMEndpointSpec]) -> list[Manifest]:
        owner = resource.owner
        account, statefulset = (
            self._inventory.own_child(resource.key, kind, name, owner.uid)
            for kind, name in (
                ("ServiceAccount", service_account_name(owner)),
                ("StatefulSet", statefulset_name(owner)),
            )
        )
        present = Present(self._present_replicas(resource), self._is_loading(resource))
        wanted = desired(owner, resource.spec, self._settings, self._capabilities, present)
        return with_account_in_use(owner, wanted, account, statefulset)

    async def converge(
        self,
        resource: Resource[LLMEndpointSpec],
        children: Sequence[Manifest],
        initial: Mapping[ChildKey, Manifest] | None = None,
    ) -> tuple[Fault, ...]:
        """Let claims grow, and write the children. If a claim may not grow, the StatefulSet keeps its templates."""
        size = wanted_size(resource.spec)
        refused = await self._growth.grow(resource.key, size, too_small(self._claims_in_use(resource), size))
        statefulset = self._statefulset(resource.key, resource.owner)
        if refused and statefulset is not None:
            name = statefulset.key
            children = [
                with_sizes_of(child, statefulset.body) if key_of(child) == name else child for child in children
            ]
        return (*refused, *await super().converge(resource, children, initial))

    async def gone(self, key: Key) -> None:
        """Forget an endpoint that no longer exists."""
        self._throttle.forget(key)
        self._claims.forget(key)
        self._modelfiles.forget(key)
        self._absent.pop(key, None)
        self._existed.pop(key, None)
        self._silent.pop(key, None)
        self._replaced.pop(key, None)
        self._reports.pop(key, None)
        self._stall_events.forget(key)

    async def _conclude(
        self, resource: Resource[LLMEndpointSpec], intent: _Intent, refused: tuple[Fault, ...]
    ) -> float:
        statefulset = self._statefulset(resource.key, resource.owner)
        pods, replicas = self._replicas(resource.key, resource.owner)
        warnings = self._inventory.warnings(resource.key)
        views = await asyncio.gather(*(self._view(resource, intent, pod, warnings) for pod in pods))
        uids = {pod["metadata"]["uid"] for pod in pods}
        self._reports[resource.key] = {
            uid: report for uid, report in self._reports.get(resource.key, {}).items() if uid in uids
        }
        absent = self._absent_troubles(resource, pods, warnings) if statefulset else {}
        troubles = [*(view.trouble for view in views), *absent.values()]
        seen = Observation(
            *replicas,
            pods=tuple(views),
            refused=(*intent.refused, *refused),
            forbidden=resource.forbidden,
            scrape_mode=self._scrape_mode(resource),
            scraping=self._scraping(resource),
            monitored=self._monitor(resource) is not None,
            invalid=intent.invalid,
            absent=tuple(absent.values()),
            deleting=self._deleting(resource, intent.children),
            reachable=self._has_service(resource),
            # A pod that is not seen may have been scheduled.
            stuck=None if self._unwatched(resource, "Pod") else stuck(troubles, self._now()),
            unwatched=self._unwatched(resource, *_OBSERVED),
            resizing=self._resizing(resource, warnings),
            paused=_is_paused(resource),
            withheld=intent.withheld if _is_paused(resource) else (),
            configuration=configuration_hash(resource.spec, ollama_image(resource.spec, self._settings.images)),
            measured=tuple(self._measurements.of(resource.key)),
            scaled_to=scaled_to(resource.spec, self._present_replicas(resource)),
            autoscaling=self._autoscaling_trouble(resource),
        )
        status = endpoint_status(resource.manifest, resource.owner, resource.spec, seen, self._now())
        left = await self._report(resource, status)
        for message in self._stall_events.new(resource.key, views):
            await self.emit(resource, EndpointReason.OLLAMA_HUNG, message, warning=True)
        pause = self._pause(resource, pods, seen, status)
        if intent.refused:
            pause = min(pause, _MISSING_SECONDS)
        return min(pause, left) if left else pause

    def _statefulset(self, key: Key, owner: Owner) -> Child | None:
        return self._inventory.own_child(key, "StatefulSet", statefulset_name(owner), owner.uid)

    def _replicas(self, key: Key, owner: Owner) -> tuple[list[Manifest], Replicas]:
        """Return the pods and their numbers. While the StatefulSet is replaced, no controller counts its pods."""
        statefulset = self._statefulset(key, owner)
        if statefulset is not None and counts_pods(statefulset):
            self._replaced.pop(key, None)
            return self._inventory.pods(key, statefulset.uid), replicas_of(statefulset.body)
        if statefulset is not None and statefulset.terminating:
            # The watches are independent: that of pods may show later that they have lost their controller.
            self._replaced[key] = statefulset.uid
        uids = ("", self._replaced.get(key, ""), *([statefulset.uid] if statefulset else []))
        found, name = self._inventory.pods(key, *uids), statefulset_name(owner)
        pods = [pod for pod in found if ordinal_of(pod, name) is not None]
        return pods, counted(pods)

    def _claims_in_use(self, resource: Resource[LLMEndpointSpec]) -> list[Manifest]:
        if not wanted_size(resource.spec):
            return []
        name = statefulset_name(resource.owner)
        pods, _ = self._replicas(resource.key, resource.owner)
        ordinals = (ordinal_of(pod, name) for pod in pods)
        highest = max((ordinal for ordinal in ordinals if ordinal is not None), default=-1)
        number = scaled_to(resource.spec, self._present_replicas(resource))
        wanted = resource.spec.wanted_replicas if number is None else number
        replicas = max(wanted, highest + 1)
        return claims_in_use(resource.owner, self._inventory.claims(resource.key), replicas)

    def _withheld(self, resource: Resource[LLMEndpointSpec], wanted: Sequence[Manifest]) -> tuple[str, ...]:
        """Return the names of the objects that the operator would write, if it might."""
        claims = too_small(self._claims_in_use(resource), wanted_size(resource.spec))
        names = [str(name) for name in self.preview(resource, wanted)]
        return (*names, *(f"PersistentVolumeClaim/{claim['metadata']['name']}" for claim in claims))

    def _resizing(self, resource: Resource[LLMEndpointSpec], warnings: Sequence[WarningEvent]) -> tuple[str, ...]:
        return sentences(self._claims_in_use(resource), wanted_size(resource.spec), warnings)

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
        self, resource: Resource[LLMEndpointSpec], intent: _Intent, pod: Manifest, warnings: Sequence[WarningEvent]
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
        outdated = status is not None and intent.is_outdated(status.config_digest)
        return PodView(pod["metadata"]["name"], is_ready(pod), status, trouble, silence, outdated)

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
                if seen.invalid or seen.absent or any(view.trouble for view in seen.pods):
                    return _STEADY_SECONDS
                # The scheduler does not report that a ResourceClaim does not exist.
                is_unconsidered = any(not pod.get("status", {}).get("conditions") for pod in pods)
                return CONSIDERED.total_seconds() if is_unconsidered else _IDLE_SECONDS
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

    async def _report(self, resource: Resource[LLMEndpointSpec], status: dict[str, Any]) -> float:
        """Write the status, and Events about its changes. Return the seconds until then if it is too early."""
        before = resource.status
        left = 0.0 if before == status else self._throttle.wait(resource.key, before, status, self._now())
        if before == status or left:
            return left
        await self.write_status(resource.manifest, status)
        for condition in new_reasons(before, status):
            await self.emit(resource, condition["reason"], condition["message"], warning=is_failure(condition))
        for model in quarters_passed(before, status):
            message = f"{model['name']}: {model['message']} ({model['progressPercent']} %)"
            await self.emit(resource, "PullProgress", message)
        return 0.0


def _is_paused(resource: Resource[LLMEndpointSpec]) -> bool:
    annotations = resource.manifest["metadata"].get("annotations") or {}
    return annotations.get(PAUSED_ANNOTATION) == "true"


def _is_settled(spec: LLMEndpointSpec, seen: Observation, status: dict[str, Any]) -> bool:
    """Return whether no change is expected soon. An endpoint with zero replicas does not have to load models."""
    complete = seen.ready_replicas == seen.replicas == seen.wanted(spec)
    loaded = is_true(status["conditions"], EndpointCondition.MODELS_LOADED)
    changing = any(pod.outdated for pod in seen.pods) or unfinished(seen.pods) is not None
    return complete and not changing and (loaded or not seen.wanted(spec))
