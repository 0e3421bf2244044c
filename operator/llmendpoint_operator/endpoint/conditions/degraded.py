"""Degraded: the endpoint serves less, or is less looked after, than the spec says.

Fewer replicas than desired are ready, Ollama is hung on one, replicas have different versions of a model, a child was
refused or cannot be watched, or the number of pods should follow the load, but does not. The message names the causes.

If the cluster does not have the kind ServiceMonitor, the endpoint is not degraded. MonitoringReady reports this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_operator.endpoint.conditions.causes import causes, in_words
from llmendpoint_operator.endpoint.conditions.model_reports import different_digests, hung
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.kube.conditions import Condition
from llmendpoint_operator.kube.fault import condition_of, needed
from llmendpoint_operator.kube.unwatched import required, sentence

_TYPE = EndpointCondition.DEGRADED
_UNSEEN = "{} Until then, the operator neither sees nor repairs changes of these objects."


def degraded(spec: LLMEndpointSpec, seen: Observation) -> Condition:
    """Return the condition."""
    lost, faults = required(seen.unwatched), needed(seen.refused)
    if lost:
        message = " ".join([_UNSEEN.format(sentence(lost)), *(fault.message for fault in faults)])
        return Condition(_TYPE, True, EndpointReason.NOT_WATCHED, message)
    if faults:
        return condition_of(_TYPE, faults, status=True)
    stalled = hung(seen.pods)
    if stalled:
        return Condition(_TYPE, True, EndpointReason.OLLAMA_HUNG, stalled)
    return _of_the_replicas(seen, seen.wanted(spec))


def _of_the_replicas(seen: Observation, wanted: int) -> Condition:
    if seen.ready_replicas < wanted:
        return _unavailable(seen, wanted)
    different = different_digests(seen.pods)
    if different:
        return Condition(_TYPE, True, EndpointReason.DIGESTS_DIFFER, _versions(different))
    if seen.autoscaling:
        return Condition(_TYPE, True, EndpointReason.AUTOSCALING_UNAVAILABLE, seen.autoscaling)
    replicas = "All desired replicas are ready to serve requests" if wanted else "No replica is desired"
    message = f"{replicas}, and all children are applied."
    return Condition(_TYPE, False, EndpointReason.AS_WANTED, message)


def _unavailable(seen: Observation, wanted: int) -> Condition:
    counts = f"{seen.ready_replicas} of {wanted} replicas are ready to serve requests."
    found = causes(seen)
    if found:
        return Condition(_TYPE, True, found[0].reason, f"{counts} {in_words(found)}")
    message = f"{counts} If this does not change, check the events of the StatefulSet and of its pods."
    return Condition(_TYPE, True, EndpointReason.REPLICAS_UNAVAILABLE, message)


def _versions(different: Mapping[str, Sequence[str]]) -> str:
    shown = "; ".join(f"{name} has the digests {' and '.join(digests)}" for name, digests in different.items())
    return (
        f"Replicas have different versions of a model, so the same request can have different answers: {shown}. Set "
        "spec.models[].digest to one of them; replicas with another one pull the model again."
    )
