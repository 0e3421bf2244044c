"""Ready: at least one replica is ready to serve its models."""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.api.endpoint import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_common.contracts.sidecar import ModelPhase
from llmendpoint_operator.endpoint.conditions.model_reports import activity, first_failed, hung, reports
from llmendpoint_operator.endpoint.observe import Observation, PodView
from llmendpoint_operator.kube.conditions import Condition
from llmendpoint_operator.kube.fault import condition_of, name_conflicts, needed
from llmendpoint_operator.policy.rules import sentences

_TYPE = EndpointCondition.READY
_PHASE_REASONS = {
    ModelPhase.PENDING: EndpointReason.MODEL_PENDING,
    ModelPhase.PULLING: EndpointReason.MODEL_PULLING,
    ModelPhase.LOADING: EndpointReason.MODEL_LOADING,
}


def ready(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    """Return the condition.

    If several reasons apply, the first of these is used: a name conflict, a forbidden value, a hung Ollama, a failed
    model, a pod that does not run, an unfinished model, another refused child. With a name conflict, the endpoint is
    not ready even if replicas are: pods or clients may use somebody else's object instead of the endpoint's.
    """
    if not spec.wanted_replicas:
        message = "The endpoint is scaled to zero. Set spec.replicas to 1 or more to serve requests."
        return Condition(_TYPE, False, EndpointReason.SCALED_TO_ZERO, message)
    conflicts = name_conflicts(seen.refused)
    if conflicts:
        return condition_of(_TYPE, conflicts, status=False)
    if seen.ready_replicas:
        message = f"{seen.ready_replicas} of {spec.wanted_replicas} replicas are ready to serve requests."
        return Condition(_TYPE, True, EndpointReason.MODELS_ANSWER, message)
    if seen.forbidden:
        return Condition(_TYPE, False, EndpointReason.POLICY_VIOLATION, sentences(seen.forbidden))
    return _failure(seen.pods) or _unfinished(seen.pods) or _otherwise(seen)


def _failure(pods: Sequence[PodView]) -> Condition | None:
    stalled = hung(pods)
    if stalled:
        return Condition(_TYPE, False, EndpointReason.OLLAMA_HUNG, stalled)
    failed = first_failed(pods)
    if failed is not None:
        return Condition(_TYPE, False, failed.reason, failed.message)
    trouble = next((pod.trouble for pod in pods if pod.trouble), "")
    return Condition(_TYPE, False, EndpointReason.POD_NOT_RUNNING, trouble) if trouble else None


def _unfinished(pods: Sequence[PodView]) -> Condition | None:
    model = next((model for model in reports(pods) if model.phase in _PHASE_REASONS), None)
    return Condition(_TYPE, False, _PHASE_REASONS[model.phase], activity(model)) if model else None


def _otherwise(seen: Observation) -> Condition:
    """Return the condition if no pod reports a problem or an unfinished model."""
    faults = needed(seen.refused)
    if faults:
        return condition_of(_TYPE, faults, status=False)
    message = (
        "No replica is ready yet, and none reports a reason. If this does not change, check the events of the pods."
    )
    return Condition(_TYPE, False, EndpointReason.STARTING, message)
