"""The condition Reconciling."""

from __future__ import annotations

import pytest

from llmendpoint_operator.endpoint.conditions.reconciling import reconciling
from llmendpoint_operator.endpoint.observe import Observation
from support.endpoints import endpoint_spec
from support.observations import NO_PODS, outcome


@pytest.mark.parametrize(
    ("replicas", "seen", "expected"),
    [
        (1, Observation(1, 1, True, ()), (False, "Settled")),
        (1, Observation(1, 1, False, ()), (True, "RollingOut")),
        (1, Observation(1, 0, True, ()), (True, "RollingOut")),
        (1, Observation(2, 1, True, ()), (True, "RollingOut")),
        (2, Observation(1, 1, True, ()), (True, "RollingOut")),
        (1, NO_PODS, (True, "RollingOut")),
        (0, Observation(0, 0, True, ()), (False, "Settled")),
    ],
)
def test_status_and_reason(replicas: int, seen: Observation, expected: tuple[bool, str]) -> None:
    assert outcome(reconciling(endpoint_spec(replicas=replicas), seen)) == expected


def test_the_message_says_that_pods_have_an_old_template() -> None:
    spec = endpoint_spec()
    assert "latest pod template" in reconciling(spec, Observation(1, 1, False, ())).message
    assert "latest pod template" not in reconciling(spec, Observation(1, 0, False, ())).message
