"""The operator as a process, whose namespaces, permissions, kinds and API server come and go.

These tests have a control plane of their own, because they restart it and delete kinds from it.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import urllib3
from kubernetes.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import LEASE_NAME
from llmendpoint_operator.kube.rbac import namespace_rules
from support.api_server.control_plane import STRANGER_USER, ControlPlane, running_control_plane
from support.api_server.manifests import endpoint
from support.documents.yaml_documents import documents
from support.waiting import wait_until

ROOT = Path(__file__).parents[3]
EDITS = iter(range(1000, 10000))


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with running_control_plane(tmp_path_factory.mktemp("control-plane")) as found:
        yield found


@pytest.fixture
def api(plane: ControlPlane, make_namespace: Callable[..., Any]) -> Any:
    return make_namespace(plane=plane)


@pytest.fixture
def second(plane: ControlPlane, make_namespace: Callable[..., Any]) -> Any:
    return make_namespace(plane=plane)


@pytest.fixture
def run(plane: ControlPlane, start_operator: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Start an operator with rights only where a test grants them. At the end, SIGTERM ends it within 10 s."""
    started = []

    def start(*flags: str, kubeconfig: Path = plane.stranger) -> Any:
        started.append(start_operator(*flags, kubeconfig=kubeconfig))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            assert process.wait(60) == 0, process.log.read_text()[-3000:]


def grant(api: Any, rules: list[dict[str, Any]] | None = None) -> None:
    """Give the stranger the rights of the operator, or these, in the namespace."""
    group = "rbac.authorization.k8s.io"
    metadata = {"name": "operator"}
    subject = {"kind": "User", "name": STRANGER_USER, "apiGroup": group}
    api.apply({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules or namespace_rules()})
    api.apply({"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": metadata, "subjects": [subject],
               "roleRef": {"apiGroup": group, "kind": "Role", "name": "operator"}})  # fmt: skip


def revoke(api: Any) -> None:
    api.delete("RoleBinding", "operator")


def serves(api: Any, seconds: float = 20.0) -> None:
    """Check that a new or edited endpoint is applied, and that a deleted child heals."""
    port = next(EDITS)
    api.apply(endpoint("assistant", service={"port": port}))
    wait_until(lambda: ports(api) == [port], seconds)
    wait_until(lambda: api.get("ConfigMap", "assistant"), seconds)
    api.delete("ConfigMap", "assistant")
    wait_until(lambda: api.get("ConfigMap", "assistant"), seconds)


def ports(api: Any) -> list[int]:
    return [port["port"] for port in ((api.get("Service", "assistant") or {}).get("spec") or {}).get("ports", [])]


def delete_namespace(api: Any) -> None:
    """Delete a namespace for good. The controller that empties it is not part of an API server."""
    revoke(api)
    api.delete("Role", "operator")
    for kind in ("LLMEndpoint", "ConfigMap", "Service", "ServiceAccount", "StatefulSet"):
        api.delete_if_there(kind, "assistant")
    api.delete_if_there("Service", "assistant-pods")
    api.client.delete("Namespace", "", api.namespace)
    body = api.client.get("Namespace", "", api.namespace)
    if body is not None:
        body["spec"]["finalizers"] = []
        api.client.request("PUT", f"/api/v1/namespaces/{api.namespace}/finalize", [], body)
    wait_until(lambda: api.client.get("Namespace", "", api.namespace) is None)


def test_a_namespace_that_is_deleted_and_created_again(
    plane: ControlPlane, api: Any, second: Any, make_namespace: Callable[..., Any], run: Callable[..., Any]
) -> None:
    grant(api)
    grant(second)
    operator = run("--namespace", api.namespace, "--namespace", second.namespace)
    serves(api)
    serves(second)
    delete_namespace(second)
    wait_until(lambda: operator.said("The operator cannot watch"), 30)
    serves(api)
    # An operator that starts now serves the other namespace as well.
    operator.terminate()
    assert operator.wait(60) == 0
    operator = run("--namespace", api.namespace, "--namespace", second.namespace)
    serves(api)
    wait_until(lambda: operator.said(f"in namespace {second.namespace}"), 30)
    assert not operator.repeats("The operator cannot watch")
    make_namespace(second.namespace, plane)
    grant(second)
    serves(second, 90)
    wait_until(lambda: operator.said("everything can be watched again"))
    assert not operator.repeats("The operator cannot watch")


