"""The ServiceAccount and permissions of a load pod, which may only patch the ConfigMap that receives its result."""

from __future__ import annotations

from llmendpoint_operator.kube.owner import Manifest, Owner


def identity_name(owner: Owner) -> str:
    """Return the name of the ServiceAccount, Role and RoleBinding."""
    return f"{owner.name}-load"


def result_name(owner: Owner) -> str:
    """Return the name of the ConfigMap that receives the result of the first pod of the run."""
    return f"{owner.name}-result-0"


def access(owner: Owner) -> list[Manifest]:
    """Return the result ConfigMap, and the ServiceAccount, Role and RoleBinding that allow the pod to patch it."""
    name = identity_name(owner)
    return [
        owner.child("ConfigMap", result_name(owner), "result"),
        {
            **owner.child("ServiceAccount", name, "load"),
            "automountServiceAccountToken": False,
        },
        {
            **owner.child("Role", name, "load"),
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
            **owner.child("RoleBinding", name, "load"),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": owner.namespace}],
        },
    ]
