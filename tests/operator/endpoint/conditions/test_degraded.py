"""The condition Degraded."""

from __future__ import annotations

import pytest

from llmendpoint_operator.endpoint.conditions.degraded import degraded
from llmendpoint_operator.endpoint.observe import Observation
from support.endpoints import endpoint_spec
from support.observations import CONFLICT, FORBIDDEN, HUNG, NO_MONITORS, NO_PODS, READY, observed, outcome, view


@pytest.mark.parametrize(
    ("replicas", "seen", "expected"),
    [
        (1, observed(view(READY, ready=True)), (False, "AsWanted")),
        (2, observed(view(READY, ready=True)), (True, "ReplicasUnavailable")),
        (1, NO_PODS, (True, "ReplicasUnavailable")),
        (0, NO_PODS, (False, "AsWanted")),
        (1, observed(view(READY, ready=True), refused=(FORBIDDEN,)), (True, "Forbidden")),
        (1, Observation(1, 0, True, (), (CONFLICT,)), (True, "NameConflict")),
        (1, observed(view(READY, ready=True), refused=(FORBIDDEN, CONFLICT)), (True, "NameConflict")),
        # Also if another replica is ready.
        (2, observed(HUNG, view(READY, ready=True)), (True, "OllamaHung")),
        # This kind is optional. MonitoringReady reports that it is missing.
        (1, observed(view(READY, ready=True), refused=(NO_MONITORS,)), (False, "AsWanted")),
    ],
)
def test_status_and_reason(replicas: int, seen: Observation, expected: tuple[bool | None, str]) -> None:
    assert outcome(degraded(endpoint_spec(replicas=replicas), seen)) == expected


def test_the_message_names_every_refused_child() -> None:
    seen = observed(view(READY, ready=True), refused=(FORBIDDEN, CONFLICT, NO_MONITORS))
    assert degraded(endpoint_spec(), seen).message == f"{CONFLICT.message}; {FORBIDDEN.message}"
