"""Pods that load their models, as the sidecars report it."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_common.contracts.sidecar import ModelPhase
from llmendpoint_operator.endpoint.observe import is_loading
from support.api_server.manifests import pod
from support.in_memory.observations import MISSING, PULLING, READY, model, view


def running(*, ready: bool) -> dict[str, Any]:
    status = {"conditions": [{"type": "Ready", "status": str(ready)}]}
    return {**pod("assistant-0", "assistant", "uid"), "status": status}


@pytest.mark.parametrize("phase", [ModelPhase.PENDING, ModelPhase.PULLING, ModelPhase.LOADING])
def test_a_pod_loads_until_it_is_ready(phase: ModelPhase) -> None:
    report = view(READY, model(phase)).status
    assert is_loading(running(ready=False), report)
    assert not is_loading(running(ready=True), report)


def test_a_pod_whose_model_has_failed_does_not_load() -> None:
    assert not is_loading(running(ready=False), view(PULLING, MISSING).status)


def test_a_pod_that_is_being_deleted_or_does_not_report_is_not_known_to_load() -> None:
    body = running(ready=False)
    assert not is_loading(body, None)
    body["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    assert not is_loading(body, view(PULLING).status)
