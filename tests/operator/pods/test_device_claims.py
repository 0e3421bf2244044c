"""Pods that wait for claims of dynamic resource allocation: what Kubernetes 1.35 says, and what it does not say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llmendpoint_operator.cluster.warning_events import WarningEvent
from llmendpoint_operator.pods.classify import pod_trouble
from llmendpoint_operator.pods.trouble import Origin, Trouble

CREATED = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
LATER = CREATED + timedelta(minutes=1)
CLAIMING = Origin(claims=("ResourceClaimTemplate one-gpu", "ResourceClaim shared"))
NO_TEMPLATE = WarningEvent(
    "Pod", "assistant-0", "uid-0", "FailedResourceClaimCreation",
    'PodResourceClaim gpu: resource claim template "one-gpu": resourceclaimtemplate.resource.k8s.io "one-gpu" not found',
    1, CREATED, CREATED,
)  # fmt: skip


def classified(
    *events: WarningEvent, origin: Origin = CLAIMING, now: datetime = LATER, conditions: Any = ()
) -> Trouble | None:
    metadata = {"name": "assistant-0", "uid": "uid-0", "creationTimestamp": CREATED.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return pod_trouble({"metadata": metadata, "status": {"conditions": list(conditions)}}, events, origin, now)


def test_a_claim_that_cannot_be_created_is_quoted() -> None:
    trouble = classified(NO_TEMPLATE)
    assert trouble is not None
    # It becomes Stalled if it lasts, like any pod that cannot be scheduled.
    assert (trouble.reason, trouble.since) == ("Unschedulable", CREATED)
    assert 'resource claim template "one-gpu"' in trouble.message
    assert "Create the ResourceClaimTemplate, or correct spec.gpu.resourceClaims." in trouble.message


def test_the_scheduler_says_nothing_about_a_claim_that_does_not_exist() -> None:
    trouble = classified()
    assert trouble is not None
    assert (trouble.reason, trouble.since) == ("Unschedulable", CREATED)
    assert "assistant-0 waits for ResourceClaimTemplate one-gpu, ResourceClaim shared" in trouble.message


@pytest.mark.parametrize(
    "given",
    [
        # The scheduler needs some time.
        {"now": CREATED + timedelta(seconds=5)},
        # A pod without claims that has no condition waits for the scheduler itself.
        {"origin": Origin(gpu="nvidia.com/gpu", gpus=1)},
        {"conditions": [{"type": "PodScheduled", "status": "True"}]},
    ],
)
def test_what_does_not_wait_for_a_claim(given: dict[str, Any]) -> None:
    assert classified(**given) is None


def test_an_event_about_an_earlier_pod_of_the_same_name_does_not_count() -> None:
    before = WarningEvent("Pod", "assistant-0", "uid-1", NO_TEMPLATE.reason, NO_TEMPLATE.message, 1, CREATED, CREATED)
    trouble = classified(before, now=CREATED + timedelta(seconds=5))
    assert trouble is None
