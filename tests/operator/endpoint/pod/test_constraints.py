"""Affinity and topology spread constraints of an endpoint's pods."""

from __future__ import annotations

from typing import Any

from support.in_memory.endpoints import pod

REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
OWN = {"matchLabels": {"llmendpoint.dev/endpoint": "assistant", "app.kubernetes.io/component": "endpoint"}}
PRODUCT = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["X"]}
ZONE = {"key": "zone", "operator": "In", "values": ["a"]}


def affinity(given: dict[str, Any], **spec: Any) -> Any:
    return pod(pod={"affinity": given}, **spec).get("affinity")


def nodes(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [*terms]}}}


def test_a_node_has_to_satisfy_the_affinity_and_the_products() -> None:
    # One term has to hold, so each of them needs the products.
    field = {"key": "metadata.name", "operator": "In", "values": ["n"]}
    given = nodes({"matchExpressions": [ZONE]}, {"matchFields": [field]})
    assert affinity(given, gpu={"products": ["X"]}) == nodes(
        {"matchExpressions": [ZONE, PRODUCT]}, {"matchFields": [field], "matchExpressions": [PRODUCT]}
    )
    assert affinity(given) == given


def test_preferences_of_nodes_stay_beside_the_products() -> None:
    preferred = {PREFERRED: [{"weight": 1, "preference": {"matchExpressions": [ZONE]}}]}
    made = affinity({"nodeAffinity": preferred}, gpu={"products": ["X"]})
    assert made == {"nodeAffinity": {**preferred, **nodes({"matchExpressions": [PRODUCT]})["nodeAffinity"]}}


def test_a_term_without_a_selector_is_about_the_pods_of_the_endpoint() -> None:
    host = {"topologyKey": "kubernetes.io/hostname"}
    given = {"podAntiAffinity": {REQUIRED: [host], PREFERRED: [{"weight": 5, "podAffinityTerm": host}]}}
    own = {"labelSelector": OWN, **host}
    assert affinity(given) == {"podAntiAffinity": {REQUIRED: [own], PREFERRED: [{"weight": 5, "podAffinityTerm": own}]}}


def test_an_empty_selector_selects_everything() -> None:
    term = {"topologyKey": "zone", "labelSelector": {}, "namespaceSelector": {}}
    assert affinity({"podAffinity": {REQUIRED: [term]}}) == {"podAffinity": {REQUIRED: [term]}}


def test_an_empty_affinity_is_left_out() -> None:
    assert affinity({"podAffinity": {}, "podAntiAffinity": {REQUIRED: []}}) is None


def test_spreading_counts_the_pods_of_the_endpoint_unless_it_selects_others() -> None:
    given = {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    others = {
        **given,
        "topologyKey": "host",
        "labelSelector": {"matchLabels": {"a": "b"}},
        "maxSkew": 3,
        "minDomains": 2,
    }
    made = pod(pod={"topologySpreadConstraints": [given, others]})["topologySpreadConstraints"]
    assert made == [{"labelSelector": OWN, "maxSkew": 1, **given}, others]
    assert "topologySpreadConstraints" not in pod()
