"""The kinds that the dashboard watches."""

from __future__ import annotations

from llmendpoint_dashboard.cluster.kinds import ENDPOINTS, SLICES, TABLE, rules


def test_paths_are_those_of_the_api() -> None:
    assert ENDPOINTS.path("") == "/apis/llmendpoint.dev/v1alpha1/llmendpoints"
    assert SLICES.path("team-a") == "/apis/discovery.k8s.io/v1/namespaces/team-a/endpointslices"


def test_only_slices_of_headless_services_are_watched() -> None:
    assert SLICES.query == (("labelSelector", "app.kubernetes.io/managed-by=llmendpoint,llmendpoint.dev/scrape=true"),)
    assert ENDPOINTS.query == ()


def test_the_rules_allow_to_list_and_watch_each_kind_and_nothing_else() -> None:
    found = rules()
    assert all(rule["verbs"] == ["list", "watch"] for rule in found)
    granted = {(rule["apiGroups"][0], name) for rule in found for name in rule["resources"]}
    assert granted == {(kind.group, kind.plural) for kind in TABLE}
