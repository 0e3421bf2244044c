"""The HTTPRoute of an endpoint."""

from __future__ import annotations

from typing import Any

from llmendpoint_operator.reconcile.dependencies import needs
from support.in_memory.endpoints import children

PARENT = {"parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https"}]}


def route(given: dict[str, Any] = PARENT, **spec: Any) -> dict[str, Any]:
    return dict(children(httpRoute=given, **spec)["HTTPRoute/assistant"]["spec"])


def test_without_the_field_there_is_no_http_route() -> None:
    assert not [name for name in children() if name.startswith("HTTPRoute/")]


def test_a_parent_is_a_gateway_unless_the_spec_names_another_kind() -> None:
    gateway = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}
    assert route()["parentRefs"] == [{**PARENT["parentRefs"][0], **gateway}]
    mesh = {"name": "assistant", "group": "", "kind": "Service", "port": 80}
    assert route({"parentRefs": [mesh]})["parentRefs"] == [mesh]


def test_all_paths_lead_to_the_service_of_clients_and_no_request_is_limited_in_time() -> None:
    (rule,) = route(service={"port": 80})["rules"]
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert rule["backendRefs"] == [{"name": "assistant", "port": 80}]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}


def test_host_names_are_optional() -> None:
    assert "hostnames" not in route()
    assert route({**PARENT, "hostnames": ["a.example", "*.b.example"]})["hostnames"] == ["a.example", "*.b.example"]


def test_a_route_never_opens_the_service_of_a_stranger() -> None:
    everything = children(httpRoute=PARENT)
    assert "Service/assistant" in [str(key) for key in needs(everything["HTTPRoute/assistant"], everything.values())]
