"""Admission policies of a real API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from support.waiting import wait_until

_GROUP = "admissionregistration.k8s.io/v1"


@contextmanager
def refused(
    api: Any, operation: str, group: str, resource: str, message: str, is_refused: Callable[[], bool]
) -> Iterator[None]:
    """Refuse an operation on a resource in the namespace of the test.

    A new policy takes effect after a moment. `is_refused` tries the operation.
    """
    api.client.apply({
        "apiVersion": _GROUP, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": api.namespace},
        "spec": {"failurePolicy": "Fail", "validations": [{"expression": "false", "message": message}],
                 "matchConstraints": {"resourceRules": [{"apiGroups": [group], "apiVersions": ["*"],
                                                         "operations": [operation], "resources": [resource]}]}},
    })  # fmt: skip
    selector = {"matchLabels": {"kubernetes.io/metadata.name": api.namespace}}
    api.client.apply({
        "apiVersion": _GROUP, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": api.namespace},
        "spec": {"policyName": api.namespace, "validationActions": ["Deny"],
                 "matchResources": {"namespaceSelector": selector}},
    })  # fmt: skip
    wait_until(is_refused)
    yield
    for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
        if api.client.get(kind, "", api.namespace):
            api.client.delete(kind, "", api.namespace)
