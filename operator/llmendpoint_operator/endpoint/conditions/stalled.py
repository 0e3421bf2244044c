"""Stalled: nothing will change until a person changes the spec, an object of the cluster, or the policy."""

from __future__ import annotations

from llmendpoint_common.api.endpoint import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_common.contracts.sidecar import ModelReason
from llmendpoint_operator.endpoint.conditions.model_reports import first_failure
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.kube.conditions import Condition
from llmendpoint_operator.kube.fault import condition_of, name_conflicts
from llmendpoint_operator.policy.rules import sentences

_TYPE = EndpointCondition.STALLED
_OF_THE_SPEC: frozenset[str] = frozenset({ModelReason.MODEL_NOT_FOUND, ModelReason.DIGEST_MISMATCH})


def stalled(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    """Return the condition. A spec that cannot be parsed is reported without an observation (`InvalidSpec`)."""
    if seen.forbidden:
        return Condition(_TYPE, True, EndpointReason.POLICY_VIOLATION, sentences(seen.forbidden))
    conflicts = name_conflicts(seen.refused)
    if conflicts:
        return condition_of(_TYPE, conflicts, status=True)
    failed = first_failure(seen.pods, _OF_THE_SPEC)
    if failed is not None:
        return Condition(_TYPE, True, failed.reason, failed.message)
    return Condition(_TYPE, False, EndpointReason.NOT_STALLED, "Nothing is waiting for a person.")
