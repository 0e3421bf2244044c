"""The steps of a reconcile that are specific to LLMEndpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from llmendpoint_common.api.endpoint.monitoring import MonitoringMode
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec, parse_spec
from llmendpoint_common.contracts.cluster import LLMENDPOINT, PAUSED_ANNOTATION, EndpointCondition, EndpointReason
from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.cluster.kinds import children_of
from llmendpoint_operator.cluster.pod_status import Silence
from llmendpoint_operator.cluster.snapshots import hash_of
from llmendpoint_operator.cluster.warning_events import WarningEvent
from llmendpoint_operator.endpoint import replicas
from llmendpoint_operator.endpoint.account_in_use import with_account_in_use
from llmendpoint_operator.endpoint.autoscaling import autoscaling_trouble
from llmendpoint_operator.endpoint.capacity import configuration_hash
from llmendpoint_operator.endpoint.claims import SharedClaims
from llmendpoint_operator.endpoint.conditions.model_reports import unfinished
from llmendpoint_operator.endpoint.desired import Present
from llmendpoint_operator.endpoint.growth import Growth, claims_in_use, sentences, too_small, wanted_size
from llmendpoint_operator.endpoint.layout import client_service_name, statefulset_name
from llmendpoint_operator.endpoint.live.children import Children
from llmendpoint_operator.endpoint.live.pods import Pods
from llmendpoint_operator.endpoint.live.sidecars import Sidecars, silence_of
from llmendpoint_operator.endpoint.modelfiles import Modelfiles, Resolved
from llmendpoint_operator.endpoint.observe import SERVING, Observation, PodView, is_ready, origin_of, stuck
from llmendpoint_operator.endpoint.pod.ollama import ollama_image
from llmendpoint_operator.endpoint.progress import Throttle, is_failure, new_reasons, quarters_passed
from llmendpoint_operator.endpoint.rendering import Inputs, Rendered, Renderings
from llmendpoint_operator.endpoint.stall_events import StallEvents
from llmendpoint_operator.endpoint.status import endpoint_status, unparsed_status
from llmendpoint_operator.kube.capabilities import Capabilities, capabilities_without
from llmendpoint_operator.kube.conditions import is_true
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest, owner_of
from llmendpoint_operator.kube.scraping import scrape_mode
from llmendpoint_operator.pods.classify import pod_trouble
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.reconcile.claim_templates import with_sizes_of
from llmendpoint_operator.reconcile.controller import Cluster, Controller, Course, Resource
from llmendpoint_operator.reconcile.desired_children import DesiredChildren, key_of
from llmendpoint_operator.settings import ChildSettings

# A ConfigMap that does not exist is often created a moment later.
_MISSING_SECONDS = 10.0
#: The children of an endpoint, its pods, and their claims.
_OBSERVED = (*(kind.name for kind in children_of(LLMENDPOINT)), "Pod", "PersistentVolumeClaim")


@dataclass(frozen=True)
class _Intent:
    """What a reconcile wants to apply.

    `configuration` is the hash of the GPUs and Ollama. `invalid` is what is wrong with the spec. `children` are the
    desired children, and `config_digest` is the SHA-256 of the sidecar's configuration file among them. `refused` are
    faults that were found before any child was written. `withheld` are the names of the objects that the operator would
    write if it were allowed to.
    """

    configuration: str
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
        self._measurements = cluster.measurements
        self._throttle = Throttle()
        self._renderings = Renderings()
        self._claims = SharedClaims(cluster.objects)
        self._modelfiles = Modelfiles(cluster.objects)
        self._growth = Growth(cluster.objects, cluster.inventory)
        self._pods = Pods(cluster.inventory)
        self._sidecars = Sidecars(cluster.pods)
        self._stall_events = StallEvents(self._now())

    def parse(self, manifest: Manifest) -> LLMEndpointSpec:
        """Return the parsed spec."""
        return parse_spec(manifest)

    def invalid_status(self, manifest: Manifest, sentence: str) -> dict[str, Any]:
        """Return a status with Stalled=True and the reason InvalidSpec. Replicas that run stay Ready."""
        owner = owner_of(manifest)
        children = Children(self._inventory, Key(self.kind, owner.namespace, owner.name), owner)
        _, counts = self._pods.of(children)
        unseen, present = children.unwatched(*SERVING), children.present_replicas
        return unparsed_status(manifest, sentence, counts, self._now(), unseen, present)

    def expected(self, manifest: Manifest) -> tuple[ChildKey, ...]:
        """Return the StatefulSet and the client Service, if a status says that they existed."""
        status = manifest.get("status") or {}
        if not status.get("observedGeneration", -1) > 0 and not status.get("replicas"):
            return ()
        owner = owner_of(manifest)
        return (
            ChildKey("StatefulSet", statefulset_name(owner)),
            ChildKey("Service", client_service_name(owner)),
        )

    async def course(self, resource: Resource[LLMEndpointSpec]) -> Course:
        """Return the steps: write all children, then poll the sidecars and write the status.

        The children of an endpoint whose spec has a forbidden or invalid value are left as they are.
        """
        generation = resource.manifest["metadata"]["generation"]
        resolved = await self._modelfiles.resolve(resource.key, generation, resource.spec, self._now())
        if resolved.fault is not None or resolved.invalid:
            # Without its Modelfiles, the spec cannot be rendered.
            refused = () if resolved.fault is None else (resolved.fault,)
            configuration = configuration_hash(resource.spec, ollama_image(resource.spec, self._settings.images))
            intent = _Intent(configuration, resolved.invalid, refused=refused)
            return Course(None, partial(self._conclude, resource, intent))
        resource = replace(resource, spec=resolved.spec)
        rendered, wanted = self._render(resource, resolved)
        invalid = rendered.problem or await self._claims.problem(resource.key, generation, resource.spec)
        held = bool(resource.forbidden or invalid) or _is_paused(resource)
        digest = "" if held else rendered.config_digest
        # What others change meanwhile is repaired afterwards, so it must not be accepted.
        withheld = self._withheld(resource, wanted) if held else ()
        intent = _Intent(rendered.configuration, invalid, wanted.keys, digest, withheld=withheld)
        conclude = partial(self._conclude, resource, intent)
        return Course(None if held else wanted, conclude, judges=held, initial=self._initial(resource))

    def _render(self, resource: Resource[LLMEndpointSpec], resolved: Resolved) -> tuple[Rendered, DesiredChildren]:
        """Return the rendering of the present spec, settings and state, and the desired children."""
        digest = hash_of({"spec": resource.manifest.get("spec"), "modelfiles": resolved.texts})
        inputs = Inputs(resource.owner, digest, self._settings, self._capabilities, self._present(resource))
        rendered, wanted = self._renderings.of(resource.key, inputs, resolved.spec)
        children = self._children(resource)
        account, statefulset = children.service_account, children.statefulset
        return rendered, with_account_in_use(resource.owner, wanted, account, statefulset)

    def _present(self, resource: Resource[LLMEndpointSpec]) -> Present:
        """Return the present state of the pods, as far as it matters for the children of this spec."""
        children, spec = self._children(resource), resource.spec
        return Present(
            children.present_replicas if spec.autoscaling else None,
            bool(spec.disruption_budget) and self._sidecars.are_loading(resource.key, children.pods),
        )

    async def converge(
        self,
        resource: Resource[LLMEndpointSpec],
        children: DesiredChildren,
        initial: Mapping[ChildKey, Manifest],
    ) -> tuple[Fault, ...]:
        """Let claims grow, and write the children. If a claim may not grow, the StatefulSet keeps its templates."""
        size = wanted_size(resource.spec)
        refused = await self._growth.grow(resource.key, size, too_small(self._claims_in_use(resource), size))
        statefulset = self._children(resource).statefulset
        if refused and statefulset is not None:
            name = statefulset.key
            children = DesiredChildren.of(
                with_sizes_of(child, statefulset.body) if key_of(child) == name else child
                for child in children.manifests
            )
        return (*refused, *await super().converge(resource, children, initial))

    async def gone(self, key: Key) -> None:
        """Forget an endpoint that no longer exists."""
        self._throttle.forget(key)
        self._renderings.forget(key)
        self._claims.forget(key)
        self._modelfiles.forget(key)
        self._pods.forget(key)
        self._sidecars.forget(key)
        self._stall_events.forget(key)

    async def _conclude(
        self, resource: Resource[LLMEndpointSpec], intent: _Intent, refused: tuple[Fault, ...]
    ) -> float:
        children, spec, mode = self._children(resource), resource.spec, self._scrape_mode(resource)
        exists = children.statefulset is not None
        pods, counts = self._pods.of(children)
        warnings = self._inventory.warnings(resource.key)
        views = await asyncio.gather(*(self._view(resource, intent, pod, warnings) for pod in pods))
        self._sidecars.keep(resource.key, pods)
        now, present = self._now(), children.present_replicas
        wanted = replicas.wanted(spec, present)
        absent = self._pods.absent_troubles(children, wanted, pods, warnings, now) if exists else {}
        troubles = [*(view.trouble for view in views), *absent.values()]
        seen = Observation(
            *counts,
            pods=tuple(views),
            refused=(*intent.refused, *refused),
            forbidden=resource.forbidden,
            scrape_mode=mode,
            scraping=children.scraping(mode),
            monitored=children.monitor(mode) is not None,
            invalid=intent.invalid,
            absent=tuple(absent.values()),
            deleting=children.deleting(intent.children),
            reachable=children.has_client_service,
            # A pod that is not seen may have been scheduled.
            stuck=None if children.unwatched("Pod") else stuck(troubles, now),
            unwatched=children.unwatched(*_OBSERVED),
            resizing=sentences(self._claims_in_use(resource), wanted_size(spec), warnings),
            paused=_is_paused(resource),
            withheld=intent.withheld if _is_paused(resource) else (),
            configuration=intent.configuration,
            measured=tuple(self._measurements.of(resource.key)),
            scaled_to=replicas.scaled_to(spec, present),
            autoscaling=self._autoscaling_trouble(resource),
        )
        status = endpoint_status(resource.manifest, resource.owner, spec, seen, now)
        left = await self._report(resource, status)
        for message in self._stall_events.new(resource.key, views):
            await self.emit(resource, EndpointReason.OLLAMA_HUNG, message, warning=True)
        pause = self._sidecars.pause(resource.key, pods, seen, settled=_is_settled(spec, seen, status))
        if intent.refused:
            pause = min(pause, _MISSING_SECONDS)
        return min(pause, left) if left else pause

    async def _view(
        self, resource: Resource[LLMEndpointSpec], intent: _Intent, pod: Manifest, warnings: Sequence[WarningEvent]
    ) -> PodView:
        now = self._now()
        answer = await self._sidecars.poll(resource.key, pod)
        # A pod that is not seen may not exist, or run no longer.
        is_blind = bool(self._children(resource).unwatched("Pod"))
        silence = silence_of(pod, answer, now) if isinstance(answer, Silence) and not is_blind else ""
        status = None if isinstance(answer, Silence) else answer
        trouble = pod_trouble(pod, warnings, origin_of(resource.spec), now)
        outdated = status is not None and intent.is_outdated(status.config_digest)
        return PodView(pod["metadata"]["name"], is_ready(pod), status, trouble, silence, outdated)

    def _children(self, resource: Resource[LLMEndpointSpec]) -> Children:
        return Children(self._inventory, resource.key, resource.owner)

    def _claims_in_use(self, resource: Resource[LLMEndpointSpec]) -> list[Manifest]:
        claims = self._inventory.claims(resource.key) if wanted_size(resource.spec) else []
        if not claims:
            return []
        children = self._children(resource)
        pods, _ = self._pods.of(children)
        wanted = replicas.wanted(resource.spec, children.present_replicas)
        number = max(wanted, replicas.up_to_highest(resource.owner, pods))
        return claims_in_use(resource.owner, claims, number)

    def _withheld(self, resource: Resource[LLMEndpointSpec], wanted: DesiredChildren) -> tuple[str, ...]:
        """Return the names of the objects that the operator would write if it were allowed to."""
        claims = too_small(self._claims_in_use(resource), wanted_size(resource.spec))
        names = [str(name) for name in self.preview(resource, wanted)]
        return (*names, *(f"PersistentVolumeClaim/{claim['metadata']['name']}" for claim in claims))

    @property
    def _capabilities(self) -> Capabilities:
        return capabilities_without(self._cluster.discovery.missing)

    def _initial(self, resource: Resource[LLMEndpointSpec]) -> dict[ChildKey, Manifest]:
        """Return the number of pods that a StatefulSet gets when it is created, if it then belongs to an autoscaler."""
        if resource.spec.autoscaling is None:
            return {}
        reported = resource.status.get("replicas") or 0
        pods = self._inventory.pods(resource.key, "")
        number = replicas.to_start_with(resource.spec, resource.owner, pods, reported)
        return {ChildKey("StatefulSet", statefulset_name(resource.owner)): {"spec": {"replicas": number}}}

    def _autoscaling_trouble(self, resource: Resource[LLMEndpointSpec]) -> str:
        actuator = self._settings.actuator
        return autoscaling_trouble(resource.spec, actuator, self._children(resource).autoscaler(actuator))

    def _scrape_mode(self, resource: Resource[LLMEndpointSpec]) -> MonitoringMode:
        return scrape_mode(resource.spec.monitoring.mode, self._capabilities)

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
