"""RBAC rules of the operator, derived from the table of kinds. `make generate` writes them into the chart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from llmendpoint_operator.cluster.kinds import TABLE, Kind, Role

PolicyRule: TypeAlias = dict[str, list[str]]


def operator_rules(table: Iterable[Kind] = TABLE) -> list[PolicyRule]:
    """Return the rules of the operator's ClusterRole: one per API group and set of verbs.

    The operator also patches `status` of its own resources. If the admission plugin
    OwnerReferencesPermissionEnforcement is enabled, setting `blockOwnerDeletion` in a child's owner reference requires
    `update` on the owner's `finalizers`. The operator sets no finalizers.
    """
    grants: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for kind in table:
        for resource, verbs in _needs(kind):
            grants.setdefault((kind.group, verbs), []).append(resource)
    return [
        {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}
        for (group, verbs), resources in grants.items()
    ]


def _needs(kind: Kind) -> list[tuple[str, tuple[str, ...]]]:
    """Return the resources and subresources of a kind that the operator uses, each with its verbs."""
    needs = [(kind.plural, kind.verbs)]
    if kind.role is Role.RESOURCE:
        needs += [(f"{kind.plural}/status", ("patch",)), (f"{kind.plural}/finalizers", ("update",))]
    return needs
