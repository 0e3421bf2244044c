"""Computes the status of an endpoint from its spec and an observation. Has no side effects."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from llmendpoint_common.api.endpoint import Gpu, LLMEndpointSpec
from llmendpoint_common.contracts.sidecar import ModelPhase
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.endpoint.conditions.degraded import degraded
from llmendpoint_operator.endpoint.conditions.gpu_offloaded import gpu_offloaded
from llmendpoint_operator.endpoint.conditions.model_reports import reports, slowest
from llmendpoint_operator.endpoint.conditions.models_available import models_available
from llmendpoint_operator.endpoint.conditions.models_loaded import models_loaded
from llmendpoint_operator.endpoint.conditions.monitoring_ready import monitoring_ready
from llmendpoint_operator.endpoint.conditions.ready import ready
from llmendpoint_operator.endpoint.conditions.reconciling import reconciling
from llmendpoint_operator.endpoint.conditions.stalled import stalled
from llmendpoint_operator.endpoint.observe import Observation, PodView
from llmendpoint_operator.kube.conditions import MAX_MESSAGE, Condition, merge
from llmendpoint_operator.kube.owner import Manifest, Owner

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
    """Return the complete status. Conditions whose status is the same as in `manifest` keep their transition time."""
    generation = manifest["metadata"]["generation"]
    existing = manifest.get("status", {}).get("conditions") or []
    return {
        "observedGeneration": generation,
        "url": layout.client_url(owner, spec.service.port),
        "gpu": gpu_text(spec.wanted_gpu),
        "replicas": seen.replicas,
        "readyReplicas": seen.ready_replicas,
        "selector": ",".join(f"{key}={value}" for key, value in sorted(layout.selector(owner).items())),
        "models": [_model_state(model.name, seen.pods) for model in spec.models],
        "conditions": merge(existing, conditions(spec, seen), generation, now),
    }


def conditions(spec: LLMEndpointSpec, seen: Observation) -> list[Condition]:
    """Return the conditions that apply to the endpoint."""
    found = (condition(spec, seen) for condition in _CONDITIONS)
    return [condition for condition in found if condition is not None]


def gpu_text(gpu: Gpu) -> str:
    """Return the GPUs of one replica for `kubectl get`, such as "2 x NVIDIA-H200"."""
    if not gpu.count:
        return "none"
    kind = "/".join(gpu.products) or gpu.resource
    return f"{gpu.count} x {kind}"


def _model_state(name: str, pods: Sequence[PodView]) -> dict[str, Any]:
    """Return the state of a model over all replicas: sums, maxima, and the progress of the slowest replica."""
    mine = [model for model in reports(pods) if model.name == name]
    last = slowest(pods, name)
    return {
        "name": name,
        "readyReplicas": sum(model.phase is ModelPhase.READY for model in mine),
        "digests": sorted({model.digest for model in mine if model.digest}),
        "sizeBytes": max((model.size_bytes for model in mine), default=0),
        "vramBytes": max((model.vram_bytes for model in mine), default=0),
        "progressPercent": last.progress_percent if last else 0,
        "message": last.message[:MAX_MESSAGE] if last else "",
    }
