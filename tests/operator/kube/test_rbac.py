"""The operator's RBAC rules: the verbs that the table of kinds requires, and no others.

The API tests run the operator with only these rules, so they fail if a verb is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from llmendpoint_operator.cluster.kinds import TABLE, Kind, Role
from llmendpoint_operator.kube.rbac import operator_rules

ROOT = Path(__file__).parents[3]
READ = ("get", "list", "watch")
WRITE = (*READ, "create", "patch", "delete")
#: All permissions of the operator. A change of this table changes the permissions of the operator in a cluster.
RIGHTS = {
    ("llmendpoint.dev", "llmendpoints"): READ,
    ("llmendpoint.dev", "llmendpoints/status"): ("patch",),
    ("llmendpoint.dev", "llmendpoints/finalizers"): ("update",),
    ("llmendpoint.dev", "loadtests"): (*READ, "delete"),
    ("llmendpoint.dev", "loadtests/status"): ("patch",),
    ("llmendpoint.dev", "loadtests/finalizers"): ("update",),
    ("", "configmaps"): WRITE,
    ("", "services"): WRITE,
    ("", "serviceaccounts"): WRITE,
    ("", "pods"): READ,
    ("", "events"): ("create", "list", "watch"),
    ("coordination.k8s.io", "leases"): (*READ, "create", "update"),
    ("apps", "statefulsets"): WRITE,
    ("batch", "jobs"): WRITE,
    ("rbac.authorization.k8s.io", "roles"): WRITE,
    ("rbac.authorization.k8s.io", "rolebindings"): WRITE,
    ("monitoring.coreos.com", "servicemonitors"): WRITE,
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


def test_the_rules_are_these_and_no_verb_more() -> None:
    assert granted(operator_rules()) == {(*resource, verb) for resource, verbs in RIGHTS.items() for verb in verbs}
    assert not [rule for rule in operator_rules() if "*" in str(rule)]


def test_the_shipped_cluster_role_has_them() -> None:
    documents = list(yaml.safe_load_all((ROOT / "manifests/install.yaml").read_text()))
    (role,) = [document for document in documents if document["kind"] == "ClusterRole"]
    assert role["rules"] == operator_rules()


def test_kinds_of_the_same_group_and_verbs_share_a_rule() -> None:
    table = [Kind("g", "v1", name, f"{name}s", Role.OBSERVED, verbs=verbs) for name, verbs in
             (("a", READ), ("b", ("create",)), ("c", READ))]  # fmt: skip
    assert operator_rules(table) == [
        {"apiGroups": ["g"], "resources": ["as", "cs"], "verbs": list(READ)},
        {"apiGroups": ["g"], "resources": ["bs"], "verbs": ["create"]},
    ]


def test_every_kind_of_the_table_has_a_right() -> None:
    resources = {resource for rule in operator_rules() for resource in rule["resources"]}
    assert {kind.plural for kind in TABLE} <= resources
