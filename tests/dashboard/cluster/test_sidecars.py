"""Addresses of sidecars in EndpointSlices."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_dashboard.cluster.sidecars import SidecarAddress, chosen, slice_addresses

POD = {"kind": "Pod", "namespace": "team-a", "name": "assistant-0"}


def endpoint_slice(endpoints: list[Any], port: int = 8001, labels: dict[str, str] | None = None) -> dict[str, Any]:
    given = {"kubernetes.io/service-name": "assistant-pods", "llmendpoint.dev/endpoint": "assistant", **(labels or {})}
    return {
        "metadata": {"namespace": "team-a", "name": "assistant-pods-x", "labels": given},
        "ports": [{"name": "metrics", "port": port}],
        "endpoints": endpoints,
    }


def test_the_pods_of_an_endpoint_are_found_ready_or_not() -> None:
    body = endpoint_slice([
        {"addresses": ["10.244.0.7"], "targetRef": POD, "conditions": {"ready": True}},
        {"addresses": ["10.244.0.8"], "targetRef": {**POD, "name": "assistant-1"}, "conditions": {"ready": False}},
    ])  # fmt: skip
    assert slice_addresses(body) == (
        SidecarAddress("team-a/assistant-0", "http://10.244.0.7:8001", "team-a/assistant"),
        SidecarAddress("team-a/assistant-1", "http://10.244.0.8:8001", "team-a/assistant"),
    )


def test_ipv6_addresses_are_written_in_brackets() -> None:
    (found,) = slice_addresses(endpoint_slice([{"addresses": ["fd00::7"], "targetRef": POD}]))
    assert found.url == "http://[fd00::7]:8001"


@pytest.mark.parametrize(
    "body",
    [
        endpoint_slice([{"addresses": ["10.244.0.7"]}]),
        endpoint_slice([{"addresses": ["10.244.0.7"], "targetRef": {**POD, "kind": "Node"}}]),
        endpoint_slice([{"addresses": ["10.244.0.7"], "targetRef": {**POD, "namespace": "kube-system"}}]),
        endpoint_slice([{"addresses": ["10.244.0.7"], "targetRef": POD}], port=22),
        endpoint_slice([{"addresses": ["10.244.0.7"], "targetRef": POD}], labels={"kubernetes.io/service-name": "mine"}),
        endpoint_slice([{"addresses": ["10.244.0.7"], "targetRef": POD}], labels={"llmendpoint.dev/endpoint": ""}),
        endpoint_slice([{"addresses": ["169.254.169.254"], "targetRef": POD}]),
        endpoint_slice([{"addresses": ["127.0.0.1"], "targetRef": POD}]),
        endpoint_slice([{"addresses": ["example.com"], "targetRef": POD}]),
        endpoint_slice([{"addresses": [], "targetRef": POD}]),
        {**endpoint_slice([]), "endpoints": None},
    ],
)  # fmt: skip
def test_nothing_else_than_pods_of_an_endpoint_is_read(body: dict[str, Any]) -> None:
    assert slice_addresses(body) == ()


def test_a_pod_with_two_addresses_is_read_once() -> None:
    four, six = (SidecarAddress("a/b-0", url, "a/b") for url in ("http://10.0.0.1:8001", "http://[fd00::1]:8001"))
    other = SidecarAddress("a/b-1", "http://10.0.0.2:8001", "a/b")
    assert chosen([(six,), (four, other)], 10) == (four, other)
    assert chosen([(six,), (four, other)], 1) == (four,)
