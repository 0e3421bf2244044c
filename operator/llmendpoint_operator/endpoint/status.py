"""The status of an endpoint, computed from its spec and what is seen: pure, so that it is tested as a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from llmendpoint_common.api.endpoint import Gpu, LLMEndpointSpec, MonitoringMode
from llmendpoint_common.contracts.sidecar import Load, ModelPhase, ModelStatus
from llmendpoint_operator.endpoint.layout import selector
from llmendpoint_operator.endpoint.observe import Observation, PodView
from llmendpoint_operator.kube.conditions import Condition, merge
from llmendpoint_operator.kube.owner import Manifest, Owner

_MODEL_REASONS = {"ModelNotFound", "PullFailed", "DigestMismatch"}


def endpoint_status(
    manifest: Manifest, owner: Owner, spec: LLMEndpointSpec, seen: Observation, now: datetime
) -> dict[str, Any]:
    """Return the whole status."""
    existing = manifest.get("status", {}).get("conditions") or []
    return {
        "observedGeneration": manifest["metadata"]["generation"],
        "url": f"http://{owner.name}.{owner.namespace}.svc:{spec.service.port}",
        "gpu": gpu_text(spec.wanted_gpu),
        "replicas": seen.replicas,
        "readyReplicas": seen.ready_replicas,
        "selector": ",".join(f"{key}={value}" for key, value in sorted(selector(owner).items())),
        "models": [_model_state(model.name, seen.pods) for model in spec.models],
        "conditions": merge(existing, _conditions(spec, seen), manifest["metadata"]["generation"], now),
    }


def gpu_text(gpu: Gpu) -> str:
    """Return the GPUs of a replica as people read them."""
    if not gpu.count:
        return "none"
    kind = "/".join(gpu.products) or gpu.resource
    return f"{gpu.count} x {kind}"


def _conditions(spec: LLMEndpointSpec, seen: Observation) -> list[Condition]:
    conditions = [
        _ready(spec, seen),
        _progressing(spec, seen),
        _models_available(spec, seen.pods),
        _models_loaded(spec, seen.pods),
        _degraded(spec, seen),
    ]
    if spec.wanted_gpu.count:
        conditions.append(_gpu_offloaded(spec, seen.pods))
    if spec.monitoring.mode is not MonitoringMode.NONE:
        conditions.append(_monitoring(seen))
    return conditions


def _ready(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    if not spec.wanted_replicas:
        return Condition("Ready", False, "ScaledToZero", "no replicas are wanted; `kubectl scale` brings them back")
    if seen.ready_replicas:
        return Condition(
            "Ready", True, "ModelsAnswer", f"{seen.ready_replicas} of {spec.wanted_replicas} replicas answer"
        )
    if seen.conflicts:
        return Condition("Ready", False, "NameConflict", _conflict(seen))
    return _not_ready(seen)


def _not_ready(seen: Observation) -> Condition:
    """Return what is in the way, the worst first."""
    failed = _failed(seen.pods)
    if failed is not None:
        return Condition("Ready", False, failed.reason, failed.message)
    for pod in seen.pods:
        if pod.trouble:
            return Condition("Ready", False, "PodNotRunning", pod.trouble)
    for pod in seen.pods:
        for model in pod.status.models if pod.status else ():
            if model.phase is not ModelPhase.READY:
                return Condition(
                    "Ready", False, f"Model{model.phase.value}", f"{model.name}: {model.message or 'waiting'}"
                )
    return Condition("Ready", False, "Starting", "the pods are starting")


def _progressing(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    if seen.replicas == seen.ready_replicas == spec.wanted_replicas and seen.up_to_date:
        return Condition("Progressing", False, "Settled", "all replicas are as the spec says")
    message = f"{seen.ready_replicas} of {spec.wanted_replicas} replicas are ready, {seen.replicas} exist"
    return Condition("Progressing", True, "RollingOut", message)


def _models_available(spec: LLMEndpointSpec, pods: Sequence[PodView]) -> Condition:
    for status in _statuses(pods):
        if status.reason in _MODEL_REASONS:
            return Condition("ModelsAvailable", False, status.reason, status.message)
    missing = [model.name for model in spec.models if not _all(pods, model.name, "present")]
    if not _statuses(pods):
        return Condition("ModelsAvailable", None, "Starting", "no replica tells of its models yet")
    if missing:
        state = _model_state(missing[0], pods)
        message = f"{missing[0]}: {state['message'] or 'waiting'} ({state['progressPercent']} %)"
        return Condition("ModelsAvailable", False, "Pulling", message)
    return Condition("ModelsAvailable", True, "AllPresent", f"{len(spec.models)} models are present")


def _models_loaded(spec: LLMEndpointSpec, pods: Sequence[PodView]) -> Condition:
    preloaded = [model.name for model in spec.models if model.load is Load.PRELOAD]
    if not preloaded:
        return Condition("ModelsLoaded", True, "NonePreloaded", "all models are loaded with their first request")
    if not _statuses(pods):
        return Condition("ModelsLoaded", None, "Starting", "no replica tells of its models yet")
    for status in _statuses(pods):
        if status.reason in ("LoadFailed", "NotOnGPU"):
            return Condition("ModelsLoaded", False, status.reason, status.message)
    absent = [name for name in preloaded if not _all(pods, name, "loaded")]
    if absent:
        return Condition(
            "ModelsLoaded",
            False,
            "Loading",
            f"{', '.join(absent)} is not in memory yet, or was evicted; it is loaded again",
        )
    return Condition("ModelsLoaded", True, "AllLoaded", f"{len(preloaded)} models are in memory")


def _gpu_offloaded(spec: LLMEndpointSpec, pods: Sequence[PodView]) -> Condition:
    loaded = [status for status in _statuses(pods) if status.loaded]
    if not loaded:
        return Condition("GPUOffloaded", None, "NothingLoaded", "no model is in memory")
    partly = [status for status in loaded if status.vram_bytes < status.loaded_bytes]
    if partly:
        share = 100 * partly[0].vram_bytes // max(1, partly[0].loaded_bytes)
        message = f"{share} % of {partly[0].name} is in GPU memory; the rest runs on the CPU, which is slow"
        return Condition("GPUOffloaded", False, "PartlyOnCPU", message)
    return Condition("GPUOffloaded", True, "WhollyOnGPU", "all models in memory are in GPU memory")


def _monitoring(seen: Observation) -> Condition:
    if seen.monitoring:
        return Condition("MonitoringReady", False, "ServiceMonitorUnknown", seen.monitoring)
    return Condition("MonitoringReady", True, "ServiceMonitor", "a ServiceMonitor tells Prometheus of the pods")


def _degraded(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    if seen.conflicts:
        return Condition("Degraded", True, "NameConflict", _conflict(seen))
    if seen.ready_replicas < spec.wanted_replicas:
        message = f"{seen.ready_replicas} of {spec.wanted_replicas} replicas answer"
        return Condition("Degraded", True, "ReplicasUnavailable", message)
    return Condition("Degraded", False, "AsWanted", "all replicas answer")


def _conflict(seen: Observation) -> str:
    return f"{', '.join(seen.conflicts)} exists and is not this endpoint's; delete or rename it"


def _failed(pods: Sequence[PodView]) -> ModelStatus | None:
    return next((status for status in _statuses(pods) if status.phase is ModelPhase.FAILED), None)


def _statuses(pods: Sequence[PodView]) -> list[ModelStatus]:
    return [model for pod in pods if pod.status for model in pod.status.models]


def _all(pods: Sequence[PodView], name: str, fact: str) -> bool:
    mine = [status for status in _statuses(pods) if status.name == name]
    return bool(mine) and all(getattr(status, fact) for status in mine)


def _model_state(name: str, pods: Sequence[PodView]) -> dict[str, Any]:
    mine = [status for status in _statuses(pods) if status.name == name]
    slowest = min(mine, key=lambda status: status.progress_percent, default=None)
    return {
        "name": name,
        "readyReplicas": sum(status.phase is ModelPhase.READY for status in mine),
        "digests": sorted({status.digest for status in mine if status.digest}),
        "sizeBytes": max((status.size_bytes for status in mine), default=0),
        "vramBytes": max((status.vram_bytes for status in mine), default=0),
        "progressPercent": slowest.progress_percent if slowest else 0,
        "message": slowest.message if slowest else "",
    }