def test_a_binding_that_is_taken_away_and_given_back(api: Any, second: Any, run: Callable[..., Any]) -> None:
    grant(api)
    grant(second)
    operator = run("--namespace", api.namespace, "--namespace", second.namespace)
    serves(second)
    revoke(second)
    # The API server does not end the watches, but it refuses new ones.
    second.apply(endpoint("assistant", service={"port": next(EDITS)}))
    serves(api)
    grant(second)
    serves(second, 60)
    assert operator.poll() is None


def test_a_kind_that_may_not_be_listed(api: Any, second: Any, run: Callable[..., Any]) -> None:
    """Without the right to list Services, they are written all the same; a deleted one is not noticed, which is said."""
    grant(api, without_listing("services"))
    grant(second)
    operator = run("--namespace", api.namespace, "--namespace", second.namespace)
    serves(second)
    serves(api)
    wait_until(lambda: operator.said(f"The operator cannot watch Service in namespace {api.namespace}"))
    assert not operator.repeats("The operator cannot watch")
    wait_until(lambda: reason(api, "Ready") == ("Unknown", "NotWatched"))
    assert reason(api, "Degraded") == reason(api, "Reconciling") == ("True", "NotWatched")
    assert applied(api) < api.get("LLMEndpoint", "assistant")["metadata"]["generation"]
    assert reason(second, "Ready") == ("False", "Starting")
    # A Service that is not seen to be gone is not said to be there.
    api.delete("Service", "assistant")
    grant(api)
    wait_until(lambda: operator.said(f"everything can be watched again in namespace {api.namespace}"), 60)
    wait_until(lambda: api.get("Service", "assistant"))
    wait_until(lambda: reason(api, "Ready") == ("False", "Starting"))
    assert reason(api, "Degraded") == ("True", "ReplicasUnavailable")
    wait_until(lambda: applied(api) == api.get("LLMEndpoint", "assistant")["metadata"]["generation"])


def test_a_right_that_is_taken_away_from_an_operator_that_runs(
    plane: ControlPlane, api: Any, run: Callable[..., Any]
) -> None:
    """The API server does not end the watches that are open. When it restarts, it refuses new ones."""
    grant(api)
    operator = run("--namespace", api.namespace)
    serves(api)
    grant(api, without_listing("statefulsets", "pods"))
    plane.restart("kube-apiserver")
    api.delete("StatefulSet", "assistant")
    wait_until(lambda: reason(api, "Ready") == ("Unknown", "NotWatched"), 60)
    assert reason(api, "Reconciling") == ("True", "NotWatched")
    grant(api)
    wait_until(lambda: operator.said("everything can be watched again"), 90)
    wait_until(lambda: api.get("StatefulSet", "assistant"))
    wait_until(lambda: reason(api, "Ready") == ("False", "Starting"))


def test_a_refused_watch_of_leases_is_said_and_is_no_reason_to_restart(
    plane: ControlPlane, api: Any, run: Callable[..., Any]
) -> None:
    grant(api)
    operator = run("--namespace", api.namespace, "--leader-election")
    serves(api, 40)
    grant(api, without_listing("leases"))
    plane.restart("kube-apiserver")
    wait_until(lambda: "cannot watch Lease" in operator.page("readyz")[1], 60)
    # It renews its Lease, which it reads by name. If the canary counted, it would count the time between two renewals.
    for _ in range(3):
        wait_until(partial(_renewed_after, api, renewed(api)))
    assert operator.metric("llmendpoint_operator_canary_age_seconds") == 0
    assert operator.page("livez")[0] == operator.page("readyz")[0] == 200
    grant(api)
    wait_until(lambda: "cannot watch Lease" not in operator.page("readyz")[1], 90)
    serves(api)


def renewed(api: Any) -> str:
    return str(api.get("Lease", LEASE_NAME)["spec"]["renewTime"])


def _renewed_after(api: Any, before: str) -> bool:
    return renewed(api) != before


def without_listing(*plurals: str) -> list[dict[str, Any]]:
    """Return the rights of the operator, without those to list and watch some kinds."""
    rules = []
    for rule in namespace_rules():
        resources = [name for name in rule["resources"] if name not in plurals]
        kept = [name for name in rule["resources"] if name in plurals]
        rules += [{**rule, "resources": resources}] if resources else []
        verbs = [verb for verb in rule["verbs"] if verb not in ("list", "watch")]
        rules += [{**rule, "resources": kept, "verbs": verbs}] if kept and verbs else []
    return rules


def reason(api: Any, kind: str) -> tuple[str, str] | None:
    """Return status and reason of a condition of the endpoint, or None if it does not have it yet."""
    rows = (api.get("LLMEndpoint", "assistant").get("status") or {}).get("conditions") or []
    return next(((row["status"], row["reason"]) for row in rows if row["type"] == kind), None)


