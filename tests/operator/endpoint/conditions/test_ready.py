"""The condition Ready."""

from __future__ import annotations

import pytest

from llmendpoint_common.contracts.sidecar import ModelPhase
from llmendpoint_operator.endpoint.conditions.ready import ready
from llmendpoint_operator.endpoint.observe import Observation
from support.endpoints import endpoint_spec
from support.observations import (
    CONFLICT,
    FORBIDDEN,
    HUNG,
    MISSING,
    MONITOR_CONFLICT,
    NO_MONITORS,
    NO_PODS,
    PULLING,
    READY,
    SILENT,
    model,
    observed,
    outcome,
    view,
)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (observed(view(READY, ready=True)), (True, "ModelsAnswer")),
        (NO_PODS, (False, "Starting")),
        (observed(SILENT), (False, "Starting")),
        (observed(view(PULLING)), (False, "ModelPulling")),
        (observed(view(model(ModelPhase.PENDING))), (False, "ModelPending")),
        (observed(view(model(ModelPhase.LOADING))), (False, "ModelLoading")),
        (observed(view(MISSING)), (False, "ModelNotFound")),
        (observed(view(trouble="no GPU")), (False, "PodNotRunning")),
        (observed(view(PULLING), view(trouble="no GPU")), (False, "PodNotRunning")),
        (observed(view(PULLING), view(MISSING)), (False, "ModelNotFound")),
        (observed(HUNG), (False, "OllamaHung")),
        (observed(HUNG, view(READY, ready=True)), (True, "ModelsAnswer")),
        (Observation(1, 0, True, (), (CONFLICT,)), (False, "NameConflict")),
        (observed(view(PULLING), refused=(CONFLICT,)), (False, "NameConflict")),
        # Replicas answer, but the URL in the status may lead to somebody else's Service.
        (observed(view(READY, ready=True), refused=(CONFLICT,)), (False, "NameConflict")),
        (observed(view(READY, ready=True), refused=(MONITOR_CONFLICT,)), (True, "ModelsAnswer")),
        # Another refused child is the reason only if no pod reports a problem or an unfinished model.
        (Observation(0, 0, False, (), (FORBIDDEN,)), (False, "Forbidden")),
        (observed(view(PULLING), refused=(FORBIDDEN,)), (False, "ModelPulling")),
        (Observation(0, 0, False, (), (NO_MONITORS,)), (False, "Starting")),
    ],
)
def test_status_and_reason(seen: Observation, expected: tuple[bool | None, str]) -> None:
    assert outcome(ready(endpoint_spec(), seen)) == expected


def test_an_endpoint_without_replicas_is_scaled_to_zero() -> None:
    assert outcome(ready(endpoint_spec(replicas=0), NO_PODS)) == (False, "ScaledToZero")


def test_messages_name_what_is_in_the_way() -> None:
    spec = endpoint_spec()
    assert ready(spec, observed(view(MISSING))).message == "no such model"
    assert ready(spec, observed(view(PULLING))).message == "tiny:latest: pulled 4 MB of 10 MB"
    assert ready(spec, observed(view(trouble="no GPU"))).message == "no GPU"
    assert ready(spec, observed(SILENT, refused=(FORBIDDEN, CONFLICT))).message == CONFLICT.message
    assert ready(endpoint_spec(replicas=3), observed(view(READY, ready=True))).message.startswith("1 of 3 replicas")
