"""Affinity and topology spread constraints of the pods of an LLMEndpoint or a LoadTest.

If a constraint has no label selector, it gets that of the owner's pods. A node has to satisfy the affinity of the spec
and the GPU products together.
"""

from __future__ import annotations

from llmendpoint_common.api.scheduling import Affinity, PodAffinity, PodAffinityTerm, TopologySpreadConstraint
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.kube.pod_fields import manifest_of

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def affinity_of(given: Affinity, own_pods: dict[str, str]) -> Manifest:
    """Return an affinity. `own_pods` are the labels of the owner's pods."""
    made = {
        "nodeAffinity": manifest_of(given.node_affinity) if given.node_affinity else {},
        "podAffinity": _pod_affinity(given.pod_affinity, own_pods),
        "podAntiAffinity": _pod_affinity(given.pod_anti_affinity, own_pods),
    }
    return {name: value for name, value in made.items() if value}


def with_node_requirement(affinity: Manifest, requirement: Manifest) -> Manifest:
    """Return an affinity with one more requirement on the labels of nodes.

    One term of a node selector has to hold, so each term gets the requirement.
    """
    nodes = affinity.get("nodeAffinity", {})
    terms = nodes.get(_REQUIRED, {}).get("nodeSelectorTerms", [{}])
    extended = [{**term, "matchExpressions": [*term.get("matchExpressions", []), requirement]} for term in terms]
    return {**affinity, "nodeAffinity": {**nodes, _REQUIRED: {"nodeSelectorTerms": extended}}}


def spread_constraint(given: TopologySpreadConstraint, own_pods: dict[str, str]) -> Manifest:
    """Return a topology spread constraint."""
    return {"labelSelector": {"matchLabels": own_pods}, **manifest_of(given)}


def _pod_affinity(given: PodAffinity | None, own_pods: dict[str, str]) -> Manifest:
    if given is None:
        return {}
    made = {
        _REQUIRED: [_term(term, own_pods) for term in given.required_during_scheduling_ignored_during_execution],
        _PREFERRED: [
            {"weight": item.weight, "podAffinityTerm": _term(item.pod_affinity_term, own_pods)}
            for item in given.preferred_during_scheduling_ignored_during_execution
        ],
    }
    return {name: terms for name, terms in made.items() if terms}


def _term(term: PodAffinityTerm, own_pods: dict[str, str]) -> Manifest:
    return {"labelSelector": {"matchLabels": own_pods}, **manifest_of(term)}
