"""Which claims of an endpoint have to grow, and what the status says about those that grow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from llmendpoint_operator.cluster.warning_events import WarningEvent
from llmendpoint_operator.endpoint.growth import claims_in_use, sentences, too_small
from support.api_server.claims import bound, claim
from support.in_memory.children import OWNER

NAME = "models-assistant-0"


def grown(requested: str, capacity: str, *conditions: dict[str, Any], name: str = NAME) -> dict[str, Any]:
    """Return a claim that has a volume."""
    made = claim(name, "fast", requested)
    metadata = {**made["metadata"], "uid": f"uid-{name}"}
    return {**made, "metadata": metadata, "status": bound(name, capacity, *conditions)["status"]}


def unbound(requested: str) -> dict[str, Any]:
    return {**grown(requested, "0"), "status": {"phase": "Pending"}}


def condition(kind: str, message: str = "", status: str = "True") -> dict[str, Any]:
    return {"type": kind, "status": status, "message": message}


def event(reason: str, message: str, uid: str = f"uid-{NAME}") -> WarningEvent:
    seen = datetime(2026, 1, 1, tzinfo=UTC)
    return WarningEvent("PersistentVolumeClaim", NAME, uid, reason, message, 1, seen, seen)


@pytest.mark.parametrize(
    ("body", "small"),
    [
        (grown("50Gi", "50Gi"), True),
        (grown("80Gi", "50Gi"), False),
        (grown("81920Mi", "50Gi"), False),
        (grown("1Ti", "1Ti"), False),
        # Kubernetes refuses to change the request of a claim without a volume.
        (unbound("50Gi"), False),
    ],
)
def test_only_a_smaller_request_of_a_bound_claim_is_raised(body: dict[str, Any], small: bool) -> None:
    assert too_small([body], "80Gi") == [body] * small


def test_the_claims_of_the_first_replicas_are_in_use() -> None:
    names = [
        "models-assistant-0",
        "models-assistant-10",
        "models-assistant-1",
        "models-assistant-b-0",
        "home-assistant-0",
    ]
    found = claims_in_use(OWNER, [grown("1Gi", "1Gi", name=name) for name in names], 10)
    assert [body["metadata"]["name"] for body in found] == ["models-assistant-0", "models-assistant-1"]


def said(body: dict[str, Any], *warnings: WarningEvent) -> str:
    return " ".join(sentences([body], "80Gi", warnings))


def test_a_claim_that_grows_is_named_until_its_file_system_has_the_size() -> None:
    assert said(grown("80Gi", "50Gi")) == f"PersistentVolumeClaim {NAME} is being resized from 50Gi to 80Gi."
    assert said(grown("80Gi", "80Gi")) == ""
    # Drivers round up.
    assert said(grown("80Gi", "81Gi")) == ""


def test_a_claim_whose_growth_was_refused_is_not_said_to_grow() -> None:
    assert said(grown("50Gi", "50Gi")) == ""


def test_a_claim_without_a_volume_grows_later() -> None:
    assert said(unbound("50Gi")) == (
        f"PersistentVolumeClaim {NAME} has no volume yet. It will be resized to 80Gi when it has one."
    )
    assert said(unbound("80Gi")) == ""


@pytest.mark.parametrize("kind", ["ControllerResizeError", "NodeResizeError"])
def test_the_error_of_a_driver_is_quoted(kind: str) -> None:
    assert said(grown("80Gi", "50Gi", condition(kind, "disk quota exceeded."))).endswith(
        "It fails: disk quota exceeded."
    )
    assert "fails" not in said(grown("80Gi", "50Gi", condition(kind, "before", "False")))


def test_a_warning_event_of_a_driver_is_quoted() -> None:
    failed = event("VolumeResizeFailed", 'resize volume "pvc-1" failed: no space')
    assert said(grown("80Gi", "50Gi"), event("ProvisioningFailed", "x"), failed).endswith(
        'It fails: resize volume "pvc-1" failed: no space.'
    )
    assert "fails" not in said(grown("80Gi", "50Gi"), event("VolumeResizeFailed", "x", "uid-of-another"))


def test_a_file_system_that_is_pending_has_advice() -> None:
    text = said(grown("80Gi", "50Gi", condition("FileSystemResizePending", "waiting")))
    assert "If this does not change, delete the pod assistant-0" in text
