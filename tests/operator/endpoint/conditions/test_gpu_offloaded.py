"""The condition GPUOffloaded."""

from __future__ import annotations

import pytest

from llmendpoint_operator.endpoint.conditions.gpu_offloaded import gpu_offloaded
from llmendpoint_operator.endpoint.observe import Observation
from support.in_memory.endpoints import endpoint_spec
from support.in_memory.observations import EVICTED, NO_PODS, ON_CPU, READY, model, observed, outcome, view


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (observed(view(READY, ready=True)), (True, "WhollyOnGPU")),
        (observed(view(ON_CPU, ready=True)), (False, "PartlyOnCPU")),
        (observed(view(READY), view(ON_CPU)), (False, "PartlyOnCPU")),
        (observed(view(EVICTED)), (None, "NothingLoaded")),
        (NO_PODS, (None, "NothingLoaded")),
    ],
)
def test_status_and_reason(seen: Observation, expected: tuple[bool | None, str]) -> None:
    assert outcome(gpu_offloaded(endpoint_spec(), seen)) == expected


def test_a_cpu_endpoint_does_not_have_it() -> None:
    assert gpu_offloaded(endpoint_spec(gpu={"count": 0}), observed(view(ON_CPU))) is None


def test_a_gpu_that_is_not_used_at_all_is_not_too_small() -> None:
    condition = gpu_offloaded(endpoint_spec(), observed(view(model(present=True, loaded=True, loaded_bytes=10))))
    assert condition is not None
    assert condition.message.startswith("No part of tiny:latest is in GPU memory. It runs on the CPU")
    assert "Check the driver of the node" in condition.message
    assert "more memory" not in condition.message


def test_the_message_has_the_share() -> None:
    condition = gpu_offloaded(endpoint_spec(), observed(view(ON_CPU)))
    assert condition is not None
    assert condition.message.startswith("Only 40 % of tiny:latest is in GPU memory.")
