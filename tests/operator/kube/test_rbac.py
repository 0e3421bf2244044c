"""The operator's RBAC rules: the verbs that the table of kinds requires, and no others.

The API tests run the operator with only these rules, so they fail if a verb is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from llmendpoint_operator.cluster.kinds import TABLE, Kind, Role, watched
from llmendpoint_operator.kube.rbac import cluster_rules, namespace_rules, own_rules

ROOT = Path(__file__).parents[3]
WATCH = ("list", "watch")
APPLY = ("get", *WATCH, "create", "patch")
WRITE = (*APPLY, "delete")
LEASES = ("coordination.k8s.io", "leases")
LEASE_VERBS = ("get", *WATCH, "create", "update")
#: All permissions of the operator. A change of this table changes the permissions of the operator in a cluster.
RIGHTS = {
    ("llmendpoint.dev", "llmendpoints"): WATCH,
    ("llmendpoint.dev", "llmendpoints/status"): ("patch",),
    ("llmendpoint.dev", "llmendpoints/finalizers"): ("update",),
    ("llmendpoint.dev", "loadtests"): (*WATCH, "create", "delete"),
    ("llmendpoint.dev", "loadtests/status"): ("patch",),
    ("llmendpoint.dev", "loadtests/finalizers"): ("update",),
    ("llmendpoint.dev", "loadtestschedules"): WATCH,
    ("llmendpoint.dev", "loadtestschedules/status"): ("patch",),
    ("llmendpoint.dev", "loadtestschedules/finalizers"): ("update",),
    ("", "configmaps"): WRITE,
    ("", "services"): WRITE,
    ("", "serviceaccounts"): WRITE,
    ("", "pods"): WATCH,
    ("", "persistentvolumeclaims"): ("get", "list", "watch", "patch"),
    ("", "events"): ("create", *WATCH),
    ("apps", "statefulsets"): WRITE,
    ("policy", "poddisruptionbudgets"): WRITE,
    ("autoscaling", "horizontalpodautoscalers"): WRITE,
    ("keda.sh", "scaledobjects"): WRITE,
    ("networking.k8s.io", "networkpolicies"): WRITE,
    ("networking.k8s.io", "ingresses"): WRITE,
    ("gateway.networking.k8s.io", "httproutes"): WRITE,
    ("batch", "jobs"): WRITE,
    ("rbac.authorization.k8s.io", "roles"): APPLY,
    ("rbac.authorization.k8s.io", "rolebindings"): WRITE,
    ("monitoring.coreos.com", "servicemonitors"): WRITE,
    ("monitoring.coreos.com", "podmonitors"): WRITE,
    ("monitoring.coreos.com", "prometheuses"): WATCH,
}


def granted(rules: Iterable[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """Return each permission as group, resource and verb."""
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def rights(rules: Iterable[dict[str, Any]]) -> dict[tuple[str, str], set[str]]:
    """Return the verbs by group and resource."""
    found: dict[tuple[str, str], set[str]] = {}
    for group, resource, verb in granted(rules):
        found.setdefault((group, resource), set()).add(verb)
    return found


def test_the_rules_of_a_cluster_wide_operator_are_these_and_no_verb_more() -> None:
    assert rights(cluster_rules()) == {name: set(verbs) for name, verbs in RIGHTS.items()} | {
        LEASES: {*WATCH, "update"}
    }
    # It creates a Lease only in its own namespace, and takes over those that others have left in their namespaces.
    assert rights(own_rules(cluster_wide=True)) == {("", "configmaps"): {"list"}, LEASES: {"create"}}


def test_an_operator_that_is_limited_to_namespaces_sees_nothing_outside_of_them() -> None:
    outside = {("monitoring.coreos.com", "prometheuses")}
    expected = {name: set(verbs) for name, verbs in RIGHTS.items() if name not in outside} | {LEASES: set(LEASE_VERBS)}
    assert rights(namespace_rules()) == expected
    assert rights(own_rules(cluster_wide=False)) == {("", "configmaps"): {"list"}, ("", "events"): {"create"}}


def test_no_rule_has_a_wildcard() -> None:
    assert "*" not in str([cluster_rules(), namespace_rules(), own_rules(cluster_wide=True)])


def test_the_plain_install_has_them() -> None:
    documents = list(yaml.safe_load_all((ROOT / "manifests/install.yaml").read_text()))
    (cluster,) = [document for document in documents if document["kind"] == "ClusterRole"]
    (own,) = [document for document in documents if document["kind"] == "Role"]
    assert (cluster["rules"], own["rules"]) == (cluster_rules(), own_rules(cluster_wide=True))


def test_kinds_of_the_same_group_and_verbs_share_a_rule() -> None:
    table = [Kind("g", "v1", name, f"{name}s", Role.OBSERVED, verbs=verbs) for name, verbs in
             (("a", WATCH), ("b", ("create",)), ("c", WATCH))]  # fmt: skip
    assert cluster_rules(table) == [
        {"apiGroups": ["g"], "resources": ["as", "cs"], "verbs": list(WATCH)},
        {"apiGroups": ["g"], "resources": ["bs"], "verbs": ["create"]},
    ]


def test_every_kind_of_the_table_has_a_right() -> None:
    resources = {resource for rule in cluster_rules() for resource in rule["resources"]}
    assert {kind.plural for kind in TABLE} <= resources


def test_what_an_operator_watches_is_what_it_may_watch() -> None:
    for scope, rules in (("", cluster_rules()), ("a", namespace_rules())):
        may = {resource for resource, verbs in rights(rules).items() if {"list", "watch"} <= verbs}
        assert may == {(kind.group, kind.plural) for kind in watched(scope)}
