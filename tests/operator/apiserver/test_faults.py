"""Refusals of a real API server: the other children and the status are written, and the refused child is retried."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from support.api_server.apiclient import Client
from support.api_server.manifests import endpoint
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("operator")

ALL = {
    "ConfigMap/assistant", "Service/assistant", "Service/assistant-pods", "ServiceAccount/assistant", "StatefulSet/assistant",
    "NetworkPolicy/assistant",
}  # fmt: skip

#: The schema of an LLMEndpoint does not contain all rules for the names of resources.
BAD_RESOURCE = {"resources": {"limits": {"a.example/b/c": 1}}}


def degraded(api: Any) -> tuple[str, str]:
    status, reason = api.conditions(LLMENDPOINT, "assistant").get("Degraded", ("", ""))
    return status, reason


def message(api: Any) -> str:
    rows = api.get(LLMENDPOINT, "assistant")["status"]["conditions"]
    return str(next(row["message"] for row in rows if row["type"] == "Degraded"))


def quota(services: str) -> dict[str, Any]:
    # The controller that fills in the status is not part of an API server.
    spec = {"hard": {"services": services}}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": spec}


def test_an_exhausted_quota(api: Any) -> None:
    api.apply(quota("1"))
    api.apply_status({**quota("1"), "status": {"hard": {"services": "1"}, "used": {"services": "0"}}})
    api.apply(endpoint("assistant"))
    wait_until(lambda: degraded(api) == ("True", "QuotaExceeded"))
    assert "exceeded quota: q, requested: services=1" in message(api)
    assert "Raise the ResourceQuota" in message(api)
    assert len(ALL - api.children().keys()) == 1
    api.delete("ResourceQuota", "q")
    wait_until(lambda: api.children().keys() == ALL)
    wait_until(lambda: degraded(api)[1] == "ReplicasUnavailable")


def test_an_admission_policy(api: Any) -> None:
    group = "admissionregistration.k8s.io/v1"
    policy = {"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": api.namespace}, "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"],
                                                "resources": ["statefulsets"]}]},
        "validations": [{"expression": "false", "message": "no GPUs on Fridays"}],
    }}  # fmt: skip
    selector = {"matchLabels": {"kubernetes.io/metadata.name": api.namespace}}
    binding = {"apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": api.namespace},
               "spec": {"policyName": api.namespace, "validationActions": ["Deny"],
                        "matchResources": {"namespaceSelector": selector}}}  # fmt: skip
    api.client.apply(policy)
    api.client.apply(binding)
    probe = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "probe"}, "spec": {
        "serviceName": "probe", "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}}}  # fmt: skip

    def is_enforced() -> bool:
        """Return whether the API server enforces the policy, which it does shortly after its creation."""
        api.delete_if_there("StatefulSet", "probe")
        return bool(api.is_refused(probe))

    wait_until(is_enforced)
    api.apply(endpoint("assistant"))
    wait_until(lambda: degraded(api) == ("True", "AdmissionDenied"))
    assert "no GPUs on Fridays" in message(api)
    assert api.children().keys() == ALL - {"StatefulSet/assistant"}
    api.client.delete("ValidatingAdmissionPolicyBinding", "", api.namespace)
    wait_until(lambda: api.children().keys() == ALL)


def may_not_patch(operators: Client, namespace: str) -> bool:
    """Return whether the API server says that the operator may not patch Services."""
    try:
        return not operators.may("patch", "services", namespace)
    except ApiException:
        return False


def test_a_permission_that_was_taken_away(api: Any, control_plane: Any) -> None:
    """If the operator's role loses a verb for one kind, the other children are written, except those that need it."""
    role = api.client.get("ClusterRole", "", "llmendpoint")
    trimmed = [
        {**rule, "resources": [resource for resource in rule["resources"] if resource != "services"]} for rule in role["rules"]
    ]  # fmt: skip
    trimmed.append(
        {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch", "create", "delete"]}
    )
    api.client.patch("ClusterRole", "", "llmendpoint", {"rules": trimmed})
    operators = Client(control_plane.operator)
    try:
        # The API server applies the new rules after a moment, and at its start it lacks its own default roles.
        wait_until(lambda: may_not_patch(operators, api.namespace))
        api.apply(endpoint("assistant"))
        wait_until(lambda: degraded(api) == ("True", "Forbidden"))
        assert 'cannot patch resource "services"' in message(api)
        assert "Until then, StatefulSet/assistant will not be written." in message(api)
        assert api.children().keys() == {"ConfigMap/assistant", "ServiceAccount/assistant", "NetworkPolicy/assistant"}
    finally:
        api.client.patch("ClusterRole", "", "llmendpoint", {"rules": role["rules"]})
        operators.close()
    wait_until(lambda: api.children().keys() == ALL)


def test_a_namespace_that_is_being_deleted(api: Any) -> None:
    api.apply(endpoint("assistant"))
    wait_until(lambda: api.children().keys() == ALL)
    api.client.delete("Namespace", "", api.namespace)
    api.delete("Service", "assistant")
    wait_until(lambda: degraded(api) == ("True", "NamespaceTerminating"))
    assert "is being terminated" in message(api)


def test_a_spec_that_the_api_server_finds_invalid(api: Any) -> None:
    api.apply(endpoint("assistant", ollama=BAD_RESOURCE))
    wait_until(lambda: degraded(api) == ("True", "Invalid"))
    assert "a.example/b/c" in message(api)
    assert api.children().keys() == ALL - {"StatefulSet/assistant"}
    api.apply(endpoint("assistant"))
    wait_until(lambda: api.children().keys() == ALL, 2)


def test_one_refused_endpoint_delays_no_other(api: Any) -> None:
    for index in range(20):
        api.apply(endpoint(f"refused-{index}", ollama=BAD_RESOURCE))
    wait_until(lambda: api.conditions(LLMENDPOINT, "refused-19").get("Degraded") == ("True", "Invalid"))
    api.apply(endpoint("assistant"))
    wait_until(lambda: api.children().keys() >= ALL, 2)
