"""The kinds that the operator reads and writes, as lightkube's generic resources: plain dicts, no models."""

from __future__ import annotations

from typing import Any

from lightkube.generic_resource import GenericNamespacedResource, create_namespaced_resource

from llmendpoint_common.contracts.cluster import GROUP, VERSION

_KINDS = (
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "Event", "events"),
    ("", "v1", "Pod", "pods"),
    ("", "v1", "Service", "services"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("batch", "v1", "Job", "jobs"),
    ("rbac.authorization.k8s.io", "v1", "Role", "roles"),
    ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
    ("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors"),
    (GROUP, VERSION, "LLMEndpoint", "llmendpoints"),
    (GROUP, VERSION, "LoadTest", "loadtests"),
)

RESOURCES: dict[str, type[GenericNamespacedResource]] = {
    kind: create_namespaced_resource(group, version, kind, plural) for group, version, kind, plural in _KINDS
}


def resource(kind: str) -> Any:
    """Return the class by which lightkube addresses a kind."""
    return RESOURCES[kind]
