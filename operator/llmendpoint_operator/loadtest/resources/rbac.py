"""The ServiceAccount and permissions of the load pods, which may only patch the ConfigMaps that receive their results.

Kubernetes knows one ServiceAccount per Job, so with several pods, each one may also patch the result ConfigMaps of the
others of the same run, and no other object (docs/decisions/0042-load-tests-on-a-cluster.md).
"""

from __future__ import annotations

from llmendpoint_operator.kube.owner import Manifest, Owner


def identity_name(owner: Owner) -> str:
    """Return the name of the ServiceAccount, Role and RoleBinding."""
    return f"{owner.name}-load"


def result_name(owner: Owner, index: int | str = 0) -> str:
    """Return the name of the ConfigMap that receives the result of a pod of the run."""
    return f"{owner.name}-result-{index}"


def access(owner: Owner, pods: int = 1) -> list[Manifest]:
    """Return the result ConfigMaps, and the ServiceAccount, Role and RoleBinding that allow the pods to patch them."""
    name, maps = identity_name(owner), [result_name(owner, index) for index in range(pods)]
    return [
        *(owner.child("ConfigMap", item, "result") for item in maps),
        {
            **owner.child("ServiceAccount", name, "load"),
            "automountServiceAccountToken": False,
        },
        {
            **owner.child("Role", name, "load"),
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": maps, "verbs": ["patch"]}],
        },
        {
            **owner.child("RoleBinding", name, "load"),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": owner.namespace}],
        },
    ]
