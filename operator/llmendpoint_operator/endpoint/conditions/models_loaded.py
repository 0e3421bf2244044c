"""ModelsLoaded: every preloaded model is in memory on every replica that reports its models."""

from __future__ import annotations

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_common.contracts.sidecar import Load, ModelStatus
from llmendpoint_operator.endpoint.conditions.model_reports import (
    LOADING_FAILURES,
    everywhere,
    first_failure,
    no_report,
    reports,
)
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.kube.conditions import Condition

_TYPE = EndpointCondition.MODELS_LOADED


def models_loaded(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    """Return the condition. It is Unknown until a replica reports its models."""
    preloaded = [model.name for model in spec.models if model.load is Load.PRELOAD]
    if not preloaded:
        message = "No model has load: Preload. Ollama loads each model on its first request."
        return Condition(_TYPE, True, EndpointReason.NONE_PRELOADED, message)
    if not reports(seen.pods):
        return no_report(_TYPE, spec, seen)
    failed = first_failure(seen.pods, LOADING_FAILURES)
    if failed is not None:
        return Condition(_TYPE, False, failed.reason, failed.message)
    absent = [name for name in preloaded if not everywhere(seen.pods, name, _is_loaded)]
    if absent:
        message = f"Not in memory: {', '.join(absent)}. The sidecar loads them, even if Ollama has evicted them."
        return Condition(_TYPE, False, EndpointReason.LOADING, message)
    message = f"All preloaded models ({len(preloaded)}) are in memory on every replica that reports its models."
    return Condition(_TYPE, True, EndpointReason.ALL_LOADED, message)


def _is_loaded(model: ModelStatus) -> bool:
    return model.loaded
