"""The condition ModelsAvailable."""

from __future__ import annotations

import pytest

from llmendpoint_common.contracts.sidecar import ModelPhase
from llmendpoint_operator.endpoint.conditions.models_available import models_available
from llmendpoint_operator.endpoint.observe import Observation
from support.in_memory.endpoints import endpoint_spec
from support.in_memory.observations import (
    MISSING,
    NO_PODS,
    PULLING,
    READY,
    SILENT,
    UNREACHABLE,
    model,
    observed,
    outcome,
    view,
)

OTHER = {"models": [{"name": "tiny:latest"}, {"name": "other:1b"}]}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (observed(view(READY, ready=True)), (True, "AllPresent")),
        (NO_PODS, (None, "Starting")),
        (observed(UNREACHABLE), (None, "SidecarUnreachable")),
        (observed(SILENT), (None, "Starting")),
        (observed(view(PULLING)), (False, "Pulling")),
        (observed(view(READY), view(PULLING)), (False, "Pulling")),
        (observed(view(READY), SILENT), (True, "AllPresent")),
        (observed(view(MISSING)), (False, "ModelNotFound")),
        (observed(view(READY), view(MISSING)), (False, "ModelNotFound")),
        (observed(view(model(ModelPhase.FAILED, reason="PullFailed", message="m"))), (False, "PullFailed")),
        (observed(view(model(ModelPhase.FAILED, reason="DigestMismatch", message="m"))), (False, "DigestMismatch")),
        (observed(view(model(ModelPhase.FAILED, reason="CreateFailed", message="m"))), (False, "CreateFailed")),
        (observed(view(model(ModelPhase.FAILED, reason="FileNotReadable", message="m"))), (False, "FileNotReadable")),
        # An earlier version is present, and the declared one is not.
        (observed(view(model(ModelPhase.PULLING, present=True, serving=False))), (False, "Pulling")),
        (observed(view(model(ModelPhase.PENDING, present=True, serving=False))), (False, "Pulling")),
        (observed(view(model(ModelPhase.LOADING, present=True, serving=False))), (True, "AllPresent")),
        # A model that is present but cannot be loaded is not missing.
        (observed(view(model(ModelPhase.FAILED, reason="LoadFailed", present=True))), (True, "AllPresent")),
    ],
)
def test_status_and_reason(seen: Observation, expected: tuple[bool | None, str]) -> None:
    assert outcome(models_available(endpoint_spec(), seen)) == expected


def test_a_model_that_no_replica_reports_yet_is_missing() -> None:
    condition = models_available(endpoint_spec(**OTHER), observed(view(READY, ready=True)))
    assert outcome(condition) == (False, "Pulling")
    assert condition.message.startswith("other:1b")


def test_the_message_shows_the_slowest_replica() -> None:
    ahead = model(ModelPhase.PULLING, progress_percent=90, message="pulled 9 MB of 10 MB")
    condition = models_available(endpoint_spec(), observed(view(ahead), view(PULLING)))
    assert condition.message == "tiny:latest: pulled 4 MB of 10 MB (40 %)"


def test_the_message_shows_the_speed() -> None:
    pulling = model(ModelPhase.PULLING, progress_percent=40, message="pulled 4 MB of 10 MB", bytes_per_second=1_250_000)
    condition = models_available(endpoint_spec(), observed(view(pulling)))
    assert condition.message == "tiny:latest: pulled 4 MB of 10 MB (40 %, 1.2 MB/s)"
