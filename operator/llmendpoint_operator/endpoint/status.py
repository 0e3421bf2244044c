"""Computes the status of an endpoint from its spec and an observation. Has no side effects."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from llmendpoint_common.api.endpoint.gpu import Gpu
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_common.contracts.sidecar import ModelPhase, ModelStatus
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.endpoint.capacity import capacity
from llmendpoint_operator.endpoint.conditions.degraded import degraded
from llmendpoint_operator.endpoint.conditions.gpu_offloaded import gpu_offloaded
from llmendpoint_operator.endpoint.conditions.model_reports import reports, slowest
from llmendpoint_operator.endpoint.conditions.models_available import models_available
from llmendpoint_operator.endpoint.conditions.models_loaded import models_loaded
from llmendpoint_operator.endpoint.conditions.monitoring_ready import monitoring_ready
from llmendpoint_operator.endpoint.conditions.ready import ready
from llmendpoint_operator.endpoint.conditions.reconciling import reconciling
from llmendpoint_operator.endpoint.conditions.stalled import stalled
from llmendpoint_operator.endpoint.observe import Observation, PodView, Replicas
from llmendpoint_operator.kube import unwatched
from llmendpoint_operator.kube.conditions import MAX_MESSAGE, Condition, merge
from llmendpoint_operator.kube.fault import needed
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.kube.unwatched import Unwatched, required

#: The functions for the conditions, in the order in which `kubectl describe` shows the conditions.
_CONDITIONS = (
    ready,
    reconciling,
    stalled,
    models_available,
    models_loaded,
    degraded,
    gpu_offloaded,
    monitoring_ready,
)


def endpoint_status(
    manifest: Manifest, owner: Owner, spec: LLMEndpointSpec, seen: Observation, now: datetime
) -> dict[str, Any]:
    """Return the complete status. Conditions whose status is the same as in `manifest` keep their transition time.

    `observedGeneration` is the newest generation all of whose children were applied. It is absent if there is none yet.
    `url` is absent while the client Service does not exist or is not ours.
    """
    generation = manifest["metadata"]["generation"]
    before = manifest.get("status") or {}
    existing = before.get("conditions") or []
    applied = _applied_generation(before, generation, applied=is_applied(seen))
    rows = merge(existing, conditions(spec, seen), generation, now)
    models = [_model_state(model.name, seen.pods) for model in spec.models]
    digests = {model["name"]: model["digests"] for model in models}
    measured = capacity(before.get("capacity"), seen.measured, seen.configuration, digests)
    return {
        **applied,
        **({"url": layout.client_url(owner, spec.service.port)} if seen.reachable else {}),
        "gpu": gpu_text(spec.wanted_gpu),
        "replicas": seen.replicas,
        "readyReplicas": seen.ready_replicas,
        "selector": ",".join(f"{key}={value}" for key, value in sorted(layout.selector(owner).items())),
        "models": models,
        "configurationHash": seen.configuration,
        **({"capacity": measured} if measured else {}),
        "conditions": [_judging(row, applied.get("observedGeneration", generation)) for row in rows],
    }


def unparsed_status(
    manifest: Manifest,
    sentence: str,
    replicas: Replicas,
    now: datetime,
    unseen: Sequence[Unwatched] = (),
    present: int | None = None,
) -> dict[str, Any]:
    """Return the status of an endpoint whose spec cannot be parsed. `present` is the number in its StatefulSet.

    Its children are left as they are, so pods that run keep serving. What the operator cannot judge without the spec
    stays as it was; the `observedGeneration` of each condition says which spec it is about.
    """
    before = manifest.get("status") or {}
    existing = before.get("conditions") or []
    about = "The operator cannot continue until a person acts. The condition Stalled says what to do."
    new = [
        Condition(EndpointCondition.RECONCILING, False, EndpointReason.STALLED, about),
        Condition(EndpointCondition.STALLED, True, EndpointReason.INVALID_SPEC, sentence),
    ]
    if unseen:
        message = f"It is not known whether a replica answers. {unwatched.sentence(unseen)}"
        new.insert(0, Condition(EndpointCondition.READY, None, EndpointReason.NOT_WATCHED, message))
    elif not replicas.ready and not _wants_none(manifest, present):
        new.insert(0, Condition(EndpointCondition.READY, False, EndpointReason.INVALID_SPEC, sentence))
    elif any(row["reason"] == EndpointReason.NOT_WATCHED for row in existing if row["type"] == EndpointCondition.READY):
        message = f"{replicas.ready} replicas are ready to serve requests."
        new.insert(0, Condition(EndpointCondition.READY, True, EndpointReason.MODELS_ANSWER, message))
    merged = {row["type"]: row for row in merge(existing, new, manifest["metadata"]["generation"], now)}
    rows = {row["type"]: row for row in existing} | merged
    if not replicas.ready and not unseen and _wants_none(manifest, present):
        # As for a spec that can be parsed (`conditions/ready.py`).
        rows.pop(EndpointCondition.READY, None)
    order = [condition.value for condition in EndpointCondition]
    return {
        **before,
        "replicas": replicas.existing,
        "readyReplicas": replicas.ready,
        "conditions": sorted(
            rows.values(), key=lambda row: order.index(row["type"]) if row["type"] in order else len(order)
        ),
    }


def _wants_none(manifest: Manifest, present: int | None) -> bool:
    """Return whether no pod is wanted, as far as this can be seen in a spec that cannot be parsed."""
    spec = manifest.get("spec") or {}
    return present == 0 if spec.get("autoscaling") else spec.get("replicas") == 0


def is_applied(seen: Observation) -> bool:
    """Return whether all children of the present generation are applied. A cluster may lack an optional kind."""
    obstacles = (required(seen.unwatched), needed(seen.refused), seen.forbidden, seen.invalid, seen.deleting)
    return not (any(obstacles) or seen.withheld)


def _judging(row: dict[str, Any], applied: int) -> dict[str, Any]:
    """Return a condition with the generation that it judges. Replicas that are ready have the spec that was applied.

    `kubectl wait --for=condition=Ready` ignores a condition of an older generation, so it waits until the newest one is
    applied.
    """
    is_ready = row["type"] == EndpointCondition.READY and row["status"] == "True"
    return {**row, "observedGeneration": applied} if is_ready else row


def _applied_generation(before: dict[str, Any], generation: int, *, applied: bool) -> dict[str, int]:
    if applied:
        return {"observedGeneration": generation}
    last = before.get("observedGeneration")
    # -1 is the default of an object that no operator has seen.
    return {"observedGeneration": last} if last is not None and last > 0 else {}


def conditions(spec: LLMEndpointSpec, seen: Observation) -> list[Condition]:
    """Return the conditions that apply to the endpoint."""
    found = (condition(spec, seen) for condition in _CONDITIONS)
    return [condition for condition in found if condition is not None]


def gpu_text(gpu: Gpu) -> str:
    """Return the GPUs of one replica for `kubectl get`, such as "2 x NVIDIA-H200", "claimed: gpu" or "none"."""
    if gpu.resource_claims:
        return f"claimed: {', '.join(claim.name for claim in gpu.resource_claims)}"
    if not gpu.devices:
        return "none"
    kind = "/".join(gpu.products) or gpu.device_resource
    return f"{gpu.devices} x {kind}"


def _model_state(name: str, pods: Sequence[PodView]) -> dict[str, Any]:
    """Return the state of a model over all replicas: sums, maxima, and the progress of the slowest replica."""
    mine = [model for model in reports(pods) if model.name == name]
    last = slowest(pods, name)
    return {
        "name": name,
        "readyReplicas": sum(model.phase is ModelPhase.READY for model in mine),
        "digests": sorted({model.digest for model in mine if model.digest}),
        **_sizes(mine),
        "progressPercent": last.progress_percent if last else 0,
        **_speed(last),
        "message": last.message[:MAX_MESSAGE] if last else "",
    }


def _sizes(reported: Sequence[ModelStatus]) -> dict[str, int]:
    """Return the sizes of a model, or nothing until a replica reports it: 0 would look like a measurement."""
    if not reported:
        return {}
    return {
        "sizeBytes": max(model.size_bytes for model in reported),
        "vramBytes": max(model.vram_bytes for model in reported),
    }


def _speed(slowest: ModelStatus | None) -> dict[str, int]:
    """Return the speed of a pull and its remaining time, as far as they are known."""
    if slowest is None or not slowest.bytes_per_second:
        return {}
    return {"bytesPerSecond": slowest.bytes_per_second, "remainingSeconds": slowest.remaining_seconds}
