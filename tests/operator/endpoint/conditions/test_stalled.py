"""The condition Stalled."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmendpoint_operator.endpoint.conditions.ready import ready
from llmendpoint_operator.endpoint.conditions.stalled import stalled
from llmendpoint_operator.endpoint.observe import Observation
from llmendpoint_operator.pods.trouble import Trouble
from llmendpoint_operator.policy.rules import Violation
from llmendpoint_operator.policy.use import Use
from support.in_memory.endpoints import endpoint_spec
from support.in_memory.observations import (
    CONFLICT,
    FORBIDDEN,
    INVALID,
    INVALID_MONITOR,
    MISSING,
    MONITOR_CONFLICT,
    NO_PODS,
    PULLING,
    QUOTA,
    READY,
    model,
    observed,
    outcome,
    view,
)

VIOLATION = Violation("serviceTypes", Use("spec.service.type", "NodePort"), ())


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (NO_PODS, (False, "NotStalled")),
        (observed(view(READY, ready=True)), (False, "NotStalled")),
        (observed(view(PULLING)), (False, "NotStalled")),
        (observed(view(MISSING)), (True, "ModelNotFound")),
        (observed(view(model(reason="DigestMismatch", message="other digest"))), (True, "DigestMismatch")),
        (observed(view(model(reason="PullFailed", message="no route"))), (False, "NotStalled")),
        (replace(NO_PODS, refused=(CONFLICT,)), (True, "NameConflict")),
        # These are retried, and may pass without a person.
        (replace(NO_PODS, refused=(FORBIDDEN,)), (False, "NotStalled")),
        (replace(NO_PODS, refused=(MONITOR_CONFLICT,)), (False, "NotStalled")),
        # The API server says that this object is never valid. A ServiceMonitor is not needed by any pod or client.
        (replace(NO_PODS, refused=(INVALID,)), (True, "Invalid")),
        (replace(NO_PODS, refused=(INVALID, CONFLICT)), (True, "NameConflict")),
        (replace(NO_PODS, refused=(INVALID_MONITOR,)), (False, "NotStalled")),
        (replace(NO_PODS, refused=(QUOTA,)), (False, "NotStalled")),
        (replace(NO_PODS, invalid="spec.replicas: two"), (True, "InvalidSpec")),
        (observed(view(trouble="no GPU")), (False, "NotStalled")),
        (replace(NO_PODS, stuck=Trouble("Unschedulable", "no GPU")), (True, "Unschedulable")),
        (replace(NO_PODS, forbidden=(VIOLATION,)), (True, "PolicyViolation")),
        (replace(observed(view(READY, ready=True)), forbidden=(VIOLATION,)), (True, "PolicyViolation")),
    ],
)
def test_status_and_reason(seen: Observation, expected: tuple[bool | None, str]) -> None:
    assert outcome(stalled(endpoint_spec(), seen)) == expected


def test_a_forbidden_value_is_also_why_an_endpoint_that_does_not_run_is_not_ready() -> None:
    seen = replace(NO_PODS, forbidden=(VIOLATION,))
    assert outcome(ready(endpoint_spec(), seen)) == (False, "PolicyViolation")
    condition = ready(endpoint_spec(), seen)
    assert condition is not None
    assert condition.message == stalled(endpoint_spec(), seen).message
    running = replace(observed(view(READY, ready=True)), forbidden=(VIOLATION,))
    assert outcome(ready(endpoint_spec(), running)) == (True, "ModelsAnswer")
