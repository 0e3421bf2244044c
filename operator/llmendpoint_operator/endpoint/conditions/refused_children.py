"""The refused children of an endpoint. Several conditions use them."""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.contracts.cluster import EndpointCondition, FaultReason
from llmendpoint_operator.cluster.kinds import KINDS
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.kube.conditions import Condition
from llmendpoint_operator.kube.fault import Fault


def is_lacking_kind(fault: Fault) -> bool:
    """Return whether a child was refused because the cluster does not have its kind, which is optional."""
    return fault.reason is FaultReason.UNKNOWN_KIND and KINDS[fault.kind].optional


def faults(seen: Observation) -> list[Fault]:
    """Return the refused children that the endpoint requires. Name conflicts come first."""
    needed = [fault for fault in seen.refused if not is_lacking_kind(fault)]
    return sorted(needed, key=lambda fault: fault.reason is not FaultReason.NAME_CONFLICT)


def name_conflicts(seen: Observation) -> list[Fault]:
    """Return the children whose names are used by other objects."""
    return [fault for fault in faults(seen) if fault.reason is FaultReason.NAME_CONFLICT]


def refused(condition: EndpointCondition, found: Sequence[Fault], *, status: bool) -> Condition:
    """Return a condition with the reason of the first fault and the messages of all faults."""
    return Condition(condition, status, found[0].reason, "; ".join(fault.message for fault in found))
