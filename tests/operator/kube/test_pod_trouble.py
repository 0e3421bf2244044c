"""Why a pod does not run, from its status and from Warning Events."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from llmendpoint_common.contracts.cluster import PodReason
from llmendpoint_operator.kube.pod_trouble import creation_trouble, trouble


class Event(NamedTuple):
    uid: str
    reason: str
    message: str


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p", "uid": "uid-p"}, "status": status}


def container(state: dict[str, Any], last: dict[str, Any] | None = None) -> dict[str, Any]:
    return pod(phase="Pending", containerStatuses=[{"name": "load", "state": state, "lastState": last or {}}])


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


OOM = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
UNSCHEDULABLE = pod(
    conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes."}]
)
CASES = [
    (UNSCHEDULABLE, PodReason.UNSCHEDULABLE, "Pod p cannot be scheduled: 0/1 nodes. Free or add"),
    (pod(reason="Evicted", message="low on disk"), PodReason.EVICTED, "Pod p was evicted: low on disk. Check"),
    (container(waiting("ImagePullBackOff", "no such image")), PodReason.IMAGE_PULL_FAILED,
     "Pod p, container load: ImagePullBackOff: no such image. Check the name of the image"),
    (container(waiting("CreateContainerConfigError", "secret \"a\" not found")), PodReason.CONTAINER_NOT_CREATED,
     "CreateContainerConfigError: secret \"a\" not found. Correct"),
    (container(waiting("CrashLoopBackOff"), {"terminated": {"reason": "Error", "exitCode": 3}}),
     PodReason.CONTAINER_FAILED, "CrashLoopBackOff: it ended with exit code 3. Check the logs"),
    (container(waiting("CrashLoopBackOff", "back-off"), OOM), PodReason.OOM_KILLED, "OOMKilled: it used more memory"),
    (container(OOM), PodReason.OOM_KILLED, "OOMKilled"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "reason", "words"), CASES)
def test_the_status_of_a_pod_says_why_it_does_not_run(body: dict[str, Any], reason: PodReason, words: str) -> None:
    found = trouble(body)
    assert found is not None
    assert found.reason is reason
    assert words in found.message


@pytest.mark.parametrize(
    "body",
    [
        pod(),
        pod(phase="Running"),
        container(waiting("ContainerCreating")),
        container(waiting("PodInitializing")),
        container({"running": {}}, OOM),
    ],
)
def test_a_pod_that_runs_or_starts_has_no_trouble(body: dict[str, Any]) -> None:
    assert trouble(body) is None


MOUNT = Event("uid-p", "FailedMount", 'MountVolume.SetUp failed for volume "api-key": secret "key" not found')


def test_a_mount_that_fails_is_told_by_an_event_alone() -> None:
    creating = container(waiting("ContainerCreating"))
    found = trouble(creating, [Event("uid-p", "Unrelated", "x"), MOUNT])
    assert found is not None
    assert found.reason is PodReason.VOLUME_NOT_MOUNTED
    assert found.message.startswith('Pod p: MountVolume.SetUp failed for volume "api-key": secret "key" not found. Cre')
    assert trouble(creating, [MOUNT._replace(uid="uid-of-another")]) is None
    assert trouble(pod(phase="Running"), [MOUNT]) is None


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('pods "a" is forbidden: exceeded quota: q', PodReason.QUOTA_EXCEEDED),
        ("no PriorityClass with name x was found", PodReason.POD_REFUSED),
    ],
)
def test_a_pod_that_cannot_be_created_is_told_by_an_event_about_its_controller(message: str, reason: PodReason) -> None:
    event = Event("uid-job", "FailedCreate", f"Error creating: {message}")
    found = creation_trouble("Job/smoke", "uid-job", [event])
    assert found is not None
    assert found.reason is reason
    assert f"Job/smoke cannot create its pod: Error creating: {message}. " in found.message
    assert creation_trouble("Job/smoke", "uid-of-an-older-job", [event]) is None
