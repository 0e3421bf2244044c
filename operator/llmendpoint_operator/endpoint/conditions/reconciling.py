"""Reconciling: pods are being created, replaced or deleted, or are not ready yet."""

from __future__ import annotations

from llmendpoint_common.api.endpoint import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.kube.conditions import Condition

_TYPE = EndpointCondition.RECONCILING


def reconciling(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    """Return the condition."""
    complete = seen.replicas == seen.ready_replicas == spec.wanted_replicas
    if complete and seen.up_to_date:
        return Condition(_TYPE, False, EndpointReason.SETTLED, "All replicas are ready and match the spec.")
    counts = f"{seen.ready_replicas} of {spec.wanted_replicas} replicas are ready, and {seen.replicas} pods exist."
    message = f"{counts} Not all of them have the latest pod template yet." if complete else counts
    return Condition(_TYPE, True, EndpointReason.ROLLING_OUT, message)
