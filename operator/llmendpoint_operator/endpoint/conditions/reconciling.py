"""Reconciling: the spec is not applied completely, or replicas still differ from it.

The name and the meaning are those of kstatus: a tool waits as long as it is True. It is False if a person has to act,
because then nothing changes until somebody does (Stalled).
"""

from __future__ import annotations

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_operator.endpoint.conditions.stalled import stalled
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.kube.conditions import Condition
from llmendpoint_operator.kube.fault import needed
from llmendpoint_operator.kube.unwatched import required, sentence

_TYPE = EndpointCondition.RECONCILING
_ZERO_REPLICAS = "Set spec.replicas to 1 or more to serve requests."
_ZERO_BY_OTHERS = (
    "Its autoscaler starts pods again. If KEDA is paused, remove the annotations autoscaling.keda.sh/paused and "
    "autoscaling.keda.sh/paused-replicas from its ScaledObject."
)


def reconciling(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    """Return the condition."""
    if stalled(spec, seen).status:
        message = "The operator cannot continue until a person acts. The condition Stalled says what to do."
        return Condition(_TYPE, False, EndpointReason.STALLED, message)
    lost = required(seen.unwatched)
    if lost:
        message = f"It is not known whether the spec is applied. {sentence(lost)}"
        return Condition(_TYPE, True, EndpointReason.NOT_WATCHED, message)
    faults = needed(seen.refused)
    if faults:
        refused = " and ".join(fault.child for fault in faults)
        message = f"The spec is not applied completely: {refused} cannot be written. The condition Degraded says why."
        return Condition(_TYPE, True, EndpointReason.NOT_APPLIED, message)
    if seen.deleting:
        names = " and ".join(seen.deleting)
        message = f"{names} is being deleted. The operator creates it again when it is gone. Check its finalizers."
        return Condition(_TYPE, True, EndpointReason.NOT_APPLIED, message)
    complete = seen.replicas == seen.ready_replicas == seen.wanted(spec)
    if complete and seen.up_to_date:
        return _settled(spec, seen)
    counts = f"{seen.ready_replicas} of {seen.wanted(spec)} replicas are ready, and {seen.replicas} pods exist."
    message = f"{counts} Not all of them have the latest pod template yet." if complete else counts
    return Condition(_TYPE, True, EndpointReason.ROLLING_OUT, message)


def _settled(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    if not seen.wanted(spec):
        advice = _ZERO_REPLICAS if spec.autoscaling is None else _ZERO_BY_OTHERS
        message = f"The endpoint is scaled to zero. {advice}"
        return Condition(_TYPE, False, EndpointReason.SCALED_TO_ZERO, message)
    return Condition(_TYPE, False, EndpointReason.SETTLED, "All replicas are ready and match the spec.")
