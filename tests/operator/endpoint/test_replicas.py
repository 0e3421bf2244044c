"""The number of pods that the operator writes, and the one with which a StatefulSet starts."""

from __future__ import annotations

import pytest

from llmendpoint_operator.endpoint.replicas import scaled_to, to_start_with, to_write
from llmendpoint_operator.settings import Actuator
from support.api_server.manifests import pod
from support.in_memory.endpoints import OWNER, endpoint_spec

SCALED = endpoint_spec(autoscaling={"minReplicas": 2, "maxReplicas": 5})


@pytest.mark.parametrize("present", [None, 0, 1, 7])
def test_without_autoscaling_the_operator_writes_the_number_of_the_spec(present: int | None) -> None:
    assert to_write(endpoint_spec(replicas=3), present, Actuator.KEDA) == 3
    assert to_write(endpoint_spec(), present, None) == 1
    assert scaled_to(endpoint_spec(replicas=3), present) is None


@pytest.mark.parametrize("actuator", [None, *Actuator])
@pytest.mark.parametrize("present", [None, 1, 3, 7])
def test_with_autoscaling_the_number_is_left_alone(present: int | None, actuator: Actuator | None) -> None:
    assert to_write(SCALED, present, actuator) is None
    assert scaled_to(SCALED, present) == present


def test_the_first_pods_are_started_where_no_autoscaler_does_it() -> None:
    assert to_write(SCALED, 0, Actuator.HPA) == 2
    assert to_write(SCALED, 0, None) == 2
    assert to_write(SCALED, 0, Actuator.KEDA) is None


@pytest.mark.parametrize(
    ("pods", "reported", "start"),
    [
        ((), 0, 2),
        ((0, 1, 2), 0, 3),
        # A pod in between is missing.
        ((0, 3), 0, 4),
        ((0, 1), 4, 4),
        ((0, 1, 2, 3, 4, 5, 6), 7, 5),
    ],
)
def test_a_statefulset_starts_with_the_pods_that_exist(pods: tuple[int, ...], reported: int, start: int) -> None:
    existing = [pod(f"assistant-{ordinal}", "assistant", "") for ordinal in pods]
    stranger = pod("assistant-9-x", "assistant", "")
    assert to_start_with(SCALED, OWNER, [*existing, stranger], reported) == start
    assert to_start_with(endpoint_spec(replicas=3), OWNER, existing, reported) == 3
