"""Operators that follow one another, with other flags: only flags that concern the pods change a StatefulSet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from support.api_server.manifests import endpoint
from support.waiting import wait_until

NAMES = ("first", "second")


@pytest.fixture(scope="module")
def settled(start_control_plane: Callable[..., Any], make_namespace: Callable[..., Any]) -> Iterator[Any]:
    """An API server of its own, because no other operator may serve the endpoints."""
    with start_control_plane() as plane:
        api = make_namespace("models", plane)
        api.kubeconfig = plane.operator
        yield api


def run_until_settled(api: Any, start_operator: Callable[..., Any], *flags: str) -> None:
    """Run an operator until it has reconciled each endpoint, and end it."""
    operator = start_operator(*flags, kubeconfig=api.kubeconfig)
    wait_until(lambda: operator.metric("llmendpoint_operator_reconciles_total") >= len(NAMES))
    wait_until(lambda: all(api.conditions(LLMENDPOINT, name) for name in NAMES))
    wait_until(lambda: operator.metric("llmendpoint_operator_queue_depth") == 0)
    operator.terminate()
    assert operator.wait(20) == 0


def test_flags_that_do_not_concern_the_pods_change_no_child(settled: Any, start_operator: Callable[..., Any]) -> None:
    for name in NAMES:
        settled.apply(endpoint(name))
    run_until_settled(settled, start_operator)
    before = settled.children()
    assert "StatefulSet/second" in before
    flags = ["--log-level=debug", "--loadjob-image=registry.example/loadjob:2", "--monitor-label=release=prometheus"]
    run_until_settled(settled, start_operator, *flags)
    assert settled.children() == before


def test_another_image_of_the_sidecar_changes_the_statefulsets_alone(
    settled: Any, start_operator: Callable[..., Any]
) -> None:
    before = settled.children()
    run_until_settled(settled, start_operator, "--sidecar-image=registry.example/sidecar:2")
    changed = {name for name, version in settled.children().items() if before.get(name) != version}
    assert changed == {"StatefulSet/first", "StatefulSet/second"}
    # The operator that follows with the same image writes nothing.
    before = settled.children()
    run_until_settled(settled, start_operator, "--sidecar-image=registry.example/sidecar:2")
    assert settled.children() == before
