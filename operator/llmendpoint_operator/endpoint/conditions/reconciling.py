"""Reconciling: the spec is not applied completely, or replicas still differ from it.

The name and the meaning are those of kstatus: a tool waits as long as it is True. It is False if a person has to act,
because then nothing changes until somebody does (Stalled).
"""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import PAUSED_ANNOTATION, EndpointCondition, EndpointReason
from llmendpoint_operator.endpoint.conditions.model_reports import activity, unfinished
from llmendpoint_operator.endpoint.conditions.stalled import stalled
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.kube.conditions import Condition
from llmendpoint_operator.kube.fault import needed
from llmendpoint_operator.kube.unwatched import required, sentence

_TYPE = EndpointCondition.RECONCILING
_PAUSED = (
    f"The operator writes no object of this endpoint, because its annotation {PAUSED_ANNOTATION} is true. Remove the "
    "annotation to resume."
)
_SHOWN = 3
_ZERO_REPLICAS = "Set spec.replicas to 1 or more to start pods."
_ZERO_BY_OTHERS = (
    "Its autoscaler starts pods again. If KEDA is paused, remove the annotations autoscaling.keda.sh/paused and "
    "autoscaling.keda.sh/paused-replicas from its ScaledObject."
)


def reconciling(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    """Return the condition."""
    if stalled(spec, seen).status:
        message = "The operator cannot continue until a person acts. The condition Stalled says what to do."
        return Condition(_TYPE, False, EndpointReason.STALLED, message)
    return _not_applied(seen) or _applied(spec, seen)


def _not_applied(seen: Observation) -> Condition | None:
    """Return the condition if not all objects are as the spec wants them."""
    lost = required(seen.unwatched)
    if lost:
        message = f"It is not known whether the spec is applied. {sentence(lost)}"
        return Condition(_TYPE, True, EndpointReason.NOT_WATCHED, message)
    faults = needed(seen.refused)
    if faults:
        refused = " and ".join(fault.child for fault in faults)
        message = f"The spec is not applied completely: {refused} cannot be written. The condition Degraded says why."
        return Condition(_TYPE, True, EndpointReason.NOT_APPLIED, message)
    if seen.withheld:
        return Condition(_TYPE, True, EndpointReason.PAUSED, f"{_PAUSED} Not written: {in_short(seen.withheld, ', ')}.")
    if seen.resizing:
        return Condition(_TYPE, True, EndpointReason.RESIZING, in_short(seen.resizing, " "))
    if seen.deleting:
        return _deleting(seen)
    return None


def _deleting(seen: Observation) -> Condition:
    state = f"{' and '.join(seen.deleting)} is being deleted."
    if seen.paused:
        return Condition(_TYPE, True, EndpointReason.PAUSED, f"{_PAUSED} {state}")
    message = f"{state} The operator creates it again when it is gone. Check its finalizers."
    return Condition(_TYPE, True, EndpointReason.NOT_APPLIED, message)


def _applied(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    complete = seen.replicas == seen.ready_replicas == seen.wanted(spec)
    if complete and seen.up_to_date:
        return _change_of_models(seen) or _settled(spec, seen)
    if not seen.wanted(spec):
        return Condition(_TYPE, True, EndpointReason.ROLLING_OUT, _on_the_way_to_zero(seen.replicas))
    counts = f"{seen.ready_replicas} of {seen.wanted(spec)} replicas are ready, and {seen.replicas} pods exist."
    message = f"{counts} Not all of them have the latest pod template yet." if complete else counts
    return Condition(_TYPE, True, EndpointReason.ROLLING_OUT, message)


def _on_the_way_to_zero(pods: int) -> str:
    if not pods:
        return "The endpoint is being scaled to zero: the StatefulSet does not show it yet."
    return f"The endpoint is being scaled to zero: {pods} {'pod still exists' if pods == 1 else 'pods still exist'}."


def _change_of_models(seen: Observation) -> Condition | None:
    """Return the condition while replicas that are ready do not have the latest configuration or models yet."""
    unread = [pod.name for pod in seen.pods if pod.outdated]
    if unread:
        message = (
            f"{', '.join(unread)}: the metering sidecar has not read the latest configuration yet. Kubernetes updates "
            "it within about a minute. If it takes longer, see the log of the container metering."
        )
        return Condition(_TYPE, True, EndpointReason.ROLLING_OUT, message)
    model = unfinished(seen.pods)
    return Condition(_TYPE, True, EndpointReason.CHANGING_MODELS, activity(model)) if model else None


def in_short(items: Sequence[str], separator: str) -> str:
    """Return the first items, and the number of the others."""
    rest = len(items) - _SHOWN
    return separator.join(items[:_SHOWN]) + (f" ({rest} more)" if rest > 0 else "")


def _settled(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    if seen.paused:
        return Condition(_TYPE, False, EndpointReason.PAUSED, f"{_PAUSED} At present, there is nothing to write.")
    if not seen.wanted(spec):
        advice = _ZERO_REPLICAS if spec.autoscaling is None else _ZERO_BY_OTHERS
        message = f"The endpoint is scaled to zero: no pod exists, and no request is answered. {advice}"
        return Condition(_TYPE, False, EndpointReason.SCALED_TO_ZERO, message)
    return Condition(_TYPE, False, EndpointReason.SETTLED, "All replicas are ready and match the spec.")
