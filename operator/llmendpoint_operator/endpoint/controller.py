"""Reconciles one LLMEndpoint: parse, desired, apply, observe, status. One function for every kind of change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from llmendpoint_common.api.endpoint import parse_spec
from llmendpoint_common.contracts.cluster import ENDPOINT_LABEL, FaultReason
from llmendpoint_operator.cluster.events import emit
from llmendpoint_operator.cluster.objects import REFUSALS, Objects, is_unknown_kind
from llmendpoint_operator.cluster.pod_status import PodStatuses
from llmendpoint_operator.endpoint.desired import desired
from llmendpoint_operator.endpoint.layout import selector
from llmendpoint_operator.endpoint.observe import Observation, PodView, is_ready, replicas_of, trouble
from llmendpoint_operator.endpoint.status import endpoint_status
from llmendpoint_operator.kube.conditions import Condition, is_true, merge
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest, Owner, owner_of
from llmendpoint_operator.reconcile.workqueue import Key
from llmendpoint_operator.settings import Images

KIND = "LLMEndpoint"
CHILD_KINDS = ("ConfigMap", "Service", "ServiceAccount", "StatefulSet", "ServiceMonitor")
_TOLD = ("Ready", "ModelsAvailable")
_ON_THE_WAY = frozenset({"Starting", "Pulling", "ScaledToZero", "ModelPending", "ModelPulling", "ModelLoading"})
_LOADING_SECONDS = 2.0
_STEADY_SECONDS = 30.0
_PROGRESS_SECONDS = 10.0


class EndpointController:
    """Makes the cluster be what an LLMEndpoint says."""

    def __init__(self, objects: Objects, pods: PodStatuses, images: Images, now: Callable[[], datetime]) -> None:
        self._objects = objects
        self._pods = pods
        self._images = images
        self._now = now
        self._written: dict[str, datetime] = {}

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile once; return when to look again, since what is inside pods sends no events."""
        manifest = await self._objects.get(KIND, key.namespace, key.name)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            return None
        owner = owner_of(manifest)
        try:
            spec = parse_spec(manifest)
        except ValidationError as error:
            await self._objects.apply_status(manifest, self._invalid(manifest, error))
            return None
        children = desired(owner, spec, self._images)
        monitors = [child for child in children if child["kind"] == "ServiceMonitor"]
        others = [child for child in children if child["kind"] != "ServiceMonitor"]
        conflicts = await self._objects.apply_children(owner, others)
        refused = (*map(_conflict, conflicts), *await self._apply_monitors(owner, monitors))
        await self._objects.prune(owner, CHILD_KINDS, {ENDPOINT_LABEL: owner.name}, children)
        seen = await self._observe(owner, refused)
        status = endpoint_status(manifest, owner, spec, seen, self._now())
        await self._write(manifest, status)
        settled = seen.ready_replicas == seen.replicas == spec.wanted_replicas and is_true(
            status["conditions"], "ModelsLoaded"
        )
        return _STEADY_SECONDS if settled else _LOADING_SECONDS

    async def _apply_monitors(self, owner: Owner, monitors: list[Manifest]) -> tuple[Fault, ...]:
        try:
            return tuple(map(_conflict, await self._objects.apply_children(owner, monitors)))
        except REFUSALS as error:
            if not is_unknown_kind(error):
                raise
            children = (f"{monitor['kind']}/{monitor['metadata']['name']}" for monitor in monitors)
            return tuple(Fault(FaultReason.UNKNOWN_KIND, child, str(error)) for child in children)

    async def _observe(self, owner: Owner, refused: tuple[Fault, ...]) -> Observation:
        statefulset = await self._objects.get("StatefulSet", owner.namespace, owner.name)
        foreign = f"StatefulSet/{owner.name}" in {fault.child for fault in refused}
        mine = statefulset if statefulset and not foreign else None
        pods = await self._objects.list("Pod", owner.namespace, selector(owner)) if mine else []
        views = await asyncio.gather(*(self._view(pod) for pod in pods))
        existing, ready, latest = replicas_of(mine)
        return Observation(existing, ready, latest, tuple(views), refused)

    async def _view(self, pod: Manifest) -> PodView:
        return PodView(pod["metadata"]["name"], is_ready(pod), await self._pods.sidecar(pod), trouble(pod))

    async def _write(self, manifest: Manifest, status: dict[str, Any]) -> None:
        uid = manifest["metadata"]["uid"]
        before = manifest.get("status") or {}
        last = self._written.get(uid)
        only_progress = _without_progress(before) == _without_progress(status) and not _quarters_passed(
            before.get("models") or [], status["models"]
        )
        if only_progress and last is not None and (self._now() - last).total_seconds() < _PROGRESS_SECONDS:
            return
        if before != status:
            self._written[uid] = self._now()
        await self._objects.apply_status(manifest, status)
        await self._tell(manifest, before.get("conditions") or [], status["conditions"])
        await self._tell_progress(manifest, before.get("models") or [], status["models"])

    async def _tell(self, manifest: Manifest, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
        """Write an Event for each condition that a person waits for, when its reason changes."""
        reasons = {condition["type"]: condition["reason"] for condition in before}
        news = {
            condition["reason"]: condition
            for condition in after
            if condition["type"] in ("Ready", "ModelsAvailable")
            and reasons.get(condition["type"]) != condition["reason"]
        }
        for reason, condition in news.items():
            warning = condition["status"] == "False" and reason not in _ON_THE_WAY
            await emit(self._objects, manifest, reason, condition["message"], self._now(), warning=warning)

    async def _tell_progress(
        self, manifest: Manifest, before: list[dict[str, Any]], after: list[dict[str, Any]]
    ) -> None:
        """Write an Event for each quarter of a pull that was passed."""
        for model in _quarters_passed(before, after):
            message = f"{model['name']}: {model['message']} ({model['progressPercent']} %)"
            await emit(self._objects, manifest, "PullProgress", message, self._now())

    def _invalid(self, manifest: Manifest, error: ValidationError) -> dict[str, Any]:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        condition = Condition("Ready", False, "InvalidSpec", f"spec.{field}: {first['msg']}")
        existing = (manifest.get("status") or {}).get("conditions") or []
        generation = manifest["metadata"]["generation"]
        return {"observedGeneration": generation, "conditions": merge(existing, [condition], generation, self._now())}


def _conflict(child: str) -> Fault:
    message = f"{child} exists but does not belong to this endpoint. Delete it, or give the endpoint another name."
    return Fault(FaultReason.NAME_CONFLICT, child, message)


def _quarters_passed(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the models whose pull has passed another quarter."""
    last = {model["name"]: model["progressPercent"] for model in before}
    return [
        model
        for model in after
        if model["progressPercent"] < 100 and model["progressPercent"] // 25 > last.get(model["name"], 0) // 25
    ]


def _without_progress(status: dict[str, Any]) -> dict[str, Any]:
    """Return a status without what changes all the time while a model is pulled."""
    rest = {name: value for name, value in status.items() if name not in ("models", "conditions")}
    rest["models"] = [
        {name: value for name, value in model.items() if name not in ("progressPercent", "message")}
        for model in status.get("models", [])
    ]
    rest["conditions"] = [
        {name: value for name, value in condition.items() if name != "message"}
        for condition in status.get("conditions", [])
    ]
    return rest
