"""Ready: at least one replica is ready to serve its models, and clients can reach it."""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import PAUSED_ANNOTATION, EndpointCondition, EndpointReason
from llmendpoint_common.contracts.sidecar import ModelPhase
from llmendpoint_operator.endpoint.conditions.causes import causes
from llmendpoint_operator.endpoint.conditions.model_reports import activity, hung, reports
from llmendpoint_operator.endpoint.conditions.reconciling import in_short
from llmendpoint_operator.endpoint.observe import Observation, PodView
from llmendpoint_operator.kube.conditions import Condition
from llmendpoint_operator.kube.fault import USED, condition_of, name_conflicts, needed
from llmendpoint_operator.kube.unwatched import sentence
from llmendpoint_operator.policy.rules import sentences

_TYPE = EndpointCondition.READY
_PHASE_REASONS = {
    ModelPhase.PENDING: EndpointReason.MODEL_PENDING,
    ModelPhase.PULLING: EndpointReason.MODEL_PULLING,
    ModelPhase.LOADING: EndpointReason.MODEL_LOADING,
}


def ready(spec: LLMEndpointSpec, seen: Observation) -> Condition | None:
    """Return the condition, or None if the endpoint is scaled to zero: then it is as wanted, and not ready either.

    kstatus takes an object with Ready=False for one that is still in progress. Reconciling has the reason ScaledToZero.

    It is Unknown if a kind on which it depends cannot be watched. If several other reasons apply, the first of these is
    used: a name conflict, a missing client Service, a forbidden or invalid value, a hung Ollama, a failed model, a pod
    that does not run, an unfinished model, another refused child that pods or clients use, a pause.
    With a name conflict, the endpoint is not ready even if replicas are: pods or clients may use somebody else's
    object instead of the endpoint's.
    """
    if not seen.wanted(spec):
        return None
    if seen.unseen:
        message = f"It is not known whether a replica answers. {sentence(seen.unseen)}"
        return Condition(_TYPE, None, EndpointReason.NOT_WATCHED, message)
    conflicts = name_conflicts(seen.refused)
    if conflicts:
        return condition_of(_TYPE, conflicts, status=False)
    if seen.ready_replicas and seen.reachable:
        message = f"{seen.ready_replicas} of {seen.wanted(spec)} replicas are ready to serve requests."
        return Condition(_TYPE, True, EndpointReason.MODELS_ANSWER, message)
    return _of_the_spec(seen) or _of_the_pods(seen) or _otherwise(seen)


def _of_the_spec(seen: Observation) -> Condition | None:
    if seen.forbidden:
        return Condition(_TYPE, False, EndpointReason.POLICY_VIOLATION, sentences(seen.forbidden))
    return Condition(_TYPE, False, EndpointReason.INVALID_SPEC, seen.invalid) if seen.invalid else None


def _of_the_pods(seen: Observation) -> Condition | None:
    return None if seen.ready_replicas else _cause(seen) or _unfinished(seen.pods)


def _cause(seen: Observation) -> Condition | None:
    stalled = hung(seen.pods)
    if stalled:
        return Condition(_TYPE, False, EndpointReason.OLLAMA_HUNG, stalled)
    found = causes(seen)
    return Condition(_TYPE, False, found[0].reason, found[0].message) if found else None


def _unfinished(pods: Sequence[PodView]) -> Condition | None:
    model = next((model for model in reports(pods) if model.phase in _PHASE_REASONS), None)
    return Condition(_TYPE, False, _PHASE_REASONS[model.phase], activity(model)) if model else None


def _otherwise(seen: Observation) -> Condition:
    """Return the condition if no pod reports a problem or an unfinished model."""
    faults = [fault for fault in needed(seen.refused) if fault.kind in USED]
    if faults:
        return condition_of(_TYPE, faults, status=False)
    if seen.withheld:
        return Condition(_TYPE, False, EndpointReason.PAUSED, _paused(seen))
    if seen.ready_replicas:
        message = "The Service for clients does not exist yet. The operator creates it."
        return Condition(_TYPE, False, EndpointReason.STARTING, message)
    message = (
        "No replica is ready yet, and none reports a reason. If this does not change, check the events of the pods."
    )
    return Condition(_TYPE, False, EndpointReason.STARTING, message)


def _paused(seen: Observation) -> str:
    """Return a message that promises no write of the operator."""
    state = (
        "The Service for clients does not exist." if seen.ready_replicas else "No replica is ready, and none says why."
    )
    return (
        f"{state} The operator does not write {in_short(seen.withheld, ', ')}, because the annotation "
        f"{PAUSED_ANNOTATION} of this endpoint is true. Remove the annotation to resume."
    )
