"""RBAC rules of the operator, derived from the table of kinds. `make generate` writes them into the chart.

role               scope of the operator    where                    rules
ClusterRole        all namespaces           cluster                  `cluster_rules`
Role NAME          some namespaces          each watched namespace   `namespace_rules`
Role NAME-own      both                     its own namespace        `own_rules`
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from llmendpoint_operator.cluster.kinds import KINDS, TABLE, Kind, Role

PolicyRule: TypeAlias = dict[str, list[str]]
#: A resource or subresource of a kind, and the verbs that the operator uses.
_Need: TypeAlias = tuple[tuple[Kind, str], tuple[str, ...]]


def cluster_rules(table: Iterable[Kind] = TABLE) -> list[PolicyRule]:
    """Return the rules of an operator that watches all namespaces.

    It watches the Leases of all operators, and takes over those of installations that have ended without giving them
    back. It creates only its own one, in its own namespace.
    """
    return _rules((resource, verbs) for kind in table for resource, verbs in _needs(kind, cluster_wide=True))


def namespace_rules(table: Iterable[Kind] = TABLE) -> list[PolicyRule]:
    """Return the rules in each namespace of an operator that watches only some.

    Such an operator has a Lease in each of these namespaces. It cannot see what is not in them.
    """
    kinds = (kind for kind in table if not kind.cluster_wide)
    return _rules((resource, verbs) for kind in kinds for resource, verbs in _needs(kind, cluster_wide=False))


def own_rules(*, cluster_wide: bool) -> list[PolicyRule]:
    """Return the rules in the operator's own namespace.

    It reads the ConfigMaps with the questions there, creates Events about its own pod and, if it watches all
    namespaces, has its Lease there.
    """
    questions: _Need = (KINDS["ConfigMap"], "configmaps"), ("list",)
    lease: _Need = (KINDS["Lease"], "leases"), ("create",)
    events: _Need = (KINDS["Event"], "events"), ("create",)
    return _rules([questions, lease if cluster_wide else events])


def _rules(needs: Iterable[_Need]) -> list[PolicyRule]:
    """Return one rule per API group and set of verbs."""
    grants: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (kind, resource), verbs in needs:
        grants.setdefault((kind.group, verbs), []).append(resource)
    return [
        {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}
        for (group, verbs), resources in grants.items()
    ]


def _needs(kind: Kind, *, cluster_wide: bool) -> list[_Need]:
    """Return the resources and subresources of a kind that the operator uses, each with its verbs.

    The operator also patches `status` of its own resources. If the admission plugin
    OwnerReferencesPermissionEnforcement is enabled, setting `blockOwnerDeletion` in a child's owner reference requires
    `update` on the owner's `finalizers`. The operator sets no finalizers.
    """
    if kind.role is Role.COORDINATED and cluster_wide:
        return [((kind, kind.plural), ("list", "watch", "update"))]
    needs = [((kind, kind.plural), kind.verbs)]
    if kind.role is Role.RESOURCE:
        needs += [((kind, f"{kind.plural}/status"), ("patch",)), ((kind, f"{kind.plural}/finalizers"), ("update",))]
    return needs
