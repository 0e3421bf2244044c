"""Who a load pod is: it may patch the one ConfigMap that takes its result, and nothing else."""

from __future__ import annotations

from llmendpoint_common.contracts.cluster import LOADTEST_LABEL
from llmendpoint_operator.kube.labels import child_labels
from llmendpoint_operator.kube.owner import Manifest, Owner


def identity_name(owner: Owner) -> str:
    """Return the name of the ServiceAccount, Role and RoleBinding."""
    return f"{owner.name}-load"


def result_name(owner: Owner) -> str:
    """Return the name of the ConfigMap that takes the result of the run's first pod."""
    return f"{owner.name}-result-0"


def access(owner: Owner) -> list[Manifest]:
    """Return the result ConfigMap and the rights to patch it."""
    labels = child_labels(LOADTEST_LABEL, owner.name, "load")
    name = identity_name(owner)
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": owner.metadata(result_name(owner), child_labels(LOADTEST_LABEL, owner.name, "result")),
        },
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": owner.metadata(name, labels),
            "automountServiceAccountToken": False,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": owner.metadata(name, labels),
            "rules": [
                {
                    "apiGroups": [""],
                    "resources": ["configmaps"],
                    "resourceNames": [result_name(owner)],
                    "verbs": ["patch"],
                }
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": owner.metadata(name, labels),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": owner.namespace}],
        },
    ]
