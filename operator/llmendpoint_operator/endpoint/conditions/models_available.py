"""ModelsAvailable: every declared model is on the disk of every replica that reports."""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_common.contracts.sidecar import ModelPhase, ModelStatus
from llmendpoint_operator.endpoint.conditions.model_reports import (
    AVAILABILITY_FAILURES,
    activity,
    everywhere,
    first_failure,
    no_report,
    reports,
    slowest,
)
from llmendpoint_operator.endpoint.observe import Observation, PodView
from llmendpoint_operator.kube.conditions import Condition

_TYPE = EndpointCondition.MODELS_AVAILABLE


def models_available(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    """Return the condition. It is Unknown until a replica reports its models."""
    failed = first_failure(seen.pods, AVAILABILITY_FAILURES)
    if failed is not None:
        return Condition(_TYPE, False, failed.reason, failed.message)
    if not reports(seen.pods):
        return no_report(_TYPE, spec, seen)
    missing = next((model.name for model in spec.models if not everywhere(seen.pods, model.name, _is_present)), None)
    if missing is not None:
        return Condition(_TYPE, False, EndpointReason.PULLING, _progress(seen.pods, missing))
    message = f"All declared models ({len(spec.models)}) are present on every replica that reports its models."
    return Condition(_TYPE, True, EndpointReason.ALL_PRESENT, message)


def _is_present(model: ModelStatus) -> bool:
    """Return whether the declared version of a model is on the disk, and not only an earlier one."""
    return model.present and (model.serving or model.phase not in (ModelPhase.PENDING, ModelPhase.PULLING))


def _progress(pods: Sequence[PodView], name: str) -> str:
    state = slowest(pods, name) or ModelStatus(name)
    rate = f", {state.bytes_per_second / 1e6:.1f} MB/s" if state.bytes_per_second else ""
    return f"{activity(state)} ({state.progress_percent} %{rate})"
