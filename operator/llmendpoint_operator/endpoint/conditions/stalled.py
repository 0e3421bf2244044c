"""Stalled: nothing will change until a person changes the spec, an object of the cluster, or the policy.

Not every refusal is final. The operator tries all of them again, but only an invalid object and a name conflict are
sure to be refused again (docs/decisions/0024-what-a-status-says.md).
"""

from __future__ import annotations

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_common.contracts.sidecar import ModelReason
from llmendpoint_operator.endpoint.conditions.model_reports import first_failure
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.kube.conditions import Condition
from llmendpoint_operator.kube.fault import condition_of, final
from llmendpoint_operator.policy.rules import sentences

_TYPE = EndpointCondition.STALLED
_OF_THE_SPEC: frozenset[str] = frozenset(
    {ModelReason.MODEL_NOT_FOUND, ModelReason.FILE_NOT_READABLE, ModelReason.DIGEST_MISMATCH}
)


def stalled(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    """Return the condition. A spec that cannot be parsed is reported without an observation (`InvalidSpec`)."""
    if seen.forbidden:
        return Condition(_TYPE, True, EndpointReason.POLICY_VIOLATION, sentences(seen.forbidden))
    if seen.invalid:
        return Condition(_TYPE, True, EndpointReason.INVALID_SPEC, seen.invalid)
    faults = final(seen.refused)
    if faults:
        return condition_of(_TYPE, faults, status=True)
    failed = first_failure(seen.pods, _OF_THE_SPEC)
    if failed is not None:
        return Condition(_TYPE, True, failed.reason, failed.message)
    if seen.stuck is not None:
        return Condition(_TYPE, True, seen.stuck.reason, seen.stuck.message)
    return Condition(_TYPE, False, EndpointReason.NOT_STALLED, "Nothing is waiting for a person.")