def applied(api: Any) -> int:
    return int(api.get("LLMEndpoint", "assistant")["status"].get("observedGeneration", -1))


def test_our_own_kinds_that_come_after_the_operator(
    plane: ControlPlane, api: Any, second: Any, run: Callable[..., Any]
) -> None:
    definitions = []
    for path in sorted((ROOT / "manifests/crds").glob("*.yaml")):
        definitions += documents(path.read_text())
    for definition in definitions:
        api.client.delete("CustomResourceDefinition", "", definition["metadata"]["name"])
    names = [str(definition["metadata"]["name"]) for definition in definitions]
    wait_until(lambda: not any(api.client.get("CustomResourceDefinition", "", name) for name in names), 60)
    operator = run(kubeconfig=plane.operator)
    wait_until(lambda: operator.said("does not have the kinds LLMEndpoint, LoadTest"), 30)
    for definition in definitions:
        api.client.apply(definition)
    wait_until(lambda: not api.is_refused(endpoint("assistant")), 60)
    serves(api, 30)
    assert not operator.repeats("does not have the kinds")
    # They are deleted and created again while the operator runs.
    for definition in definitions:
        api.client.delete("CustomResourceDefinition", "", definition["metadata"]["name"])
    wait_until(lambda: operator.said("does not have the kinds") == 2, 60)
    for definition in definitions:
        api.client.apply(definition)
    wait_until(lambda: not api.is_refused(endpoint("other")), 60)
    # The children of the first endpoint still exist: the garbage collector is not part of an API server.
    serves(second, 60)


MONITORS = {
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "servicemonitors.monitoring.coreos.com",
                 "annotations": {"api-approved.kubernetes.io": "unapproved, for a test"}},
    "spec": {"group": "monitoring.coreos.com", "scope": "Namespaced",
             "names": {"kind": "ServiceMonitor", "plural": "servicemonitors", "singular": "servicemonitor",
                       "listKind": "ServiceMonitorList"},
             "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                 "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]},
}  # fmt: skip


def test_an_optional_kind_that_comes_and_goes(plane: ControlPlane, api: Any, run: Callable[..., Any]) -> None:
    operator = run(kubeconfig=plane.operator)
    serves(api)
    assert not operator.repeats("the cluster does not have the kind ServiceMonitor")
    for _ in range(2):
        api.client.apply(MONITORS)
        wait_until(lambda: _exists(api, "ServiceMonitor"), 60)
        assert operator.said("the cluster now has the kind ServiceMonitor")
        before = operator.said("the cluster does not have the kind ServiceMonitor")
        api.client.delete("CustomResourceDefinition", "", MONITORS["metadata"]["name"])  # type: ignore[index]
        wait_until(partial(_said_more, operator, before), 60)
        serves(api)


def _said_more(operator: Any, before: int) -> bool:
    return bool(operator.said("the cluster does not have the kind ServiceMonitor") > before)


def _exists(api: Any, kind: str) -> bool:
    try:
        return api.get(kind, "assistant") is not None
    except ApiException:
        return False


@pytest.mark.parametrize("program", ["kube-apiserver", "etcd"])
def test_a_control_plane_that_restarts(plane: ControlPlane, api: Any, run: Callable[..., Any], program: str) -> None:
    operator = run(kubeconfig=plane.operator)
    serves(api)
    plane.restart(program, 3.0)
    serves(api, 40)
    assert operator.poll() is None
    assert operator.said("The operator cannot watch") == 0


def test_an_operator_that_was_stopped_for_a_while(plane: ControlPlane, api: Any, run: Callable[..., Any]) -> None:
    """A suspended process is not dead: its clocks jump, and it goes on."""
    operator = run(kubeconfig=plane.operator)
    serves(api)
    operator.send_signal(signal.SIGSTOP)
    time.sleep(3)
    api.delete("ConfigMap", "assistant")
    operator.send_signal(signal.SIGCONT)
    serves(api)


def test_it_ends_although_the_api_server_does_not_answer(
    plane: ControlPlane, api: Any, run: Callable[..., Any]
) -> None:
    operator = run(kubeconfig=plane.operator)
    serves(api)
    (server,) = [program for program in plane.programs if program.name == "kube-apiserver"]
    server.process.send_signal(signal.SIGSTOP)
    try:
        operator.terminate()
        assert operator.wait(60) == 0
    finally:
        server.process.send_signal(signal.SIGCONT)
    assert api.client is not None
    wait_until(lambda: _is_up(api), 30)


def _is_up(api: Any) -> bool:
    try:
        return bool(json.loads(api.client.request("GET", "/version")))
    except (ApiException, urllib3.exceptions.HTTPError):
        return False
