"""The operator's rights against its requests in all API tests: each verb is used, and nothing else is asked for.

The audit logs of the API servers have every request of the operators. `conftest.py` runs this module last.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT, LOADTEST
from llmendpoint_operator.cluster.kinds import children_of
from llmendpoint_operator.kube.rbac import cluster_rules, namespace_rules, own_rules
from support.api_server.control_plane import OPERATOR_USER, TEAM_NAMESPACE, TEAM_OPERATOR_USER
from support.api_server.manifests import endpoint, loadtest
from support.api_server.parts import part_of
from support.api_server.rights import Right, granted, requests_of, role
from support.waiting import wait_until

CLUSTER_WIDE = granted([*cluster_rules(), *own_rules(cluster_wide=True)])
IN_A_NAMESPACE = granted([*namespace_rules(), *own_rules(cluster_wide=False)])
TARGET = {"url": "http://127.0.0.1:9"}
#: A spec with a child of each kind that every cluster has.
SPEC = {
    "autoscaling": {"maxReplicas": 2},
    "disruptionBudget": {"minAvailable": 1},
    "ingress": {"host": "a.example"},
}
CHILDREN = [kind.name for kind in children_of(LLMENDPOINT) if not kind.optional]


@pytest.fixture
def team(
    control_plane: Any, make_namespace: Callable[..., Any], operator: Any, start_operator: Callable[..., Any]
) -> Iterator[Any]:
    """A namespace with an operator that has Roles in this namespace, and no other right."""
    api = make_namespace(TEAM_NAMESPACE, control_plane)
    for name, rules in (("llmendpoint", namespace_rules()), ("llmendpoint-own", own_rules(cluster_wide=False))):
        for item in role(name, TEAM_NAMESPACE, rules, TEAM_OPERATOR_USER):
            api.client.apply(item)
    operator.send_signal(signal.SIGSTOP)
    process = start_operator("--namespace", TEAM_NAMESPACE, "--own-namespace", TEAM_NAMESPACE,
                             kubeconfig=control_plane.team_operator)  # fmt: skip
    try:
        yield api
        process.terminate()
        assert process.wait(20) == 0
    finally:
        operator.send_signal(signal.SIGCONT)


def test_an_operator_with_roles_alone_serves_its_namespace(team: Any, audit_logs: list[Path]) -> None:
    team.apply(endpoint("assistant"))
    wait_until(lambda: "StatefulSet/assistant" in team.children())
    wait_until(lambda: team.conditions(LLMENDPOINT, "assistant").get("Ready") == ("False", "Starting"))
    team.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"},
                "data": {"a.yaml": "category: Coding\nquestions: []\n"}})  # fmt: skip
    team.apply(loadtest("smoke", endpointRef=None, target=TARGET, model="tiny:latest",
                        dataset={"questions": {"configMapRefs": [{"name": "mine"}]}}))  # fmt: skip
    wait_until(lambda: "Job/smoke" in team.children())
    team.delete(LLMENDPOINT, "assistant")
    team.delete(LOADTEST, "smoke")
    requests = requests_of(audit_logs, TEAM_OPERATOR_USER)
    assert Right("apps", "statefulsets", "create") in requests.allowed
    assert requests.refused == set()


@pytest.mark.parametrize("kind", CHILDREN)
def test_an_object_of_a_stranger_is_read_and_left_alone(api: Any, operator: Any, kind: str) -> None:
    api.apply(endpoint("template", **SPEC))
    wait_until(lambda: f"{kind}/template" in api.children())
    body = api.get(kind, "template")
    spec = {name: value for name, value in body.items() if name not in ("metadata", "status")}
    if kind == "Service":
        spec["spec"] = {"ports": [{"name": "http", "port": 1}]}
    uid = api.apply({**spec, "metadata": {"name": "assistant"}})["metadata"]["uid"]
    api.apply(endpoint("assistant", **SPEC))
    wait_until(lambda: api.conditions(LLMENDPOINT, "assistant").get("Degraded") == ("True", "NameConflict"))
    assert api.get(kind, "assistant")["metadata"]["uid"] == uid
    assert "ownerReferences" not in api.get(kind, "assistant")["metadata"]


@pytest.mark.parametrize("kind", CHILDREN)
def test_a_child_that_an_older_operator_named_differently_is_deleted(api: Any, operator: Any, kind: str) -> None:
    api.apply(endpoint("assistant", **SPEC))
    wait_until(lambda: f"{kind}/assistant" in api.children())
    body = api.get(kind, "assistant")
    metadata = {"name": "assistant-before", **{name: body["metadata"][name] for name in ("labels", "ownerReferences")}}
    spec = {name: value for name, value in body.items() if name not in ("metadata", "status")}
    if kind == "Service":
        spec["spec"] = {"ports": [{"name": "http", "port": 1}]}
    api.apply({**spec, "metadata": metadata})
    wait_until(lambda: api.get(kind, "assistant-before") is None)


@pytest.mark.parametrize("kind", ["Role", "RoleBinding"])
def test_a_load_run_waits_while_a_stranger_has_the_name_of_its_role(api: Any, operator: Any, kind: str) -> None:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    (taken,) = [item for item in role("smoke-load", api.namespace, rules, "stranger") if item["kind"] == kind]
    api.apply(taken)
    api.apply(loadtest("smoke", endpointRef=None, target=TARGET, model="tiny:latest"))
    wait_until(partial(says, api, LOADTEST, "smoke", f"{kind}/smoke-load"))
    assert "ownerReferences" not in api.get(kind, "smoke-load")["metadata"]
    assert "Job/smoke" not in api.children()


@pytest.fixture(scope="module")
def enforcing(
    start_control_plane: Callable[..., Any], start_operator: Callable[..., Any], make_namespace: Callable[..., Any]
) -> Iterator[Any]:
    """An API server that, as on OpenShift, asks for a right if an owner reference blocks the deletion of its owner.

    The operator lacks this right: `update` on the finalizers of LLMEndpoints and LoadTests.
    """
    with start_control_plane("--enable-admission-plugins=OwnerReferencesPermissionEnforcement") as plane:
        api = make_namespace("models", plane)
        rules = [rule for rule in cluster_rules() if "finalizers" not in str(rule)]
        api.client.patch("ClusterRole", "", "llmendpoint", {"rules": rules})
        operator = start_operator(kubeconfig=plane.operator)
        yield api
        operator.terminate()
        assert operator.wait(20) == 0


def test_without_the_right_to_update_finalizers_no_child_is_created(enforcing: Any) -> None:
    """The API server checks this right in admission, so that it is not in the audit log."""
    enforcing.apply(endpoint("assistant"))
    enforcing.apply(loadtest("smoke", endpointRef=None, target=TARGET, model="tiny:latest"))
    for kind, name in ((LLMENDPOINT, "assistant"), (LOADTEST, "smoke")):
        wait_until(partial(says, enforcing, kind, name, "cannot set blockOwnerDeletion"))
    assert enforcing.children() == {}
    enforcing.client.patch("ClusterRole", "", "llmendpoint", {"rules": cluster_rules()})
    wait_until(lambda: {"StatefulSet/assistant", "Job/smoke"} <= enforcing.children().keys(), 60)


def says(api: Any, kind: str, name: str, words: str) -> bool:
    """Return whether a condition of a resource contains these words."""
    conditions = ((api.get(kind, name) or {}).get("status") or {}).get("conditions") or []
    return any(words in condition["message"] for condition in conditions)


@pytest.mark.timeout(1300)  # it waits for the other processes of the API tests
def test_each_right_was_used_and_no_other_was_asked_for(
    request: pytest.FixtureRequest, operator: Any, audit_logs: list[Path]
) -> None:
    modules = {item.path for item in request.session.items}
    absent = set(Path(__file__).parent.glob("test_*.py")) - modules
    if absent or request.config.getoption("keyword"):
        pytest.skip("only a run of all API tests shows which rights are used")
    audit_logs = [*audit_logs, *part_of().others(seconds=1200)]
    # Some tests limit the operator of the cluster to namespaces.
    for user, rights in ((OPERATOR_USER, CLUSTER_WIDE | IN_A_NAMESPACE), (TEAM_OPERATOR_USER, IN_A_NAMESPACE)):
        # Tests take rights away; a refusal of any other right is one that the rules lack.
        assert requests_of(audit_logs, user).refused - rights == set()
    checked_in_admission = {right for right in CLUSTER_WIDE if right.resource.endswith("/finalizers")}
    unused = CLUSTER_WIDE - requests_of(audit_logs, OPERATOR_USER).allowed - checked_in_admission
    assert unused == set()
