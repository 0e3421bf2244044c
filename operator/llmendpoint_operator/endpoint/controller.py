"""The steps of a reconcile that are specific to LLMEndpoints."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from llmendpoint_common.api.endpoint import LLMEndpointSpec, parse_spec
from llmendpoint_common.contracts.cluster import LLMENDPOINT, EndpointCondition, EndpointReason
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.endpoint.desired import desired
from llmendpoint_operator.endpoint.layout import service_monitor_name, statefulset_name
from llmendpoint_operator.endpoint.observe import Observation, PodView, is_ready, replicas_of, trouble
from llmendpoint_operator.endpoint.progress import Throttle, is_failure, new_reasons, quarters_passed
from llmendpoint_operator.endpoint.status import endpoint_status
from llmendpoint_operator.kube.conditions import Condition, is_true, merge
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.kube.scraping import Scraping, scraping
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.reconcile.controller import Cluster, Controller, Course, Resource
from llmendpoint_operator.settings import ChildSettings

# Time until the sidecars are polled again: while models are being pulled or loaded, and if the endpoint is settled.
_LOADING_SECONDS = 2.0
_STEADY_SECONDS = 30.0


class EndpointController(Controller[LLMEndpointSpec]):
    """Creates the children of LLMEndpoints, and writes their status from the reports of the sidecars."""

    kind = LLMENDPOINT

    def __init__(self, cluster: Cluster, settings: ChildSettings, policy: Policy = ALLOW_ALL) -> None:
        super().__init__(cluster, policy)
        self._settings = settings
        self._pods = cluster.pods
        self._throttle = Throttle()

    def parse(self, manifest: Manifest) -> LLMEndpointSpec:
        """Return the parsed spec."""
        return parse_spec(manifest)

    def invalid_status(self, manifest: Manifest, sentence: str) -> dict[str, Any]:
        """Return a status with Ready=False, Stalled=True and the reason InvalidSpec."""
        wanted = [
            Condition(EndpointCondition.READY, False, EndpointReason.INVALID_SPEC, sentence),
            Condition(EndpointCondition.STALLED, True, EndpointReason.INVALID_SPEC, sentence),
        ]
        existing = (manifest.get("status") or {}).get("conditions") or []
        generation = manifest["metadata"]["generation"]
        return {"observedGeneration": generation, "conditions": merge(existing, wanted, generation, self._now())}

    async def course(self, resource: Resource[LLMEndpointSpec]) -> Course:
        """Return the steps: write all children, then poll the sidecars and write the status.

        The children of an endpoint with a forbidden value are left as they are.
        """
        children = None if resource.forbidden else desired(resource.owner, resource.spec, self._settings)
        return Course(children, partial(self._conclude, resource))

    async def gone(self, key: Key) -> None:
        """Forget an endpoint that no longer exists."""
        self._throttle.forget(key)

    async def _conclude(self, resource: Resource[LLMEndpointSpec], refused: tuple[Fault, ...]) -> float:
        name = statefulset_name(resource.owner)
        statefulset = self._inventory.own_child(resource.key, "StatefulSet", name, resource.owner.uid)
        pods = self._inventory.pods(resource.key, statefulset.uid) if statefulset else []
        views = await asyncio.gather(*map(self._view, pods))
        existing, ready, latest = replicas_of(statefulset.body if statefulset else None)
        seen = Observation(existing, ready, latest, tuple(views), refused, resource.forbidden, self._scraping(resource))
        status = endpoint_status(resource.manifest, resource.owner, resource.spec, seen, self._now())
        await self._report(resource, status)
        # A pod without an address cannot be polled; the watch shows when it gets one.
        can_be_polled = any(pod.get("status", {}).get("podIP") for pod in pods)
        return _LOADING_SECONDS if can_be_polled and not _is_settled(resource.spec, seen, status) else _STEADY_SECONDS

    def _scraping(self, resource: Resource[LLMEndpointSpec]) -> Scraping | None:
        name = service_monitor_name(resource.owner)
        monitor = self._inventory.own_child(resource.key, "ServiceMonitor", name, resource.owner.uid)
        servers = self._inventory.prometheus_servers()
        if monitor is None or servers is None:
            return None
        return scraping(resource.owner.namespace, monitor.body["metadata"].get("labels") or {}, servers)

    async def _view(self, pod: Manifest) -> PodView:
        return PodView(pod["metadata"]["name"], is_ready(pod), await self._pods.sidecar(pod), trouble(pod))

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
    complete = seen.ready_replicas == seen.replicas == spec.wanted_replicas
    loaded = is_true(status["conditions"], EndpointCondition.MODELS_LOADED)
    return complete and (loaded or not spec.wanted_replicas)
