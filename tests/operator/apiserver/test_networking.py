"""Ingress, HTTPRoute and NetworkPolicy on a real API server, with the definitions of the Gateway API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from llmendpoint_operator.cluster.kinds import KINDS
from support.api_server import gateway_api
from support.api_server.manifests import endpoint
from support.waiting import wait_until

GATEWAY = {"name": "public", "namespace": "gateways", "sectionName": "https"}
ROUTE = {"parentRefs": [GATEWAY], "hostnames": ["llm.example.com", "*.llm.example.com"]}
FROM = [
    {
        "podSelector": {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["web"]}]},
        "namespaceSelector": {},
    },
    {"ipBlock": {"cidr": "2001:db8::/32", "except": ["2001:db8:1::/48"]}},
]


@pytest.fixture(scope="module")
def outside(
    start_control_plane: Callable[[], Any], start_operator: Callable[..., Any], make_namespace: Callable[..., Any]
) -> Iterator[Any]:
    """A namespace of an API server without the Gateway API, and an operator."""
    with start_control_plane() as plane:
        api = make_namespace("models", plane)
        operator = start_operator("--monitoring-namespace=monitoring", kubeconfig=plane.operator)
        yield api
        operator.terminate()
        assert operator.wait(20) == 0


def message(api: Any, kind: str) -> str:
    """Return the message of a condition of the endpoint, or nothing if it does not have the condition."""
    rows = (api.get(LLMENDPOINT, "assistant").get("status") or {}).get("conditions") or []
    return next((str(row["message"]) for row in rows if row["type"] == kind), "")


def degraded(api: Any) -> tuple[str, str]:
    return tuple(api.conditions(LLMENDPOINT, "assistant").get("Degraded", ("", "")))


def test_an_http_route_waits_for_the_gateway_api(outside: Any) -> None:
    outside.apply(endpoint("assistant", httpRoute=ROUTE))
    wait_until(lambda: degraded(outside) == ("True", "UnknownKind"))
    assert "Install the Gateway API in version 1.2 or newer, or remove spec.httpRoute" in message(outside, "Degraded")
    assert outside.get("StatefulSet", "assistant") is not None
    # A definition that has no timeouts yet.
    outside.client.apply(gateway_api.http_routes(gateway_api.WITHOUT_TIMEOUTS))
    wait_until(lambda: degraded(outside) == ("True", "Invalid"), 60)
    assert "timeouts: field not declared in schema" in message(outside, "Degraded")
    assert "too old for this field. Upgrade it." in message(outside, "Degraded")
    outside.client.apply(gateway_api.http_routes())
    wait_until(lambda: outside.get("HTTPRoute", "assistant") is not None, 120)
    wait_until(lambda: degraded(outside) == ("True", "ReplicasUnavailable"))
    assert outside.conditions(LLMENDPOINT, "assistant")["Stalled"][0] == "False"


def test_an_http_route_is_repaired_changed_and_pruned(outside: Any) -> None:
    outside.client.apply(gateway_api.http_routes())
    outside.apply(endpoint("routed", httpRoute=ROUTE))
    made = wait_until(lambda: outside.get("HTTPRoute", "routed"))
    (parent,) = made["spec"]["parentRefs"]
    assert parent == {"group": "gateway.networking.k8s.io", "kind": "Gateway", **GATEWAY}
    assert made["spec"]["hostnames"] == ROUTE["hostnames"]
    (rule,) = made["spec"]["rules"]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    outside.patch("HTTPRoute", "routed", {"spec": {"hostnames": ["evil.example"]}})
    wait_until(lambda: outside.get("HTTPRoute", "routed")["spec"]["hostnames"] == ROUTE["hostnames"])
    several = [{"name": "a", "sectionName": "x"}, {"name": "a", "sectionName": "y"}, {"name": "a", "namespace": "b"}]
    outside.apply(endpoint("routed", httpRoute={"parentRefs": several}))
    wait_until(lambda: len(outside.get("HTTPRoute", "routed")["spec"]["parentRefs"]) == 3)
    assert "hostnames" not in outside.get("HTTPRoute", "routed")["spec"]
    outside.apply(endpoint("routed"))
    wait_until(lambda: outside.get("HTTPRoute", "routed") is None)


def test_an_ingress_is_repaired_changed_and_pruned(outside: Any) -> None:
    wanted = {"host": "*.llm.example.com", "className": "public", "tlsSecretName": "tls", "annotations": {"a.b/c": "d"}}
    outside.apply(endpoint("opened", ingress=wanted))
    made = wait_until(lambda: outside.get("Ingress", "opened"))
    assert made["spec"]["ingressClassName"] == "public"
    assert made["spec"]["tls"] == [{"hosts": ["*.llm.example.com"], "secretName": "tls"}]
    assert made["metadata"]["annotations"]["a.b/c"] == "d"
    outside.delete("Ingress", "opened")
    wait_until(lambda: outside.get("Ingress", "opened") is not None)
    outside.apply(endpoint("opened", ingress={"host": "llm.example.com"}))
    wait_until(lambda: outside.get("Ingress", "opened")["spec"]["rules"][0]["host"] == "llm.example.com")
    assert outside.get("Ingress", "opened")["spec"].keys() == {"rules"}
    assert "a.b/c" not in outside.get("Ingress", "opened")["metadata"]["annotations"]
    outside.apply(endpoint("opened"))
    wait_until(lambda: outside.get("Ingress", "opened") is None)


def test_a_network_policy_is_repaired_changed_and_pruned(outside: Any) -> None:
    outside.apply(endpoint("guarded"))
    made = wait_until(lambda: outside.get("NetworkPolicy", "guarded"))
    assert made["spec"]["policyTypes"] == ["Ingress"]
    clients, metrics = made["spec"]["ingress"]
    assert "from" not in clients
    assert metrics["from"][0]["namespaceSelector"]["matchExpressions"][0]["values"] == ["monitoring"]
    outside.patch("NetworkPolicy", "guarded", {"spec": {"ingress": [{}]}})
    wait_until(lambda: len(outside.get("NetworkPolicy", "guarded")["spec"]["ingress"]) == 2)
    outside.apply(endpoint("guarded", networkPolicy={"from": FROM}))
    wait_until(lambda: outside.get("NetworkPolicy", "guarded")["spec"]["ingress"][0].get("from"))
    assert outside.get("NetworkPolicy", "guarded")["spec"]["ingress"][0]["from"][:2] == FROM
    outside.apply(endpoint("guarded", networkPolicy={"enabled": False}))
    wait_until(lambda: outside.get("NetworkPolicy", "guarded") is None)


def test_a_range_that_only_kubernetes_can_judge_is_quoted(outside: Any) -> None:
    outside.apply(endpoint("assistant", networkPolicy={"from": [{"ipBlock": {"cidr": "1::2::3/64"}}]}))
    wait_until(lambda: degraded(outside) == ("True", "Invalid"))
    assert "1::2::3/64" in message(outside, "Degraded")
    outside.delete(LLMENDPOINT, "assistant")


@pytest.mark.parametrize("kind", ["Ingress", "NetworkPolicy", "HTTPRoute"])
def test_replicas_stay_ready_if_a_stranger_has_the_name_of_a_child_that_they_do_not_use(
    outside: Any, kind: str
) -> None:
    outside.client.apply(gateway_api.http_routes())
    name = f"taken-{kind.lower()}"
    specs = {"Ingress": {"defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}},
             "NetworkPolicy": {"podSelector": {}}, "HTTPRoute": {"hostnames": ["a.example"]}}  # fmt: skip
    version = KINDS[kind].api_version
    taken = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": specs[kind]}
    wait_until(lambda: not outside.is_refused(taken))
    outside.apply(endpoint(name, ingress={"host": f"{name}.example"}, httpRoute=ROUTE))
    wait_until(lambda: outside.conditions(LLMENDPOINT, name).get("Stalled") == ("True", "NameConflict"), 70)
    wait_until(lambda: outside.get("StatefulSet", name) is not None)
    answering = {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "observedGeneration": 1}
    outside.apply_status(
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "status": answering}
    )
    wait_until(lambda: outside.conditions(LLMENDPOINT, name).get("Ready") == ("True", "ModelsAnswer"))
    assert outside.conditions(LLMENDPOINT, name)["Stalled"] == ("True", "NameConflict")
    outside.delete(kind, name)
    wait_until(lambda: outside.get(kind, name) is not None)
