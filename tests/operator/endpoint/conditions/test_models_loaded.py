"""The condition ModelsLoaded."""

from __future__ import annotations

import pytest

from llmendpoint_common.contracts.sidecar import ModelPhase
from llmendpoint_operator.endpoint.conditions.models_loaded import models_loaded
from llmendpoint_operator.endpoint.observe import Observation
from support.in_memory.endpoints import endpoint_spec
from support.in_memory.observations import EVICTED, NO_PODS, PULLING, READY, UNREACHABLE, model, observed, outcome, view


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (observed(view(READY, ready=True)), (True, "AllLoaded")),
        (NO_PODS, (None, "Starting")),
        (observed(UNREACHABLE), (None, "SidecarUnreachable")),
        (observed(view(PULLING)), (False, "Loading")),
        (observed(view(EVICTED, ready=True)), (False, "Loading")),
        (observed(view(READY, ready=True), view(EVICTED, ready=True)), (False, "Loading")),
        (observed(view(model(ModelPhase.FAILED, reason="LoadFailed", message="m"))), (False, "LoadFailed")),
        (observed(view(model(ModelPhase.FAILED, reason="NotOnGPU", message="m"))), (False, "NotOnGPU")),
    ],
)
def test_status_and_reason(seen: Observation, expected: tuple[bool | None, str]) -> None:
    assert outcome(models_loaded(endpoint_spec(), seen)) == expected


def test_models_on_demand_are_not_waited_for() -> None:
    on_demand = endpoint_spec(models=[{"name": "tiny:latest", "load": "OnDemand"}])
    assert outcome(models_loaded(on_demand, NO_PODS)) == (True, "NonePreloaded")
    both = endpoint_spec(models=[{"name": "tiny:latest"}, {"name": "other:1b", "load": "OnDemand"}])
    assert outcome(models_loaded(both, observed(view(READY)))) == (True, "AllLoaded")


def test_the_message_names_the_models() -> None:
    spec = endpoint_spec(models=[{"name": "tiny:latest"}, {"name": "other:1b"}])
    assert "tiny:latest, other:1b" in models_loaded(spec, observed(view(EVICTED))).message
